"""Fails if a page of the built documentation would load anything from another host: scripts, styles, fonts, images."""

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


def main(site: Path) -> int:
    """Print every reference to another host; gives the exit code."""
    pages = sorted(page for kind in ("*.html", "*.css") for page in site.rglob(kind))
    found = [(page, hit) for page in pages for hit in LOADS.findall(page.read_text(encoding="utf-8"))]
    for page, hit in found:
        print(f"{page.relative_to(site)}: {hit}", file=sys.stderr)
    print(f"{len(pages)} pages and style sheets, {len(found)} references to other hosts")
    return 1 if found or not pages else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
