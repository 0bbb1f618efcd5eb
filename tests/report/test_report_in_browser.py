"""report.html as someone sees it: opened from the disk in a browser, with every panel looked at."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browser import Page, browser
from reported_run import Reported

INK = """(() => { const canvas = document.getElementById('scene-canvas'), pen = canvas.getContext('2d');
const data = new Uint32Array(pen.getImageData(0, 0, canvas.width, canvas.height).data.buffer);
return data.reduce((sum, pixel) => sum + (pixel !== 0), 0); })()"""
"""How many pixels of the scene are drawn."""
FRAME = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    with browser() as page:
        yield page


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
def test_opens_without_network_and_without_errors(tab: Page, reported: Reported, dark: bool, width: int) -> None:
    tab.requests.clear(), tab.errors.clear()
    tab.open((reported.folder / "report.html").as_uri(), width, dark=dark)
    assert tab.requests == [(reported.folder / "report.html").as_uri()]
    assert tab.errors == []
    assert tab.ask("window.hurt") is None
    assert tab.ask("document.documentElement.scrollWidth") <= width  # nothing sticks out
    heights = tab.ask("[...document.querySelectorAll('section.panel')].map(panel => panel.offsetHeight)")
    assert len(heights) == 9 and min(heights) > 100
    broken = "[...document.images].filter(image => image.src && !image.naturalWidth).length"
    assert tab.ask(broken) == 0
    ground = tab.ask("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(18, 21, 27)") == dark


def test_the_scene_needs_no_webgl_and_turns(tab: Page, reported: Reported) -> None:
    tab.open((reported.folder / "report.html").as_uri())
    assert tab.ask("document.documentElement.outerHTML.includes('webgl')") is False
    drawn = tab.ask(INK)
    assert drawn > 5000
    assert float(tab.ask("document.getElementById('scene-canvas').dataset.frameMs")) < 1000
    tab.ask("document.getElementById('scene-canvas').dispatchEvent(new KeyboardEvent('keydown', {key: '-'}))")
    tab.ask(FRAME)
    assert 0 < tab.ask(INK) < drawn  # from farther away
    tab.ask("document.getElementById('scene-reset').click()")
    tab.ask(FRAME)
    assert tab.ask(INK) == drawn


def test_the_table_is_sorted_and_filtered(tab: Page, reported: Reported) -> None:
    tab.open((reported.folder / "report.html").as_uri())
    points = "[...document.querySelectorAll('#photo-table tbody tr')].map(row => +row.dataset.points)"
    tab.ask("document.querySelector('[data-key=points]').click()")
    found = tab.ask(points)
    assert found == sorted(found, reverse=True) and found[0] > 100
    tab.ask("document.querySelector('[data-key=points]').click()")
    assert tab.ask(points) == found[::-1]
    assert tab.ask("document.querySelector('[data-key=points]').closest('th').ariaSort") == "ascending"
    shown = "[...document.querySelectorAll('#photo-table tbody tr:not([hidden])')].map(row => row.dataset.name)"
    tab.ask("filter = document.getElementById('photo-filter'); filter.value = 'NOISE';"
            "filter.dispatchEvent(new Event('input'))")  # fmt: skip
    assert tab.ask(shown) == ["noise.png"]
    tab.ask("filter.value = ''; show = document.getElementById('photo-status'); show.value = 'lost';"
            "show.dispatchEvent(new Event('change'))")  # fmt: skip
    assert sorted(tab.ask(shown)) == ["<b>torn.jpg", "noise.png"]


def test_a_photo_that_is_clicked_shows_itself_in_the_scene(tab: Page, reported: Reported) -> None:
    tab.open((reported.folder / "report.html").as_uri())
    tab.ask("document.querySelector('#ground [data-photo]').dispatchEvent(new MouseEvent('click', {bubbles: true}))")
    tab.ask(FRAME)
    card = tab.ask("document.getElementById('scene-card').innerText")
    assert "points, error" in card and "partners" in card
    assert tab.ask("document.querySelectorAll('#scene-card img').length") == 1
    assert tab.ask("document.querySelectorAll('tr.chosen').length") == 1
    assert tab.ask("window.hurt") is None


def test_light_and_dark_can_be_switched(tab: Page, reported: Reported) -> None:
    tab.open((reported.folder / "report.html").as_uri())
    grounds = []
    for _ in range(2):
        tab.ask("document.getElementById('theme').click()")
        grounds.append(tab.ask("getComputedStyle(document.body).backgroundColor"))
    assert grounds == ["rgb(18, 21, 27)", "rgb(247, 246, 243)"]
