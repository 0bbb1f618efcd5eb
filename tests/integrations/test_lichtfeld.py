"""The plugin for LichtFeld Studio, driven by a double of the parts of its API that are used, as its manual has them."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import unposed

FOLDER = Path(__file__).resolve().parents[2] / "integrations" / "lichtfeld"


class Ui:
    """Widgets: notes what is shown, and presses one button."""

    def __init__(self, press: str = "", paths: dict[str, str] | None = None) -> None:
        self.press, self.paths = press, paths or {}
        self.shown: list[str] = []
        self.bars: list[tuple[float, str]] = []

    def heading(self, text: str) -> None:
        self.shown.append(text)

    label = text_disabled = heading

    def path_input(self, label: str, value: str, folder_mode: bool = True, dialog_title: str = "") -> tuple[bool, str]:
        return label in self.paths, self.paths.get(label, value)

    def progress_bar(self, fraction: float, overlay: str) -> None:
        self.bars.append((fraction, overlay))

    def button_styled(self, label: str, style: str) -> bool:
        assert style in ("success", "error", "warning", "primary", "secondary")
        self.shown.append(f"[{label}]")
        return label == self.press


@pytest.fixture
def studio(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The double of the application, with the plugin loaded."""
    lf: Any = ModuleType("lichtfeld")
    lf.ui = SimpleNamespace(Panel=object, PanelSpace=SimpleNamespace(MAIN_PANEL_TAB="tab"))
    lf.registered, lf.opened, lf.warned = [], [], []
    lf.register_class, lf.unregister_class = lf.registered.append, lf.registered.remove
    lf.load_file = lambda path, is_dataset=False: lf.opened.append((path, is_dataset))
    lf.log = SimpleNamespace(warn=lf.warned.append)
    monkeypatch.setitem(sys.modules, "lichtfeld", lf)
    spec = importlib.util.spec_from_file_location(
        "unposed_photos", FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
    )
    assert spec is not None and spec.loader is not None
    plugin = importlib.util.module_from_spec(spec)
    for name in ("unposed_photos", "unposed_photos.panel", "unposed_photos.job"):
        monkeypatch.setitem(sys.modules, name, plugin)
        if "." in name:
            monkeypatch.delitem(sys.modules, name)
    spec.loader.exec_module(plugin)
    plugin.on_load()
    lf.plugin = plugin
    yield lf
    plugin.on_unload()
    assert lf.registered == []


def test_the_manifest_has_what_is_required() -> None:
    manifest = tomllib.loads((FOLDER / "pyproject.toml").read_text())
    assert {"name", "version", "description", "dependencies"} <= manifest["project"].keys()
    assert {"hot_reload", "plugin_api", "lichtfeld_version", "required_features"} == manifest["tool"][
        "lichtfeld"
    ].keys()


def test_photos_are_reconstructed_and_opened(studio: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, go_on = threading.Event(), threading.Event()
    real = unposed.reconstruct

    def reconstruct(*given: Any, **named: Any) -> Any:
        inspect.signature(real).bind(*given, **named)
        progress: unposed.Progress = named["progress"]
        progress.begin("matching", 4, 1)
        progress.advance("matching", failed=False)
        inside.set()
        assert go_on.wait(20)
        assert given == (tmp_path / "walk", tmp_path / "walk-unposed") and named["exports"] == ["lichtfeld"]
        return SimpleNamespace(photos=[0, 1, 2], unregistered={"c.jpg": "no partner"}, warnings=("look at the scale",))

    monkeypatch.setattr(unposed, "reconstruct", reconstruct)
    (panel_class,) = studio.registered
    panel = panel_class()
    panel.draw(Ui("Reconstruct", {"Photos": str(tmp_path / "walk")}))
    assert inside.wait(20)
    busy = Ui()
    panel.draw(busy)
    assert busy.bars == [(0.5, "matching")] and "[Stop]" in busy.shown
    assert panel.on_update(None)
    go_on.set()
    panel._job.wait(20)
    assert panel.on_update(None) and not panel.on_update(None)  # drawn once more when it has ended
    ready = Ui("Open to train")
    panel.draw(ready)
    assert ready.shown[2:5] == ["2 of 3 photos have a camera", "look at the scale", "c.jpg: no partner"]
    assert studio.opened == [(str(tmp_path / "walk-unposed" / "lichtfeld"), True)]


def test_a_run_that_fails_is_one_line(studio: Any, tmp_path: Path) -> None:
    (tmp_path / "walk").mkdir()
    panel = studio.registered[0]()
    panel.draw(Ui("Reconstruct"))
    assert studio.warned == ["unposed: choose a folder of photos first"]
    panel.draw(Ui("Reconstruct", {"Photos": str(tmp_path / "walk")}))
    panel._job.wait(60)
    shown = Ui()
    panel.draw(shown)
    (line,) = [each for each in shown.shown if "walk" in each]
    assert "\n" not in line and "bug" not in line
    assert "[Open to train]" not in shown.shown


def test_each_set_of_photos_has_a_folder_of_its_own(
    studio: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []

    def reconstruct(photos: Path, out: Path, **named: Any) -> Any:
        written.append(out)
        return SimpleNamespace(photos=[0], unregistered={}, warnings=())

    monkeypatch.setattr(unposed, "reconstruct", reconstruct)
    panel = studio.registered[0]()
    for photos in (tmp_path / "walk", tmp_path / "ride", Path("/")):
        panel.draw(Ui("Reconstruct", {"Photos": str(photos)}))
        panel._job.wait(20)
    panel.draw(Ui("Reconstruct", {"Result": str(tmp_path / "chosen")}))
    panel._job.wait(20)
    assert written == [tmp_path / "walk-unposed", tmp_path / "ride-unposed", Path("/-unposed"), tmp_path / "chosen"]


def test_a_plugin_that_is_unloaded_stops_its_run(studio: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def reconstruct(*given: Any, cancellation: Any, **named: Any) -> Any:
        for _ in range(2000):
            cancellation.check()
            threading.Event().wait(0.01)

    monkeypatch.setattr(unposed, "reconstruct", reconstruct)
    panel = studio.registered[0]()
    panel.draw(Ui("Reconstruct", {"Photos": str(tmp_path)}))
    studio.registered[0].stop_all()
    panel._job.wait(20)
    assert not panel._job.running
    (line,) = panel._job.lines
    assert line.startswith("interrupted") and panel._job.dataset is None
