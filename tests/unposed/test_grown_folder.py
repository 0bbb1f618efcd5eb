"""A run about a folder that has grown goes on from the result that is there, where that is safe."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import unposed
from unposed.growth import grown_folder
from unposed.photo_sources import collect


@pytest.fixture
def moved(reconstructed: Any, tmp_path: Path) -> tuple[Path, Path]:
    """A photo folder and its result, which a test may change."""
    folder = Path(shutil.copytree(reconstructed.kept, tmp_path / "photos"))
    out = reconstructed.copied_to(tmp_path / "out")
    summary = json.loads((out / "summary.json").read_text("utf-8"))
    summary["photos_folder"] = str(folder)
    (out / "summary.json").write_text(json.dumps(summary), "utf-8")
    return folder, out


def grow_folder(reconstructed: Any, folder: Path, count: int) -> list[str]:
    files = sorted(reconstructed.left.iterdir())[:count]
    for file in files:
        shutil.copy(file, folder)
    return [file.name for file in files]


def test_a_new_photo_joins_the_result_that_is_there(
    reconstructed: Any, moved: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = moved
    monkeypatch.chdir(folder.parent)
    unposed.export(out, "ply", out / "ply")
    exported = (out / "ply/points-0.ply").read_bytes()
    before = unposed.load(out)
    (name,) = grow_folder(reconstructed, folder, 1)
    preset = before.summary["preset"]
    made = unposed.reconstruct(
        folder.name, out, preset=preset, exports=["ply"], cache=reconstructed.cache, device="cpu"
    )
    again = unposed.load(out)
    assert again.summary["registered"] == 11 and again.summary["grown"]["added"][name]["registered"]
    assert again.summary["stages"]["coarse"]["plugin"] == "coarse.given"
    assert again.summary["settings"] == before.summary["settings"] and again.summary["exports"] == ["ply"]
    assert made.summary == again.summary
    errors = unposed.evaluate(out, reconstructed.truth).errors
    assert errors.auc[5] is not None and errors.auc[5] > 0.98 * 55 / 66  # pairs with the twelfth photo count as wrong
    assert name in (out / "report.html").read_text("utf-8")
    assert "--anew maps all anew" in (out / "run.log").read_text("utf-8")
    exported, older = (out / "ply/points-0.ply").read_bytes(), exported
    assert exported != older
    unposed.align(out, "scale", again[0].photo_names[0], again[0].photo_names[-1], 7.0)
    assert (out / "ply/points-0.ply").read_bytes() != exported, "exports of the run follow its result"


def other_settings(summary: dict[str, Any], out: Path) -> None:
    summary["settings"]["features"]["max_keypoints"] = 17


def another_seed(summary: dict[str, Any], out: Path) -> None:
    summary["seed"] = 5


def a_verdict_that_warns(summary: dict[str, Any], out: Path) -> None:
    summary["models"][0]["refinement"]["verdict"]["trusted"] = False


def given_poses(summary: dict[str, Any], out: Path) -> None:
    summary["settings"]["cameras"]["poses"] = "poses.json"


@pytest.mark.parametrize("other", [other_settings, another_seed, a_verdict_that_warns, given_poses])
def test_what_is_not_safe_is_mapped_anew(
    moved: tuple[Path, Path], other: Callable[[dict[str, Any], Path], None], tmp_path: Path
) -> None:
    folder, out = moved
    photos = collect(folder, tmp_path / "cache")[0]
    summary = json.loads((out / "summary.json").read_text("utf-8"))
    origin = json.loads(json.dumps(summary))
    assert grown_folder.result_to_go_on_from(out, photos, origin) is not None
    other(summary, out)
    if other is given_poses:  # the same request, but the file may say something else by now
        origin = summary
    (out / "summary.json").write_text(json.dumps(summary), "utf-8")
    assert grown_folder.result_to_go_on_from(out, photos, origin) is None


def test_photos_that_have_changed_are_mapped_anew(moved: tuple[Path, Path], tmp_path: Path) -> None:
    folder, out = moved
    photos = collect(folder, tmp_path / "cache")[0]
    origin = json.loads((out / "summary.json").read_text("utf-8"))
    first, *others = photos.photos
    edited = replace(photos, photos=(replace(first, content="another"), *others))
    assert grown_folder.result_to_go_on_from(out, edited, origin) is None
    masked = replace(photos, photos=(replace(first, mask=folder / "mask.png", mask_content="m"), *others))
    assert grown_folder.result_to_go_on_from(out, masked, origin) is None


def test_who_asks_for_it_has_all_mapped_anew(reconstructed: Any, moved: tuple[Path, Path]) -> None:
    folder, out = moved
    preset = unposed.load(out).summary["preset"]
    grow_folder(reconstructed, folder, 1)
    how: dict[str, Any] = {"preset": preset, "report": False, "cache": reconstructed.cache, "device": "cpu"}
    assert "grown" not in unposed.reconstruct(folder, out, anew=True, **how).summary


def test_more_than_a_tenth_of_new_photos_is_not_few(reconstructed: Any, moved: tuple[Path, Path]) -> None:
    folder, out = moved
    preset = unposed.load(out).summary["preset"]
    grow_folder(reconstructed, folder, 2)
    how: dict[str, Any] = {"preset": preset, "report": False, "cache": reconstructed.cache, "device": "cpu"}
    assert "grown" not in unposed.reconstruct(folder, out, **how).summary
