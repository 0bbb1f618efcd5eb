"""Photos added to a finished reconstruction and taken out again: accuracy, work, frames, names."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

import unposed
from unposed.cli import main
from unposed.growth.add import joined_photos
from unposed.growth.known_models import known_model
from unposed.growth.warm_run import WarmStart, in_old_frames
from unposed.pipeline.artifacts import Photo
from unposed.pipeline.engine import Run
from unposed.pipeline.errors import ConfigError, InputError
from unposed.pipeline.graph import Graph
from unposed.show import growth_rows
from unposed.synthetic.photos import PhotoSet


@pytest.fixture(scope="module")
def grown(reconstructed: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The yard with all photos: ten aligned to metres, then two added."""
    out: Path = reconstructed.copied_to(tmp_path_factory.mktemp("grown") / "out")
    unposed.align(out, "poses", reconstructed.truth)
    unposed.add(out, reconstructed.left, cache=reconstructed.cache)
    return out


def test_added_photos_are_as_exact_as_the_others(reconstructed: Any, grown: Path) -> None:
    made = unposed.load(grown)
    assert made.summary["registered"] == 12
    assert set(made.summary["grown"]["added"]) == {file.name for file in reconstructed.left.iterdir()}
    errors = unposed.evaluate(grown, reconstructed.truth).errors
    before = unposed.evaluate(reconstructed.out, reconstructed.truth).errors
    assert errors.registered == 12
    assert errors.auc[5] is not None and before.auc[5] is not None
    assert errors.auc[5] > before.auc[5] - 0.02
    assert np.nanmax(errors.rotation_error_deg) < 0.5


def test_only_what_is_new_is_computed(grown: Path) -> None:
    stages = unposed.load(grown).summary["stages"]
    assert stages["features"]["computed"] == 0  # those of the new photos were there when they were localized
    matching = stages["more_matching"]
    assert 0 < matching["computed"] < matching["reused"]
    assert "coarse" in stages and stages["coarse"]["plugin"] == "coarse.given"


def test_the_frame_stays_and_moves_are_reported(reconstructed: Any, grown: Path) -> None:
    made = unposed.load(grown)
    moved = made.summary["grown"]["moved"]
    assert moved["photos"] == 10
    assert moved["largest_deg"] < 0.5 and moved["largest_share_of_extent"] < 0.02
    truth = np.array([reconstructed.true_pose(name) for name in made[0].photo_names])
    centre = np.array([made[0].images[name].center for name in made[0].photo_names])
    true_centre = -np.einsum("nji,nj->ni", truth[:, :, :3], truth[:, :, 3])
    assert np.abs(centre - true_centre).max() < 0.02 * np.ptp(true_centre)
    assert made.summary["models"][0]["alignment"]["steps"][0]["to"] == "poses"
    assert made.summary["models"][0]["scale"]["from"] == "poses"
    assert made.summary["settings"] == unposed.load(reconstructed.out).summary["settings"]


def test_a_grown_result_is_like_any_other(reconstructed: Any, grown: Path, tmp_path: Path) -> None:
    """Photos of two folders are exported, and localized in; the report is about both."""
    page = (grown / "report.html").read_text("utf-8")
    assert all(file.name in page for file in reconstructed.left.iterdir())
    assert "unposed add" in page and (grown / "overview.jpg").stat().st_size > 1000
    unposed.export(grown, "ply", tmp_path / "ply")
    unposed.export(grown, "splat", tmp_path / "splat")
    names = {file.stem for file in (tmp_path / "splat" / "images").iterdir()}
    assert {file.stem for file in reconstructed.left.iterdir()} <= names
    found = unposed.localize(grown, sorted(reconstructed.left.iterdir())[0], cache=reconstructed.cache)
    assert next(iter(found.values())).same_as is not None


def test_photos_are_taken_out_and_put_back(
    reconstructed: Any, grown: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(grown, out)
    name = sorted(reconstructed.left.iterdir())[0].name
    line = ["add", str(out), "--without", name, "--cache", str(reconstructed.cache), "--quiet"]
    assert main(line) == 0
    assert ["taken", "out", name] in [line.split() for line in capsys.readouterr().out.splitlines()]
    made = unposed.load(out)
    assert made.summary["registered"] == 11 and name not in made.summary["photos"]
    assert made.summary["grown"]["since_refined"] == 0
    assert made.summary["grown"]["without"] == [name]
    line = ["add", str(out), str(reconstructed.left), "--cache", str(reconstructed.cache), "--quiet", "--json"]
    assert main(line) == 0
    facts = json.loads(capsys.readouterr().out)
    assert list(facts["added"]) == [name]
    assert list(facts["passed_over"].values()) == [
        f"it is {sorted(reconstructed.left.iterdir())[1].name}, which is there already"
    ]
    assert unposed.load(out).summary["registered"] == 12


def test_few_new_photos_leave_old_key_points_and_doubts_as_they_were(
    reconstructed: Any, grown: Path, tmp_path: Path
) -> None:
    """As exact as with all looked at again; and with less work, for which twelve photos are too few to tell."""
    out = reconstructed.copied_to(tmp_path / "out")
    made = unposed.add(out, reconstructed.left, settings=["max_new_share=0.5"], cache=reconstructed.cache)
    stages = made.summary["stages"]
    assert stages["fine"]["plugin"] == "fine.warm" and stages["doubts"]["plugin"] == "doubts.known"
    assert made.summary["settings"] == unposed.load(reconstructed.out).summary["settings"]
    assert made.summary["grown"]["since_refined"] == 2
    assert 0.0 < made.summary["models"][0]["refinement"]["tension"] < 2.0
    assert made.summary["grown"]["moved"]["largest_deg"] < 1e-9
    assert ("old photos", "held where they were: the new ones say nothing against it") in growth_rows(made.summary)
    free = reconstructed.copied_to(tmp_path / "free")
    settings = ["max_new_share=0.5", "max_tension=0"]
    moved = unposed.add(free, reconstructed.left, settings=settings, cache=reconstructed.cache)
    assert "tension" not in moved.summary["models"][0]["refinement"]
    assert moved.summary["grown"]["moved"]["largest_deg"] > 1e-6
    errors, others = (unposed.evaluate(each, reconstructed.truth).errors for each in (out, grown))
    assert errors.registered == 12
    assert np.nanmax(errors.rotation_error_deg) < np.nanmax(others.rotation_error_deg) + 0.1
    before, after = unposed.load(reconstructed.out)[0], unposed.load(out)[0]
    name = before.photo_names[0]
    seen = np.flatnonzero((before.images[name].point3D_ids >= 0) & (after.images[name].point3D_ids >= 0))
    assert len(seen) > 100
    same = (before.images[name].xy[seen] == after.images[name].xy[seen]).all(axis=1)
    assert same.mean() > 0.95  # but for those that are no part of the adjustment any more


def test_a_photo_of_another_place_is_named(reconstructed: Any, grown: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(grown, out)
    for seed, name in enumerate(("noise.png", "again.png")):
        noise = np.random.default_rng(seed).integers(0, 256, (320, 480, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / name)
        made = unposed.add(out, tmp_path / name, cache=reconstructed.cache)
        assert made.summary["registered"] == 12
        assert made.summary["grown"]["added"][name]["registered"] is False
        reason = made.summary["grown"]["added"][name]["reason"]
        assert made.unregistered[name] == unposed.load(out).unregistered[name] == reason
        assert "localized" in reason or "shows nothing" in reason
        assert files_of_models(out) == files_of_models(grown)
        # One of twelve is few, each time: those that are tried in vain do not count as added.
        assert made.summary["stages"]["fine"]["plugin"] == "fine.warm"
        assert made.summary["grown"]["since_refined"] == 0


def test_damaged_photos_are_named_and_change_nothing(
    reconstructed: Any, grown: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, folder = tmp_path / "out", tmp_path / "damaged"
    shutil.copytree(grown, out)
    folder.mkdir()
    for share, file in zip((2, 3), sorted(reconstructed.kept.iterdir())[-2:], strict=True):
        content = file.read_bytes()
        (folder / f"cut-{share}.jpg").write_bytes(content[: len(content) // share])
    line = ["add", str(out), str(folder), "--cache", str(reconstructed.cache), "--quiet"]
    assert main(line) == 3
    printed = capsys.readouterr().out
    assert "as it was" in printed and "old photos" not in printed
    before, made = unposed.load(grown), unposed.load(out)
    for name in ("cut-2.jpg", "cut-3.jpg"):
        reason = made.unregistered[name]
        assert reason == made.summary["grown"]["added"][name]["reason"]
        assert "the file is damaged or cut off" in reason and f"{name}: {reason}" in printed
    assert [each["node"] for each in made.summary["failures"]].count("features") == 2
    assert made.summary["models"] == before.summary["models"] and made.summary["total"] == 14
    name = before[0].photo_names[-1]
    assert made.summary["photos"][name] == before.summary["photos"][name]
    assert np.array_equal(made[0].images[name].xy, before[0].images[name].xy)
    assert files_of_models(out) == files_of_models(grown)


def files_of_models(out: Path) -> dict[str, bytes]:
    """Their content, and that of the report and the picture."""
    files = [*(out / "sparse").rglob("*"), out / "report.html", out / "overview.jpg"]
    return {file.relative_to(out).as_posix(): file.read_bytes() for file in files if file.is_file()}


def test_photos_that_see_no_point_of_the_model_are_reached_anew(
    yard: PhotoSet, reconstructed: Any, tmp_path: Path
) -> None:
    """Both ends of an arc: the photos of the second one see each other, and nothing that the model has."""
    photos, out, alone = sorted(yard.images.iterdir()), tmp_path / "out", tmp_path / "alone"
    unposed.reconstruct(photos[:3], out, cache=reconstructed.cache, device="cpu", report=False)
    shutil.copytree(out, alone)
    warm = unposed.add(alone, photos[9:], settings=["anew=false"], cache=reconstructed.cache, device="cpu")
    assert warm.summary["grown"]["anew"] is False and warm.summary["registered"] < 6
    grown = unposed.add(out, photos[9:], cache=reconstructed.cache, device="cpu")
    assert grown.summary["grown"]["anew"] is True and grown.summary["registered"] == 6
    assert grown.summary["grown"]["moved"]["photos"] == 3
    area = unposed.evaluate(out, yard.truth).errors.auc[5]
    pairs = 12 * 11 / 2, 6 * 5 / 2
    assert area is not None and area > 0.95 * pairs[1] / pairs[0]


def test_a_result_of_another_run_is_read_again(
    reconstructed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is published while the old one is read."""
    out, seen = reconstructed.copied_to(tmp_path / "out"), []
    real = unposed.load

    def load(folder: Path, photos: Path | None = None) -> unposed.Reconstruction:
        made = real(folder, photos)
        seen.append(made.summary["finished"])
        (folder / "summary.json").write_text(json.dumps({**made.summary, "finished": "later"}), "utf-8")
        return made

    monkeypatch.setattr("unposed.growth.add.load", load)
    with pytest.raises(InputError, match="nothing to add"):
        unposed.add(out, cache=reconstructed.cache)
    assert len(seen) == 2 and seen[1] == "later"


def test_names_that_are_taken_get_their_folder(tmp_path: Path) -> None:
    def photo(name: str, content: str, folder: str) -> Photo:
        return Photo(name, tmp_path / folder / name, content, 4, 3)

    old = [photo("a.jpg", "1", "old"), photo("new/b.jpg", "2", "old")]
    given = [
        photo("a.jpg", "3", "new"),
        photo("b.jpg", "4", "new"),
        photo("c.jpg", "1", "new"),
        photo("d.jpg", "4", "x"),
    ]
    found = joined_photos(old, given)
    assert [each.name for each in found.new] == ["new/a.jpg", "b.jpg"]
    assert found.passed_over == {
        "c.jpg": "it is a.jpg, which is there already",
        "d.jpg": "it is b.jpg, which is there already",
    }
    assert [each.name for each in found.all.photos] == ["a.jpg", "b.jpg", "new/a.jpg", "new/b.jpg"]


def test_bad_requests(reconstructed: Any, tmp_path: Path) -> None:
    out = reconstructed.copied_to(tmp_path / "out")
    before = (out / "summary.json").read_bytes()
    with pytest.raises(InputError, match="no photo of the reconstruction"):
        unposed.add(out, without=["nobody.jpg"])
    with pytest.raises(InputError, match=r"nothing to add: .*which is there already"):
        unposed.add(out, reconstructed.kept, cache=reconstructed.cache)
    with pytest.raises(InputError, match="nothing to add: no photos were given"):
        unposed.add(out, cache=reconstructed.cache)
    with pytest.raises(ConfigError, match=r"add.new_partners: expected int in \[0, inf\)"):
        unposed.add(out, reconstructed.left, settings=["new_partners=-1"])
    assert (out / "summary.json").read_bytes() == before
    (out / "summary.json").write_text(json.dumps({**json.loads(before), "models": []}), "utf-8")
    shutil.rmtree(out / "sparse")
    with pytest.raises(InputError, match="no model in it to add to: give all photos to unposed reconstruct"):
        unposed.add(out, reconstructed.left, cache=reconstructed.cache)


def test_a_model_without_a_similarity_to_the_old_one_has_no_frame_of_it(reconstructed: Any) -> None:
    """As where the old photos were at one place: what was known of that frame says nothing of the new one."""
    made, run = unposed.load(reconstructed.out), cast(Run, None)
    known = known_model(made.sparse.models[0], made.photos)
    turned = {
        name: replace(pose, cam_from_world=np.column_stack([pose.cam_from_world[:, :3], np.zeros(3)]))
        for name, pose in known.items()
    }
    for before, number in ((known, 0), (turned, None)):
        start = WarmStart(made.photos, frozenset(), (known,), (before,))
        found = in_old_frames(start, made.sparse, Graph({}, (), None), run)
        assert found.old_model == (number,)
        assert np.allclose(found.sparse.models[0].cam_from_world, made.sparse.models[0].cam_from_world)


def test_a_model_whose_added_photos_have_moved_says_where_it_looked(
    reconstructed: Any, grown: Path, tmp_path: Path
) -> None:
    """The photos that were added lie in a folder of their own, which has moved here and not the other."""
    out = tmp_path / "out"
    shutil.copytree(grown, out)
    summary = json.loads((out / "summary.json").read_text("utf-8"))
    gone = tmp_path / "gone"
    for each in summary["photos"].values():
        if "file" in each:
            each["file"] = str(gone / Path(each["file"]).name)
    (out / "summary.json").write_text(json.dumps(summary), "utf-8")
    with pytest.raises(
        InputError, match=rf"2 of 12 registered photos cannot be used, .*{re.escape(str(gone))}.*--photos"
    ):
        unposed.load(out)
    together = tmp_path / "together"
    shutil.copytree(reconstructed.kept, together)
    for file in reconstructed.left.iterdir():
        shutil.copy(file, together)
    assert unposed.load(out, together).summary["registered"] == 12
