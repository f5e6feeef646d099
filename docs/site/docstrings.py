"""An extension of griffe: Sphinx's roles in docstrings become links of the site, and results keep their types."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Function, Module, NameResolutionError, Object

_ROLE = re.compile(r":(?:meth|func|class|mod|attr|obj|data|exc):`([~!]?)([\w.]+)`")
_EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)
_RETURNS = re.compile(r"^Returns:\n( +)", re.MULTILINE)


class Roles(Extension):
    """:meth:`forward` in a docstring of a class leads to that method, and so on."""

    def on_package(self, *, pkg: Module, **_: Any) -> None:
        """All is loaded: names can be looked up."""
        self._visit(pkg)

    def _visit(self, thing: Object) -> None:
        if thing.docstring is not None:
            text = _ROLE.sub(lambda match: self._link(match, thing), thing.docstring.value)
            if isinstance(thing, Function) and thing.returns is not None:
                # What stands before the first colon would be taken for the type.
                text = _RETURNS.sub(lambda match: f"Returns:\n{match[1]}{thing.returns}: ", text)
            thing.docstring.value = _EXAMPLE.sub("Examples:", text)
        for member in thing.members.values():
            if not member.is_alias and isinstance(member, Object):
                self._visit(member)

    def _link(self, match: re.Match[str], scope: Object) -> str:
        mark, name = match.groups()
        shown = name.rpartition(".")[2] if mark == "~" else name
        return f'<autoref identifier="{_path(name, scope)}" optional><code>{shown}</code></autoref>'


def _path(name: str, scope: Object) -> str:
    """The whole name of something that a docstring calls by the short one."""
    first, _, rest = name.partition(".")
    if first in ("naf", "torch"):
        return name
    try:
        return scope.resolve(first) + (f".{rest}" if rest else "")
    except NameResolutionError:
        return name
