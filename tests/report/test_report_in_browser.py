"""report.html as someone sees it: opened from the disk in a browser, with every panel looked at."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import Page, browser
from PIL import Image
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


def test_on_a_phone_the_stages_fit_without_a_scroll(tab: Page, reported: Reported) -> None:
    tab.open((reported.folder / "report.html").as_uri(), 390)
    table = "document.querySelector('#run .scroll')"
    assert tab.ask(f"{table}.scrollWidth <= {table}.clientWidth")
    assert tab.ask("[...document.querySelectorAll('#run th')].filter(cell => cell.offsetWidth).length") == 4
    tab.open((reported.folder / "report.html").as_uri(), 1280)
    assert tab.ask("[...document.querySelectorAll('#run th')].filter(cell => cell.offsetWidth).length") == 9


@pytest.mark.parametrize("width", [1280, 1040, 900, 700])
def test_no_column_beside_a_panel_stays_empty(tab: Page, reported: Reported, width: int) -> None:
    tab.open((reported.folder / "report.html").as_uri(), width)
    edges = """[...document.querySelectorAll('main > .panel')].map(panel => { const box = panel.getBoundingClientRect();
    return [Math.round(box.top), Math.round(box.right)]; })"""
    rows: dict[int, int] = {}
    for top, right in tab.ask(edges):
        rows[top] = max(right, rows.get(top, 0))
    assert len(rows) >= 5
    end = tab.ask("document.querySelector('main').getBoundingClientRect().right")
    assert list(rows.values()) == pytest.approx([end] * len(rows), abs=2.0)


def test_every_control_is_reached_by_tab_and_shows_its_focus(tab: Page, reported: Reported) -> None:
    tab.open((reported.folder / "report.html").as_uri())
    wanted = tab.ask("""(() => { const all = [...document.querySelectorAll(
      'a[href], button, select, input, summary, canvas, .scroll[tabindex], pre[tabindex]')];
    all.filter(one => one.checkVisibility()).forEach((one, number) => one.dataset.control = number);
    return all.filter(one => one.checkVisibility()).length; })()""")
    reached, hidden = set(), []
    for _ in range(wanted + 5):
        tab.press("Tab", number=9)
        number, outline, name = tab.ask("""(one => [one.dataset.control, getComputedStyle(one).outlineStyle,
        one.outerHTML.slice(0, 80)])(document.activeElement)""")
        if number is not None:
            reached.add(int(number))
            hidden += [name] if outline == "none" else []
    assert wanted > 20
    assert reached == set(range(wanted))
    assert hidden == []


def test_the_table_is_sorted_and_a_photo_chosen_by_enter(tab: Page, reported: Reported) -> None:
    tab.open((reported.folder / "report.html").as_uri())
    tab.ask("document.querySelector('[data-key=points]').focus()")
    tab.press("Enter", number=13, text="\r")
    found = tab.ask("[...document.querySelectorAll('#photo-table tbody tr')].map(row => +row.dataset.points)")
    assert found == sorted(found, reverse=True) and found[0] > found[-1]
    assert tab.ask("document.activeElement.dataset.key") == "points"  # still there, for the other direction
    tab.ask("document.querySelector('#photo-table td.name button').focus()")
    tab.press("Enter", number=13, text="\r")
    assert tab.ask("document.querySelector('tr.chosen').dataset.points") == str(found[0])
    assert tab.ask("document.getElementById('scene-card').checkVisibility()") is True


def test_keys_go_from_camera_to_camera(tab: Page, reported: Reported) -> None:
    tab.open((reported.folder / "report.html").as_uri())
    tab.ask("document.getElementById('scene-canvas').focus()")
    chosen = "document.querySelector('tr.chosen')?.dataset.index"
    seen = []
    for key, number in (("n", 78), ("n", 78), ("p", 80)):
        tab.press(key, f"Key{key.upper()}", number)
        seen.append(tab.ask(chosen))
    assert seen[0] == seen[2] != seen[1] and None not in seen
    tab.press("Escape", number=27)
    assert tab.ask(chosen) is None


def test_dark_pages_are_printed_on_white_with_the_scene(tab: Page, reported: Reported, tmp_path: Path) -> None:
    if shutil.which("pdftoppm") is None:
        pytest.skip("needs pdftoppm, of poppler-utils")
    tab.open((reported.folder / "report.html").as_uri(), dark=True)
    grey = []
    for size in (1, 6):
        tab.ask(f"document.getElementById('scene-size').value = {size}")
        tab.printed(tmp_path / f"{size}.pdf")
        subprocess.run(["pdftoppm", "-r", "50", "-gray", tmp_path / f"{size}.pdf", tmp_path / f"{size}"], check=True)
        pages = [np.asarray(Image.open(page), float) for page in sorted(tmp_path.glob(f"{size}-*.pgm"))]
        assert len(pages) > 2
        assert min(float(np.median(page)) for page in pages) == 255.0
        grey.append(pages[0].sum() + pages[1].sum())
    assert grey[1] < grey[0] - 255 * 20  # larger points, more ink: the points of the scene are printed


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
