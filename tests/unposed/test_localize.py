"""Photos localized in a finished model: poses against the truth, files, reasons, threads."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest
from PIL import Image

import unposed
from unposed.cli import main
from unposed.optim.evaluation import rotation_and_centre
from unposed.optim.localization.pose_hypotheses import search_poses
from unposed.optim.rotations import rotation_angle_deg
from unposed.optim.similarity import fit_similarity
from unposed.pipeline.errors import ConfigError, InputError


def errors(reconstructed: Any, found: Any) -> tuple[float, float]:
    """Rotation in degrees, and position over the extent of the model, in the frame of the truth."""
    model = unposed.load(reconstructed.out)[0]
    truth = np.array([reconstructed.true_pose(name) for name in model.photo_names])
    centre, true_centre = (rotation_and_centre(np.asarray(each))[1] for each in (model.cam_from_world, truth))
    world = fit_similarity(centre, true_centre)
    mine = reconstructed.true_pose(found.photo.name)
    off = rotation_angle_deg(found.pose.cam_from_world[:, :3] @ world.rotation.T @ mine[:, :3].T)
    extent = np.linalg.norm(np.ptp(true_centre, axis=0))
    return float(off), float(np.linalg.norm(world(found.pose.centre) + mine[:, :3].T @ mine[:, 3]) / extent)


@pytest.mark.parametrize("camera", ["auto", "free"])
def test_photos_are_where_they_were_taken(reconstructed: Any, camera: Any) -> None:
    found = unposed.localize(reconstructed.out, reconstructed.left, camera=camera, cache=reconstructed.cache)
    assert len(found) == 2
    for each in found.values():
        assert each.pose is not None and not each.ambiguous
        turn_deg, offset = errors(reconstructed, each)
        assert turn_deg < 0.5 and offset < 0.02  # as exact as the model itself
        assert (each.pose.sigma_focal_px > 0) == (camera == "free")
        assert len(each.pose.partners) >= 5
        model = unposed.load(reconstructed.out)[0]
        y = model.points[each.pose.point] @ each.pose.cam_from_world[:, :3].T + each.pose.cam_from_world[:, 3]
        k = each.pose.camera.params
        plain = k[0] * y[:, :2] / y[:, 2:] + k[1:3]
        assert np.median(np.linalg.norm(plain - each.pose.xy, axis=1)) < 3.0  # but for distortion


def test_files_and_command(reconstructed: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "where"
    line = ["localize", str(reconstructed.out), str(reconstructed.left), "-o", str(out), "--quiet"]
    assert main([*line, "--cache", str(reconstructed.cache)]) == 0
    assert "localized 2 of 2 photos" in capsys.readouterr().out
    assert main([*line, "--cache", str(reconstructed.cache), "--json"]) == 0  # over the older result
    facts = json.loads(capsys.readouterr().out)
    assert facts == json.loads((out / "poses.json").read_text())["photos"]
    names = sorted(facts)
    model = pycolmap.Reconstruction(out / "sparse" / "0")
    images = {image.name: image for image in model.images.values()}
    rows = [[float(v) for v in line.split()] for line in (out / "poses-0.txt").read_text().splitlines()[1:]]
    for name, row in zip(names, rows, strict=True):
        assert np.allclose(images[name].cam_from_world().matrix()[:, :3], facts[name]["R_w2c"])
        assert np.allclose(images[name].projection_center(), facts[name]["centre"])
        assert np.allclose(row[1:4], facts[name]["centre"])
        turn = pycolmap.Rotation3d(np.array(row[4:])).matrix()
        assert np.allclose(turn.T, facts[name]["R_w2c"], atol=1e-6)
        assert list(images[name].camera.params) == facts[name]["camera"]["params"]


def test_images_in_memory_and_threads_give_the_same(reconstructed: Any) -> None:
    localizer = unposed.load(reconstructed.out).localizer(cache=reconstructed.cache)
    files = [*sorted(reconstructed.left.iterdir())] * 2
    with ThreadPoolExecutor(4) as pool:
        side_by_side = list(pool.map(localizer, files))
    for file, each in zip(files, side_by_side, strict=True):
        alone = localizer(np.asarray(Image.open(file)))
        assert alone.pose is not None and each.pose is not None
        assert np.array_equal(alone.pose.cam_from_world, each.pose.cam_from_world)
        assert alone.pose.partners == each.pose.partners


def test_key_points_that_alignment_has_moved_take_part(reconstructed: Any) -> None:
    """The model has them where they look alike, features where they were detected."""
    localizer = unposed.load(reconstructed.out).localizer(cache=reconstructed.cache)
    moved = 0
    for mapped, values in zip(localizer.model_map.photos, localizer.values, strict=True):
        detected = {tuple(xy) for xy in values[localizer.appearance].xy.tolist()}
        assert {tuple(xy) for xy in mapped.xy.tolist()} <= detected
        offset = np.linalg.norm(mapped.xy - mapped.aligned_xy, axis=1)
        assert offset.max() < 5.0
        moved += int((offset > 0.0).sum())
    assert moved > 500


def test_points_are_as_exact_as_the_key_points_of_the_model(reconstructed: Any) -> None:
    """Aligned ones are more exact than those of the photo that is localized."""
    mapped = unposed.load(reconstructed.out).localizer(cache=reconstructed.cache).model_map
    assert 0.05 < mapped.noise[0] < 0.5
    some = np.arange(0, len(mapped.points), 50)
    twice = replace(mapped, noise=2.0 * mapped.noise)
    assert np.allclose(twice.point_covariances(some), 4.0 * mapped.point_covariances(some), rtol=1e-3)


def test_another_camera_is_tried_only_where_it_can_explain_more(
    reconstructed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sought: list[Any] = []

    def counted(xy: Any, points: Any, camera: Any, **more: Any) -> Any:
        sought.append(camera)
        return search_poses(xy, points, camera, **more)

    monkeypatch.setattr("unposed.localization.localizer.search_poses", counted)
    model, photo = unposed.load(reconstructed.out), sorted(reconstructed.left.iterdir())[0]
    for least_gain, most in ((1.0, 3), (1000.0, 2)):  # a draft, then one search for each camera
        sought.clear()
        localizer = model.localizer(cache=reconstructed.cache, settings=[f"min_gain={least_gain}"])
        assert localizer(photo).pose is not None
        assert len(sought) == most


def test_known_intrinsics_are_taken(reconstructed: Any, tmp_path: Path) -> None:
    found = unposed.localize(
        reconstructed.out, reconstructed.left, intrinsics=reconstructed.truth, cache=reconstructed.cache
    )
    images = json.loads(reconstructed.truth.read_text())["images"]
    for name, each in found.items():
        assert each.pose is not None
        assert each.pose.camera.params[0] == images[name]["K"][0][0]
        assert errors(reconstructed, each)[0] < 1.0


def test_reasons(reconstructed: Any, tmp_path: Path, photo_set: Any) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    Image.fromarray(np.full((320, 480, 3), 128, np.uint8)).save(folder / "grey.png")
    Image.fromarray(rng.integers(0, 256, (320, 480, 3), dtype=np.uint8)).save(folder / "noise.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    same = sorted(reconstructed.kept.iterdir())[0]
    shutil.copy(same, folder / "same.png")
    found = unposed.localize(reconstructed.out, folder, cache=reconstructed.cache)
    assert found["grey.png"].reason == "no key points were detected"
    assert "localized" in str(found["noise.png"].reason) or "shows nothing" in str(found["noise.png"].reason)
    assert found["same.png"].same_as == same.name
    assert found["same.png"].pose is not None
    assert str(found["broken.jpg"].reason).startswith("not read: ")


def test_bad_requests(reconstructed: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"localize.partners: expected int in \[1, inf\)"):
        unposed.localize(reconstructed.out, reconstructed.left, settings=["partners=0"])
    with pytest.raises(ConfigError, match=r"min_inlier\b.*min_inliers"):
        unposed.localize(reconstructed.out, reconstructed.left, settings={"pose.min_inlier": 20})
    with pytest.raises(InputError, match="no finished reconstruction"):
        unposed.localize(tmp_path, reconstructed.left)
    strict = unposed.localize(
        reconstructed.out, reconstructed.left, settings=["pose.min_inliers=100000"], cache=reconstructed.cache
    )
    assert all("100000 are needed" in str(each.reason) for each in strict.values())


def test_a_photo_of_the_model_that_is_another_by_now_is_named(reconstructed: Any, tmp_path: Path) -> None:
    photos = shutil.copytree(reconstructed.kept, tmp_path / "photos")
    first, *others = sorted(photos.iterdir())
    shutil.copy(others[4], first)
    with pytest.raises(InputError, match=rf"photos/{first.name}: it is not the photo .*say where the photos"):
        unposed.load(reconstructed.out, photos).localizer(cache=reconstructed.cache)
    first.write_bytes((reconstructed.kept / first.name).read_bytes() + b"edited")  # the same pixels are the same photo
    assert unposed.load(reconstructed.out, photos).localizer(cache=reconstructed.cache).model_map.photos


def test_a_reconstruction_is_not_replaced_by_localizations(reconstructed: Any, tmp_path: Path) -> None:
    out = reconstructed.copied_to(tmp_path / "out")
    photo = sorted(reconstructed.left.iterdir())[0]
    with pytest.raises(InputError, match="holds a reconstruction, which would be replaced: give another folder"):
        unposed.localize(out, photo, out, cache=reconstructed.cache)
    assert unposed.load(out).models
    (tmp_path / "where").mkdir()
    (tmp_path / "where" / ".unposed").touch()
    (tmp_path / "where" / "poses-7.txt").touch()  # of an earlier result
    unposed.localize(out, photo, tmp_path / "where", cache=reconstructed.cache)
    assert [file.name for file in (tmp_path / "where").glob("poses-*.txt")] == ["poses-0.txt"]
