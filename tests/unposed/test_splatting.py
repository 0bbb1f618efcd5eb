"""`unposed splat`: files that viewers read, scores, resuming, and one clear line where it cannot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from finished import write_finished
from PIL import Image

import unposed
from unposed.cli import main
from unposed.errors import ConfigError, InputError
from unposed.settings import options_of
from unposed.splatting import SPLAT_ROW
from unposed.synthetic.photos import PhotoSet

SMALL = ("training.max_side_px=64", "training.steps=30", "training.seeds=800")


@pytest.fixture(scope="module")
def written(photo_set: Callable[[str, int, int], PhotoSet], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run in `out`, dense points in `dense` and a splat in `splat`."""
    folder = tmp_path_factory.mktemp("splat")
    write_finished(photo_set("easy", 5, 320), folder / "out")
    unposed.dense(folder / "out", folder / "dense", settings={"max_side_px": 160, "points": 3000}, device="cpu")
    line = ["splat", str(folder / "out"), "-o", str(folder / "splat"), "--seeds", str(folder / "dense"), "--quiet"]
    assert main([*line, "--device", "cpu", *(part for each in SMALL for part in ("--set", each))]) == 0
    return folder


def test_files_are_those_of_viewers(written: Path) -> None:
    head, _, body = (written / "splat" / "splat.ply").read_bytes().partition(b"end_header\n")
    names = [line.split()[-1] for line in head.decode("ascii").splitlines() if line.startswith("property float")]
    assert names[:9] == ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
    assert names[-8:] == ["opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    rows = np.frombuffer(body, "<f4").reshape(-1, len(names))
    np.testing.assert_allclose(np.linalg.norm(rows[:, -4:], axis=1), 1.0, atol=1e-5)
    short = np.frombuffer((written / "splat" / "scene.splat").read_bytes(), SPLAT_ROW)
    assert len(short) == len(rows)
    assert sorted(short["mean"][:, 0].tolist()) == sorted(rows[:, 0].tolist())


def test_scores_are_those_of_the_photo_held_out(written: Path) -> None:
    scores = json.loads((written / "splat" / "scores.json").read_text("utf-8"))
    (only,) = scores["held_out"]
    assert scores["psnr"] == pytest.approx(only["psnr"], abs=1e-4)
    assert only["psnr"] > 15
    with Image.open((written / "splat" / "held-out" / only["name"]).with_suffix(".png")) as image:
        assert image.width == 128


def test_a_finished_training_is_not_repeated_and_another_refused(written: Path) -> None:
    before = (written / "splat" / "state.npz").stat().st_mtime_ns
    again = unposed.splat(written / "out", written / "splat", seeds=written / "dense", settings=SMALL, device="cpu")
    assert (written / "splat" / "state.npz").stat().st_mtime_ns == before
    assert len(again.gaussians) > 500
    with pytest.raises(InputError, match="holds another training: give a new folder"):
        unposed.splat(written / "out", written / "splat", seeds=written / "dense", settings=SMALL[:2], device="cpu")
    with pytest.raises(InputError, match="is not empty, and holds no training"):
        unposed.splat(written / "out", written / "dense", device="cpu")


def test_a_gpu_is_asked_for_where_there_is_none(written: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"splat.gsplat needs an NVIDIA GPU: use --method cpu"):
        unposed.splat(written / "out", tmp_path / "gpu", method="gsplat", seeds=written / "dense", device="cpu")


def test_dotted_settings_reach_options_of_options(written: Path, tmp_path: Path) -> None:
    assert options_of(["a.b.c=1", "a.d=x", "e=true"]) == {"a": {"b": {"c": 1}, "d": "x"}, "e": True}
    with pytest.raises(ConfigError, match=r"a\.b: a is set as a whole, too"):
        options_of(["a=1", "a.b=2"])
    with pytest.raises(ConfigError, match=r"training\.steps: expected int in \[1, inf\), got 0"):
        unposed.splat(written / "out", tmp_path / "none", settings=["training.steps=0"])
