"""A network that calibrates single photos is a plugin like any other: it is wired by its node's name alone."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from unposed.pipeline.artifacts import CameraPriors, PairMatches, Photo, PhotoCalibration, SparseModels
from unposed.pipeline.engine import Run, run
from unposed.pipeline.graph import build_graph
from unposed.pipeline.registry import GROUP, Registry
from unposed.pipeline.slots import Calibrator
from unposed.pipeline.stage import Grain, PerPair
from unposed.pipeline.store.store import Store
from unposed.plugins.cameras.exif import ExifCameras

FOUR = ("a.jpg", "b.jpg", "c.jpg", "d.jpg")


@dataclass(frozen=True)
class Guesser:
    """Says the same of every photo, as a network would after a look at its pixels."""

    grain: ClassVar[Literal[Grain.PHOTO]] = Grain.PHOTO
    version: ClassVar[int] = 1
    focal_px: float = 33.0
    log_sigma: float = 0.1

    def __call__(self, photos: Photo) -> PhotoCalibration:
        return PhotoCalibration(self.focal_px, self.log_sigma)


_: Calibrator = Guesser()


@dataclass(frozen=True)
class FocalTeller:
    """A mapper that says which focal lengths it was given."""

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION

    def __call__(self, matching: PerPair[PairMatches], cameras: CameraPriors) -> SparseModels:
        return SparseModels((), {}, (f"{cameras.cameras[0].params[0]:.0f} {cameras.guess_log_sigma}",))


def warnings_of(toys: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, **nodes: Any) -> tuple[str, ...]:
    classes = {"calibration.guesser": Guesser, "coarse.teller": FocalTeller, "cameras.exif": ExifCameras}
    for cls in classes.values():
        monkeypatch.setattr(toys, cls.__name__, cls, raising=False)
    entries = [EntryPoint(name, f"{toys.MODULE}:{cls.__name__}", GROUP) for name, cls in classes.items()]
    own = Registry([*entries, *(EntryPoint(*each[:2], GROUP) for each in toys.registry()._entries)])
    preset = {name: node for name, node in toys.PRESET.items() if name != "fine"}
    preset |= {"coarse": {"use": "teller"}, "cameras": {"use": "exif"}, **nodes}
    with Store(folder / "cache") as store:
        done: Run = run(build_graph(preset, own), toys.photos(*FOUR), store, resources=toys.resources())
    assert done.sparse is not None
    return done.sparse.warnings


def test_a_node_called_calibration_is_read_by_cameras(
    toys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert warnings_of(toys, tmp_path, monkeypatch) == ("48 None",)
    told = warnings_of(toys, tmp_path, monkeypatch, calibration={"use": "guesser"})
    assert told == ("33 [0.1]",)


@pytest.mark.parametrize(("option", "line"), [({"focal_px": -1.0}, "focal_px"), ({"log_sigma": 0.0}, "log_sigma")])
def test_without_what_a_network_must_not_give_the_run_goes_on(
    toys: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    option: dict[str, float],
    line: str,
) -> None:
    assert warnings_of(toys, tmp_path, monkeypatch, calibration={"use": "guesser", **option}) == ("48 None",)
    assert f"calibration.guesser gives what it must not: {line} is not positive" in capfd.readouterr().err
