"""Two reconstructions of one place merged: by common photos, across, and refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unposed
from unposed.cli import main
from unposed.pipeline.errors import InputError
from unposed.synthetic.photos import PhotoSet, write_set
from unposed.synthetic.scenes import easy


@dataclass(frozen=True)
class Halves:
    """Two reconstructions of the yard."""

    first: Path
    second: Path
    cache: Path
    truth: Path


@pytest.fixture(scope="module")
def halves(yard: PhotoSet, reconstructed: Any, tmp_path_factory: pytest.TempPathFactory) -> Halves:
    """Photos 0 to 7 and 4 to 11, these under other names; features and pairs come from the cache where they can."""
    folder = tmp_path_factory.mktemp("halves")
    shutil.copytree(reconstructed.cache, folder / "cache")  # other tests count what is computed
    files = sorted(yard.images.iterdir())
    parts = {"first": files[:8], "second": files[4:]}
    for name, own in parts.items():
        (folder / name).mkdir()
        for file in own:
            shutil.copy(file, folder / name / (file.name if name == "first" else f"again-{file.name}"))
        unposed.reconstruct(folder / name, folder / f"out-{name}", cache=folder / "cache", device="cpu")
    return Halves(folder / "out-first", folder / "out-second", folder / "cache", yard.truth)


def judged(out: Path, truth: Path, tmp_path: Path) -> Any:
    """Errors, with the names of the truth."""
    images = json.loads(truth.read_text())
    images["images"] |= {f"again-{name}": entry for name, entry in images["images"].items()}
    names = set(unposed.load(out).summary["photos"])
    images["images"] = {name: entry for name, entry in images["images"].items() if name in names}
    file = tmp_path / "gt.json"
    file.write_text(json.dumps(images))
    return unposed.evaluate(out, file).errors


def test_halves_with_common_photos(halves: Halves, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "both"
    before = (halves.first / "summary.json").read_bytes()
    line = ["merge", str(halves.first), str(halves.second), "-o", str(out), "--cache", str(halves.cache), "--quiet"]
    assert main(line) == 0
    printed = capsys.readouterr().out
    assert "registered 12 of 12 photos" in printed and "4 common photos" in printed
    assert (halves.first / "summary.json").read_bytes() == before
    made = unposed.load(out)
    names = set(made.summary["photos"])
    assert sum(name.startswith("again-") for name in names) == 4  # the others are those of the first one
    errors = judged(out, halves.truth, tmp_path)
    assert errors.registered == 12 and errors.auc[5] > 0.9
    assert np.nanmax(errors.rotation_error_deg) < 0.5
    assert made.summary["grown"]["merged"]["consistent"] == 4
    assert made.summary["grown"]["moved"]["largest_deg"] < 0.5


def test_a_damaged_photo_does_not_stop_the_others(yard: PhotoSet, halves: Halves, tmp_path: Path) -> None:
    """The only one of the second model that is new to the first."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for file in sorted(yard.images.iterdir())[:4]:
        shutil.copy(file, photos)
    content = (yard.images / "0009.jpg").read_bytes()
    (photos / "cut.jpg").write_bytes(content[: len(content) // 2])
    unposed.reconstruct(photos, tmp_path / "second", cache=halves.cache, device="cpu", report=False)
    made = unposed.merge(halves.first, tmp_path / "second", tmp_path / "both", cache=halves.cache)
    assert made.summary["registered"] == 8
    assert "the file is damaged or cut off" in made.unregistered["cut.jpg"]


def test_halves_without_common_photos_are_joined_across(halves: Halves, tmp_path: Path) -> None:
    second = tmp_path / "second"
    shutil.copytree(halves.second, second)
    common = [f"again-{name}" for name in unposed.load(halves.first)[0].photo_names]
    there = [name for name in unposed.load(second)[0].photo_names if name in common]
    unposed.add(second, without=there, cache=halves.cache)
    assert len(unposed.load(second)[0]) == 4
    out = tmp_path / "both"
    made = unposed.merge(halves.first, second, out, cache=halves.cache)
    assert made.summary["registered"] == 12
    assert made.summary["grown"]["merged"]["by"] == "localized photos"
    errors = judged(out, halves.truth, tmp_path)
    assert errors.auc[5] > 0.9


def test_in_the_place_of_the_first(halves: Halves, tmp_path: Path) -> None:
    first = tmp_path / "first"
    shutil.copytree(halves.first, first)
    names = unposed.load(first)[0].photo_names
    unposed.align(first, "scale", names[0], names[1], 7.0)
    made = unposed.merge(first, halves.second, cache=halves.cache)
    ends = [unposed.load(first)[0].images[name].center for name in names[:2]]
    assert np.linalg.norm(ends[0] - ends[1]) == pytest.approx(7.0, rel=0.02)
    assert made.summary["models"][0]["alignment"]["steps"][0]["to"] == "scale"
    assert "unposed merge" in (first / "report.html").read_text("utf-8")


def test_other_places_are_refused(halves: Halves, tmp_path: Path) -> None:
    other = write_set(easy(photos=5, width=480, seed=5, widest_step_deg=11), tmp_path / "place")
    unposed.reconstruct(other.images, tmp_path / "other", cache=halves.cache, device="cpu")
    with pytest.raises(
        InputError, match=r"do not belong together: [0-2] of their photos are localized in the first one"
    ):
        unposed.merge(halves.first, tmp_path / "other", tmp_path / "both", cache=halves.cache)
    assert not (tmp_path / "both").exists()


def test_two_photos_that_the_first_one_has_are_refused(yard: PhotoSet, halves: Halves, tmp_path: Path) -> None:
    photos = sorted(yard.images.iterdir())[:2]
    unposed.reconstruct(photos, tmp_path / "two", cache=halves.cache, device="cpu", report=False)
    with pytest.raises(InputError, match=r"do not belong together: 2 of their photos are in both, 3 are needed"):
        unposed.merge(halves.first, tmp_path / "two", tmp_path / "both", cache=halves.cache)


def test_models_that_contradict_each_other_are_refused(halves: Halves, tmp_path: Path) -> None:
    """The second one with its photos exchanged: each common photo says something else."""
    import pycolmap

    second = tmp_path / "second"
    shutil.copytree(halves.second, second)
    model = pycolmap.Reconstruction(second / "sparse" / "0")
    images = sorted(model.images.values(), key=lambda image: image.name)
    poses = [image.cam_from_world() for image in images]
    rng = np.random.default_rng(0)
    for image, k in zip(images, rng.permutation(len(images)).tolist(), strict=True):
        image.frame.set_cam_from_world(image.camera_id, poses[k])
    model.write_binary(second / "sparse" / "0")
    with pytest.raises(InputError, match="photos in both agree on"):
        unposed.merge(halves.first, second, tmp_path / "both", cache=halves.cache)
