"""The presets mast3r and dust3r from photos to the end, with the smallest networks of the published layouts. These are
not trained, so what they match is nonsense; that every stage does its part is what is seen here."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unposed
from unposed.cli import main
from unposed.pipeline.errors import ConfigError, NoReconstruction
from unposed.pipeline.weights.catalogue import entry
from unposed.run_setup import NETWORKS, chosen_preset, preset_worth_a_try
from unposed.synthetic.photos import PhotoSet

PHOTOS = 4


@pytest.fixture(scope="module")
def photos(photo_set: Callable[[str, int, int], PhotoSet]) -> Path:
    return photo_set("easy", PHOTOS, 192).images


@pytest.fixture
def mast3r(reference: Callable[[str], Path]) -> dict[str, Any]:
    return {
        "tokens.weights": str(reference("fixtures/tiny_mast3r.pth")),  # which the matching takes, too
        "appearance.weights": str(reference("fixtures/tiny_retrieval_trainingfree.pth")),
        "retrieval.codebook": str(reference("fixtures/tiny_retrieval_codebook.pkl")),
    }


@pytest.fixture
def dust3r(reference: Callable[[str], Path]) -> dict[str, Any]:
    return {"tokens.weights": str(reference("fixtures/tiny_dust3r.pth")), "matching.max_gap": 1.0}


@pytest.mark.parametrize("preset", ["mast3r", "dust3r"])
def test_whole_preset(preset: str, photos: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    settings = request.getfixturevalue(preset)
    out = tmp_path / "out"
    try:
        unposed.reconstruct(photos, out, preset=preset, settings=settings, cache=tmp_path / "cache")
    except NoReconstruction as error:
        assert "none of the 4 photos could be registered" in str(error)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["failure"] is None
    stages = summary["stages"]
    assert not any(stage["failed"] or stage["dropped"] for stage in stages.values())
    second_helpings = ("more_", "closer_", "matching over ")
    assert all(stage["computed"] for name, stage in stages.items() if not name.startswith(second_helpings))
    assert stages["tokens"]["computed"] == PHOTOS
    assert stages["matching"]["computed"] == PHOTOS * (PHOTOS - 1) // 2
    assert summary["weights"].keys() >= {"tokens.weights", "matching.weights"}


@pytest.mark.parametrize("preset", ["mast3r", "dust3r"])
def test_without_weights_one_line_says_what_to_do(
    preset: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UNPOSED_WEIGHTS", str(tmp_path / "nothing"))
    monkeypatch.setenv("UNPOSED_CACHE", str(tmp_path / "cache"))
    assert main(["reconstruct", str(photos), "-o", str(tmp_path / "out"), "--preset", preset]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert ".weights: no " in said
    assert f"unposed weights get {preset}` (CC BY-NC-SA 4.0)" in said


def test_two_photos_with_depth(photos: Path, mast3r: dict[str, Any], tmp_path: Path) -> None:
    """Nothing but the network is needed, and depth is kept finer than that of one pair among many."""
    one, other = sorted(photos.iterdir())[:2]
    network = {"tokens.weights": mast3r["tokens.weights"]}
    out = tmp_path / "out"
    with suppress(NoReconstruction):  # untrained, it may find anything
        unposed.pairwise(one, other, out, preset="mast3r", settings=network, cache=tmp_path / "cache")
    assert json.loads((out / "pair.json").read_text())["matches"] > 10
    for name in ("depth-a.npz", "depth-b.npz"):
        with np.load(out / name) as depth:
            assert depth["depth"].shape == depth["confidence"].shape == (16, 32)
            assert depth["step_px"] == pytest.approx(2 * 192 / 64, rel=0.05)
            assert depth["focal_px"] > 0


def test_a_network_that_cannot_do_it_ends_the_run_in_one_line(
    photos: Path, mast3r: dict[str, Any], dust3r: dict[str, Any], tmp_path: Path
) -> None:
    def run(**weights: str) -> None:
        unposed.reconstruct(photos, preset="mast3r", settings={**mast3r, **weights}, cache=tmp_path / "cache")

    with pytest.raises(ConfigError, match="without descriptors: match with dust3r"):
        run(**{"tokens.weights": dust3r["tokens.weights"]})
    with pytest.raises(ConfigError, match="the tokens come from other weights"):
        run(**{"matching.weights": mast3r["tokens.weights"], "tokens.weights": dust3r["tokens.weights"]})


def test_auto_stays_with_what_was_judged_and_knows_what_else_could_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNPOSED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("UNPOSED_WEIGHTS", str(tmp_path))
    assert preset_worth_a_try("cuda") is None
    assert {name: unposed.missing_weights(name) for name in NETWORKS} == NETWORKS
    for name in NETWORKS["mast3r"]:
        assert preset_worth_a_try("cuda") is None
        (tmp_path / entry(name).file).touch()
    assert preset_worth_a_try("cuda") == "mast3r"
    assert preset_worth_a_try("cpu") is None
    (tmp_path / entry("da3-base").file).touch()  # which may be used for any purpose
    assert preset_worth_a_try("cuda") == preset_worth_a_try("cpu") == "da3"
    assert chosen_preset("auto") == "classic"
    assert chosen_preset("aliked") == "aliked"
