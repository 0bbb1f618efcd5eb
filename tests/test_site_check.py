"""The check of the built documentation finds what a reader must not meet."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

CHECK = Path(__file__).resolve().parent.parent / ".ci" / "check_site.py"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("<pre><code>import unposed</code></pre><img src='reconstruction.jpg'>", 0),
        ("<script src='https://example.org/a.js'></script>", 1),
        ("<pre><code>--8 &lt; --&quot;examples/a.py&quot;</code></pre>", 1),
        ("<code><span class='o'>--</span><span>8</span> <span>&lt;</span> <span>--</span></code>", 1),
        ("<code>--8&lt;-- &quot;examples/a.py&quot;</code>", 1),
    ],
)
def test_a_page_without_its_example_or_with_foreign_parts_is_refused(body: str, code: int, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(f"<html><body>{body}</body></html>", encoding="utf-8")
    assert runpy.run_path(str(CHECK))["main"](tmp_path) == code
