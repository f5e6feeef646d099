"""A hook of MkDocs: names of the interface become links, and links to files outside the site are dropped.

Pages stay plain Markdown that reads well in the repository, too.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig

log = logging.getLogger("mkdocs.hooks.links")

_OUTSIDE = re.compile(r"(?<!!)\[([^\]]+)\]\(((?:\.\./)+)([^)#]+)(#[^)]*)?\)")
_NAME = re.compile(r"<code>(naf(?:\.\w+)+)((?:\([^<]*\))?)</code>")
_PICTURE = re.compile(r'<img [^>]*src="([^"]+)"[^>]*>')
_KEEP = re.compile(r"(<pre\b.*?</pre>|<a\b.*?</a>|<autoref\b.*?</autoref>|<h[1-6]\b.*?</h[1-6]>)", re.DOTALL)


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, **_: Any) -> str:
    """Links to files of the repository that are no pages: to the repository where it is known, else plain text."""
    source = Path(config.docs_dir) / page.file.src_uri

    def resolve(match: re.Match[str]) -> str:
        text, up, path, anchor = match[1], match[2], match[3], match[4] or ""
        target = (source.parent / up / path).resolve()
        if target.is_relative_to(config.docs_dir):
            return match[0]
        root = Path(config.config_file_path).parent
        if not target.exists() or not target.is_relative_to(root):
            log.warning("%s: link to %s%s, which is not there", page.file.src_uri, up, path)
        if not config.repo_url:
            return text
        return f"[{text}]({config.repo_url.rstrip('/')}/blob/main/{target.relative_to(root)}{anchor})"

    return _OUTSIDE.sub(resolve, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Names of the interface in running text lead to their place in the reference, pictures to their files."""
    parts = _KEEP.split(html)
    for index in range(0, len(parts), 2):
        text = _NAME.sub(r'<autoref identifier="\1" optional><code>\1\2</code></autoref>', parts[index])
        parts[index] = _PICTURE.sub(r'<a class="picture" href="\1">\g<0></a>', text)
    return "".join(parts)
