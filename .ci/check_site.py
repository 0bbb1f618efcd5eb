"""Fails if a page of the built documentation would load anything from another host (scripts, styles, fonts, images), or
shows the line that an example should stand for."""

from __future__ import annotations

import re
import sys
from pathlib import Path

LOADS = re.compile(
    r"""<(?:script|img|iframe|source|video|audio)\b[^>]*\bsrc\s*=\s*["']?(?:https?:)?//[^\s"'>]+"""
    r"""|<link\b(?=[^>]*\brel=["']?(?:stylesheet|preconnect|preload|icon))[^>]*\bhref\s*=\s*["']?(?:https?:)?//[^\s"'>]+"""
    r"""|@import\s+(?:url\()?["']?(?:https?:)?//[^\s"')]+"""
    r"""|url\(\s*["']?(?:https?:)?//[^\s"')]+""",
    re.IGNORECASE,
)

NOT_INCLUDED = re.compile(r"--8 ?(?:&lt;|<) ?--")
"""What the extension for examples replaces; a formatter that took it for code has put blanks into it."""


def main(site: Path) -> int:
    """Print every reference to another host, and every example that is not there; gives the exit code."""
    pages = sorted(page for kind in ("*.html", "*.css") for page in site.rglob(kind))
    texts = [(page, re.sub(r"</?span[^>]*>", "", page.read_text(encoding="utf-8"))) for page in pages]  # of colours
    found = [(page, hit) for page, text in texts for kind in (LOADS, NOT_INCLUDED) for hit in kind.findall(text)]
    for page, hit in found:
        print(f"{page.relative_to(site)}: {hit}", file=sys.stderr)
    print(f"{len(pages)} pages and style sheets, {len(found)} references to other hosts or examples not included")
    return 1 if found or not pages else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
