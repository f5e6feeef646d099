"""A hook of MkDocs: a comment like `<!-- naf upsample -->` becomes what the verb says of itself.

The text comes from the functions behind the command line, so it cannot differ from `naf upsample --help`.
"""

from __future__ import annotations

import inspect
import logging
import re
import typing
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, Literal

import typer

log = logging.getLogger("mkdocs.hooks.commands")

MARKER = re.compile(r"^<!-- naf ([\w -]+?) -->$", re.MULTILINE)
_WORDS: dict[object, str] = {int: "NUMBER", float: "NUMBER", Path: "PATH", str: "TEXT"}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in the verbs that a page names; a page that names one must name them all."""
    named = MARKER.findall(markdown)
    if not named:
        return markdown
    functions = dict(verbs())
    for name in sorted(set(named) ^ set(functions)):
        log.warning("command line page: %s %r", "there is no verb" if name in named else "nothing is said of", name)
    return MARKER.sub(lambda match: describe(match[1], functions[match[1]]) if match[1] in functions else "", markdown)


def verbs() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Name ("upsample", "bench quick") and function of each verb, in the order of `naf --help`."""
    from naf.cli import app

    yield from _verbs(app, "")


def _verbs(app: typer.Typer, prefix: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    for command in app.registered_commands:
        assert command.callback is not None
        yield f"{prefix}{command.name or command.callback.__name__.replace('_', '-')}", command.callback
    for group in app.registered_groups:
        assert group.typer_instance is not None
        yield from _verbs(group.typer_instance, f"{prefix}{group.name} ")


def describe(name: str, function: Callable[..., Any]) -> str:
    """Usage, description and options of a verb, in Markdown."""
    arguments: list[tuple[inspect.Parameter, Any, Any]] = []
    options: list[tuple[inspect.Parameter, Any, Any]] = []
    hints = typing.get_type_hints(function, include_extras=True)
    for parameter in inspect.signature(function).parameters.values():
        kind, info = _unwrap(hints[parameter.name])
        (arguments if isinstance(info, typer.models.ArgumentInfo) else options).append((parameter, kind, info))
    usage = [f"naf {name}", *("[OPTIONS]" if options else "",), *(_placeholder(*each) for each in arguments)]
    rows = [(_placeholder(*each), each[2].help or "") for each in arguments]
    rows += [_option_row(*each) for each in options]
    table = ["| | |", "| --- | --- |", *(f"| {term} | {_cell(text)} |" for term, text in rows)] if rows else []
    text = inspect.cleandoc(function.__doc__ or "")
    head = ["```{.text .usage}", " ".join(filter(None, usage)), "```", "", _words(text), ""]
    return "\n".join([*head, '<div class="options" markdown>', "", *table, "", "</div>", ""])


def _unwrap(hint: Any) -> tuple[Any, Any]:
    """The type of a parameter and Typer's record of it."""
    kind, *extras = typing.get_args(hint) if typing.get_origin(hint) is typing.Annotated else (hint,)
    info = next((extra for extra in extras if isinstance(extra, typer.models.ParameterInfo)), typer.Option())
    if typing.get_origin(kind) in (UnionType, typing.Union):
        kind = next(each for each in typing.get_args(kind) if each is not type(None))
    return kind, info


def _placeholder(parameter: inspect.Parameter, kind: Any, info: Any) -> str:
    """An argument as `--help` writes it: PHOTO, PHOTOS..., [OVERRIDES]..."""
    word = info.metavar or parameter.name.upper()
    word = word if parameter.default is inspect.Parameter.empty else f"[{word}]"
    return f"{word}..." if typing.get_origin(kind) is list else word


def _option_row(parameter: inspect.Parameter, kind: Any, info: Any) -> tuple[str, str]:
    # In Annotated, Typer takes the first name of an option for its default and puts that right later.
    stated = [each for each in (info.default, *(info.param_decls or ())) if isinstance(each, str) and each[:1] == "-"]
    flags = [flag for each in stated for flag in each.split("/")] or [f"--{_dashed(parameter.name)}"]
    if kind is bool and not stated:
        flags.append(f"--no-{_dashed(parameter.name)}")
    repeats = typing.get_origin(kind) is list
    if repeats:
        (kind,) = typing.get_args(kind)
    value = "" if kind is bool else f" {info.metavar or _values(kind)}"
    help_text = (info.help or "").rstrip()
    default = parameter.default
    if default not in (None, inspect.Parameter.empty, "", False) and info.show_default:
        default = default.value if isinstance(default, Enum) else default
        help_text += f" Default: `{default}`."
    elif default is inspect.Parameter.empty:
        help_text += " Must be given."
    return ", ".join(f"`{flag}`" for flag in flags) + value, help_text


def _values(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, Enum):
        return " \\| ".join(member.value for member in kind)
    if typing.get_origin(kind) is Literal:
        return " \\| ".join(map(str, typing.get_args(kind)))
    return _WORDS.get(kind, "VALUE")


def _dashed(name: str) -> str:
    return name.strip("_").replace("_", "-")


def _words(text: str) -> str:
    """Help text as Markdown: options as code, nothing read as HTML."""
    parts = re.split(r"(`[^`]*`)", text.replace("<", "&lt;"))
    parts[::2] = [re.sub(r"(?<![\w-])(--[a-z][\w-]*)", r"`\1`", part) for part in parts[::2]]
    return "".join(parts)


def _cell(text: str) -> str:
    return _words(" ".join(text.split())).replace("|", "\\|")
