"""The classic preset end to end: the bundled sample, what is computed again when something changes, same bytes."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import unposed
from unposed.cli import main
from unposed.reconstruction import Reconstruction
from unposed.synthetic.photos import PhotoSet

MODEL_FILES = ("cameras.bin", "frames.bin", "images.bin", "points3D.bin", "rigs.bin")


def computed(made: Reconstruction) -> Mapping[str, int]:
    """How many items each node computed in this run, those that computed any."""
    return {name: stage["computed"] for name, stage in made.summary["stages"].items() if stage["computed"]}


def model_bytes(out: Path) -> bytes:
    return b"".join((out / "sparse" / "0" / name).read_bytes() for name in MODEL_FILES)


@pytest.fixture(scope="module")
def first(yard: PhotoSet, tmp_path_factory: pytest.TempPathFactory) -> tuple[Reconstruction, Path]:
    """Twelve photos reconstructed by one worker, and the cache that this has filled."""
    folder = tmp_path_factory.mktemp("first")
    return unposed.reconstruct(yard.images, folder / "out", workers=1, cache=folder / "cache"), folder / "cache"


@pytest.fixture
def own_cache(first: tuple[Reconstruction, Path], tmp_path: Path) -> Path:
    """A copy of that cache, to be changed."""
    return Path(shutil.copytree(first[1], tmp_path / "cache"))


@pytest.mark.slow
def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "-o", str(tmp_path / "out"), "--cache", str(tmp_path / "cache"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["summary"]["preset"] == "classic"
    assert said["evaluation"]["registered"] == said["evaluation"]["total"] == 20
    assert said["evaluation"]["AUC"]["1"] > 0.9
    assert said["evaluation"]["ate_rmse_rel"] < 1e-3

    assert main(["demo", "-o", str(tmp_path / "out"), "--cache", str(tmp_path / "cache"), "--quiet"]) == 0
    printed = capsys.readouterr().out
    assert "chosen by auto" in printed
    assert "were there from an earlier run" in printed
    assert "registered 20 of 20 photos" in printed
    assert "measured against the true cameras" in printed


def test_all_photos_are_placed_well(first: tuple[Reconstruction, Path], yard: PhotoSet) -> None:
    made, _ = first
    assert made.summary["registered"] == 12
    assert made.folder is not None
    verdict = unposed.evaluate(made.folder, yard.truth)
    auc = verdict.errors.auc[3]
    assert auc is not None and auc > 0.9


def test_the_second_run_computes_nothing(yard: PhotoSet, own_cache: Path, tmp_path: Path) -> None:
    assert computed(unposed.reconstruct(yard.images, tmp_path / "out", cache=own_cache)) == {}


def test_another_mapping_option_computes_mapping_alone(yard: PhotoSet, own_cache: Path) -> None:
    again = unposed.reconstruct(yard.images, cache=own_cache, settings={"fine.rounds": 2})
    assert computed(again) == {"fine": 1}


def test_one_more_photo_computes_that_photo_and_its_pairs(yard: PhotoSet, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in (0, 1, 2, 4, 5, 6):
        shutil.copy(yard.images / f"000{number}.jpg", photos)
    preset = tmp_path / "all-pairs.yaml"
    preset.write_text("extends: classic\nretrieval: null\ngraph: {use: exhaustive}\n")
    before = unposed.reconstruct(photos, cache=tmp_path / "cache", preset=preset)
    shutil.copy(yard.images / "0003.jpg", photos)  # in the middle: the indices of those after it change
    after = unposed.reconstruct(photos, cache=tmp_path / "cache", preset=preset)
    assert computed(before)["features"] == 6
    assert computed(before)["matching"] == 6 * 5 // 2
    assert computed(after)["features"] == 1
    assert computed(after)["matching"] == computed(after)["verification"] == 6


def test_same_bytes_whatever_the_workers(first: tuple[Reconstruction, Path], yard: PhotoSet, tmp_path: Path) -> None:
    made, _ = first
    assert made.folder is not None
    unposed.reconstruct(yard.images, tmp_path / "out", workers=2, cache=tmp_path / "cache")
    assert model_bytes(tmp_path / "out") == model_bytes(made.folder)


@pytest.mark.slow
def test_killed_and_started_again(first: tuple[Reconstruction, Path], yard: PhotoSet, tmp_path: Path) -> None:
    made, _ = first
    assert made.folder is not None
    line = [sys.executable, "-m", "unposed", "reconstruct", str(yard.images), "-o", str(tmp_path / "out"), "--quiet"]
    environment = os.environ | {"UNPOSED_CACHE": str(tmp_path / "cache")}
    moments = random.Random(0)
    for _ in range(4):
        run = subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL)
        time.sleep(moments.uniform(0.5, 3.0))
        run.kill()
        run.wait()
    subprocess.run(line, env=environment, check=True, stdout=subprocess.DEVNULL)
    assert model_bytes(tmp_path / "out") == model_bytes(made.folder)


@pytest.mark.slow
def test_two_scenes_in_one_folder_give_two_models(
    photo_set: Callable[[str, int, int], PhotoSet], tmp_path: Path
) -> None:
    scene = photo_set("two_disjoint", 12, 384)
    made = unposed.reconstruct(scene.images, tmp_path / "out", cache=tmp_path / "cache")
    assert len(made.sparse.models) == 2
    first, second = (
        {made.photos[index].name[0] for index in component.photos.tolist()} for component in made.sparse.models
    )
    assert {*first, *second} == {"a", "b"}
    assert len(first) == len(second) == 1
