"""`unposed align --to depth`: metres by a network that knows a rendered scene up to smooth errors, and says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from finished import true_model, write_finished
from many_view_networks import hashed_network
from metric_network import METRES, SIDE, MetricNetwork

import unposed
from unposed.cli import main
from unposed.optim.evaluation import rotation_and_centre
from unposed.output import MARK
from unposed.pipeline.errors import ConfigError, InputError
from unposed.pipeline.stage import Resources
from unposed.plugins.metric import da3
from unposed.plugins.metric.da3 import DepthAnything3Metric
from unposed.synthetic.photos import PhotoSet


@pytest.fixture
def out(photo_set: Callable[[str, int, int], PhotoSet], tmp_path: Path) -> Path:
    folder = write_finished(photo_set("easy", 5, 320), tmp_path / "out")
    (folder / MARK).touch()
    return folder


@pytest.fixture
def seeing(photo_set: Callable[[str, int, int], PhotoSet], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """seeing(wrong): settings under which the plugin has such a network."""

    def made(wrong: dict[int, float]) -> dict[str, Any]:
        network = MetricNetwork(photo_set("easy", 5, 320), wrong)
        monkeypatch.setattr(da3, "shared_many_view", lambda *given: network)
        (tmp_path / "da3-metric.safetensors").write_bytes(b"not read here")
        return {"depth.weights": str(tmp_path / "da3-metric.safetensors"), "depth.max_side_px": SIDE}

    return made


def distance(out: Path, first: int = 0, second: int = 4) -> float:
    """Between two cameras of a model."""
    centre = rotation_and_centre(np.asarray(unposed.load(out)[0].cam_from_world))[1]
    return float(np.linalg.norm(centre[first] - centre[second]))


def test_metres_with_their_error(out: Path, seeing: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    before, name = distance(out), unposed.load(out)[0].photo_names[1]
    settings = [f"{key}={value}" for key, value in seeing({1: 3.0}).items()]
    line = ["align", str(out), "--to", "depth", "--device", "cpu"]
    assert main([*line, *(part for each in settings for part in ("--set", each))]) == 0
    shown = capsys.readouterr().out
    assert "metres by depth (metric.da3), give or take" in shown and f"{name}: 7." in shown
    entry = unposed.load(out).summary["models"][0]["scale"]
    ratio = distance(out) / before / METRES
    assert abs(np.log(ratio)) < 0.03 and 0.05 < entry["sigma"] < 0.12
    assert entry["metres_per_unit"] == 1.0 and entry["from"] == "depth (metric.da3)"
    step = unposed.load(out).summary["models"][0]["alignment"]["steps"][0]
    assert list(step["disagree"]) == [name] and step["photos"] == 5
    unposed.align(out, "gravity")
    assert unposed.load(out).summary["models"][0]["scale"] == entry
    unposed.export(out, "splat", tmp_path / "scene", halvings=0)
    frame = json.loads((tmp_path / "scene" / "unposed_frame.json").read_text("utf-8"))
    assert frame["metres"]["metres_per_unit"] == pytest.approx(1.0 / frame["scene_from_reconstruction"]["scale"])
    assert frame["metres"]["sigma"] == entry["sigma"]
    unposed.export(out, "splat", tmp_path / "metric", halvings=0, frame="metric")
    frame = json.loads((tmp_path / "metric" / "unposed_frame.json").read_text("utf-8"))
    assert frame["metres"]["metres_per_unit"] == 1.0
    unposed.align(out, "original")
    assert "scale" not in unposed.load(out).summary["models"][0] and distance(out) == pytest.approx(before)


def test_what_is_better_known_is_kept_and_compared(out: Path, seeing: Any, capsys: pytest.CaptureFixture[str]) -> None:
    names, true_metres = unposed.load(out)[0].photo_names, METRES * distance(out)
    unposed.align(out, "scale", names[0], names[4], 1.02 * true_metres)
    kept = unposed.align(out, "depth", settings=seeing({}), device="cpu")
    assert distance(out) == pytest.approx(1.02 * true_metres)
    assert kept.summary["models"][0]["scale"] == {"metres_per_unit": 1.0, "sigma": None, "from": "scale"}
    assert not kept.warnings
    unposed.align(out, "scale", names[0], names[4], 39.4 * true_metres)  # inches
    settings = [part for key, value in seeing({}).items() for part in ("--set", f"{key}={value}")]
    assert main(["align", str(out), "--to", "depth", "--device", "cpu", *settings]) == 0
    shown = capsys.readouterr().out
    assert "kept, as align --to scale gave it" in shown and "is it in metres?" in shown
    assert distance(out) == pytest.approx(39.4 * true_metres)
    again = unposed.align(out, "depth", settings=seeing({}), device="cpu")
    assert len(again.warnings) == 1
    assert not unposed.align(out, "gravity").unaligned().warnings
    assert not unposed.align(out, "scale", names[0], names[4], true_metres).warnings


def test_photos_that_disagree_give_no_scale(out: Path, seeing: Any) -> None:
    before = distance(out)
    settings = seeing({row: 4.0**row for row in range(5)})
    with pytest.raises(InputError, match=r"disagree about the scale: .* metres per unit"):
        unposed.align(out, "depth", settings=settings, device="cpu")
    with pytest.raises(InputError, match="no photo has 5000 points"):
        unposed.align(out, "depth", settings={**seeing({}), "depth.scale.min_points": 5000}, device="cpu")
    assert distance(out) == before


def test_one_line_where_weights_are_missing(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNPOSED_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setenv("UNPOSED_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ConfigError, match=r"unposed weights get da3-metric.*--set depth\.weights=PATH"):
        unposed.align(out, "depth")
    with pytest.raises(ConfigError, match=r"unposed weights get da3-base.*--set weights=PATH"):
        unposed.dense(out, tmp_path / "dense", method="da3")
    with pytest.raises(ConfigError, match="nonesuch"):
        unposed.align(out, "depth", "nonesuch")


def test_a_network_with_made_up_weights_runs(
    photo_set: Callable[[str, int, int], PhotoSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its nonsense is of the order of one per photo, so that the scale is, too, or there is none."""
    model, photos = true_model(photo_set("easy", 5, 320))
    monkeypatch.setattr(da3, "shared_many_view", lambda *given: hashed_network("da3_tinyM", torch.float32))
    plugin = DepthAnything3Metric(max_side_px=84)
    found = plugin(model, photos, Resources("cpu", 1, 2**30, 0))
    assert 1e-3 < found.metres_per_unit < 1e3 and found.sigma >= plugin.scale.shared_sigma
    assert found.rows.tolist() == [0, 1, 2, 3, 4]
