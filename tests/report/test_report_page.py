"""report.html as a file: what it holds, what strangers' names cannot do to it, and when there is none."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from reported_run import HOSTILE, Reported

import unposed

PANELS = ["scene", "photos", "ground", "graph", "matrix", "pairs", "quality", "cameras", "run"]


class Outline(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def text(reported: Reported) -> str:
    return (reported.folder / "report.html").read_text(encoding="utf-8")


def test_has_every_panel_and_every_photo(reported: Reported, text: str) -> None:
    outline = Outline(text)
    assert [given["id"] for tag, given in outline.tags if tag == "section" and "id" in given] == PANELS
    rows = [given["data-name"] for tag, given in outline.tags if tag == "tr" and "data-name" in given]
    assert rows == sorted(reported.made.summary["photos"])
    assert len(rows) == 14
    assert "12 of 14 photos are registered." in text


def test_is_small_and_asks_for_nothing(text: str) -> None:
    assert len(text) < 1_500_000
    links = [value or "" for _, given in Outline(text).tags for name, value in given.items() if name in ("src", "href")]
    assert len(links) > 20
    assert [link[:40] for link in links if not link.startswith(("data:", "#"))] == []
    assert not re.search(r"""(url\(|@import|fetch\(|XMLHttpRequest|WebSocket|import\()""", text)


def test_names_are_text_and_nothing_else(text: str) -> None:
    outline = Outline(text)
    names = [given["data-name"] or "" for tag, given in outline.tags if tag == "tr" and "data-name" in given]
    assert {f"{start}/script>.jpg" for start in HOSTILE} <= set(names)
    assert [given for tag, given in outline.tags if tag == "script" and given.get("type") is None] == [{}]
    assert not any(name.startswith("on") for _, given in outline.tags for name in given)
    assert not any(tag == "b" and not given and "torn" in text for tag, given in outline.tags if tag == "torn.jpg")
    assert "49" not in {each.strip() for each in outline.text}
    assert "<b>torn" not in text and "<script>window" not in text


def test_names_what_is_not_registered_and_what_to_do(text: str) -> None:
    words = " ".join(Outline(text).text)
    assert "noise.png is not registered" in words
    assert "<b>torn.jpg is not registered: not read" in words
    assert "--preset fast" in words


def test_draws_the_overview(reported: Reported) -> None:
    with Image.open(reported.folder / "overview.jpg") as picture:
        assert picture.size == (1440, 720)
        colours = picture.convert("RGB").getcolors(1 << 21)
    assert colours is not None and len(colours) > 100


def test_the_same_run_gives_the_same_bytes(reported: Reported, tmp_path: Path) -> None:
    kept = re.compile(r"wall_s|\d+\.\d s|finished|20\d\d-\d\d-\d\d|/out\b|-o \S+|\d MB|width:[\d.]+%|stored before")
    texts = []
    for name in ("a", "b"):
        unposed.reconstruct(reported.photos, tmp_path / name / "out", preset="fast", cache=reported.cache)
        text = (tmp_path / name / "out" / "report.html").read_text(encoding="utf-8")
        texts.append([line for line in text.splitlines() if not kept.search(line)])
    assert len(texts[0]) > 200
    assert texts[0] == texts[1]
