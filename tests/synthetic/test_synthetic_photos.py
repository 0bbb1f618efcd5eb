"""Photos on disk: their truth, their EXIF, and the bundled sample."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from unposed.synthetic.camera import project_points, viewing_rays
from unposed.synthetic.photos import PhotoSet, write_set
from unposed.synthetic.render import cast, render
from unposed.synthetic.sample import sample_folder, sample_scene
from unposed.synthetic.scenes import SCENES, Scene

EXIF_IFD = 0x8769


def sampson_px(a: dict[str, Any], b: dict[str, Any], xy_a: np.ndarray, xy_b: np.ndarray) -> np.ndarray:
    """First-order distance of matches from the epipolar geometry of two entries of gt.json, in its own pixels."""
    x, y = (np.column_stack([xy, np.ones(len(xy))]) @ np.linalg.inv(view["K"]).T for view, xy in ((a, xy_a), (b, xy_b)))
    turn = np.array(b["R_w2c"]) @ np.array(a["R_w2c"]).T
    essential = np.cross(np.eye(3), np.array(b["t_w2c"]) - turn @ a["t_w2c"]) @ turn
    left, right = x @ essential.T, y @ essential
    scale = np.sqrt((left[:, :2] ** 2).sum(axis=1) + (right[:, :2] ** 2).sum(axis=1))
    error: np.ndarray = np.abs((y * left).sum(axis=1)) / scale * a["K"][0][0]
    return error


def sift_matches(a: Path, b: Path) -> tuple[np.ndarray, np.ndarray]:
    grey = [np.asarray(Image.open(path).convert("L")) for path in (a, b)]
    found = [cv2.SIFT.create(2048).detectAndCompute(pixels, None) for pixels in grey]
    pairs = cv2.BFMatcher().knnMatch(found[0][1], found[1][1], k=2)
    good = [first for first, second in pairs if first.distance < 0.8 * second.distance]
    xy_a, xy_b = (np.array([point.pt for point in points]) for points, _ in found)
    return xy_a[[m.queryIdx for m in good]], xy_b[[m.trainIdx for m in good]]


def test_truth_reprojects_surface_points(tmp_path: Path) -> None:
    """gt.json alone, read by OpenCV, sends what the renderer sees in one photo to where it sees it in the next."""
    scene = SCENES["two_cameras"](photos=4, width=160)
    truth = json.loads(write_set(scene, tmp_path).truth.read_text())["images"]
    xy = np.random.default_rng(0).uniform(10, 110, (50, 2))
    a, b = scene.shots[:2]
    xy = xy[np.isfinite(cast(scene.world, a, xy))]
    points = a.centre + (viewing_rays(a, xy) * cast(scene.world, a, xy)).T
    for shot in (a, b):
        view = truth[shot.name]
        turn = cv2.Rodrigues(np.array(view["R_w2c"]))[0]
        seen = cv2.projectPoints(points, turn, np.array(view["t_w2c"]), np.array(view["K"]), np.array(view["dist"]))[0]
        np.testing.assert_allclose(seen[:, 0] + 0.5, project_points(shot, points)[0], atol=1e-8)
    np.testing.assert_allclose(project_points(a, points)[0], xy, atol=1e-8)


def test_exif_names_the_camera_and_its_focal_length(tmp_path: Path) -> None:
    scene = SCENES["two_cameras"](photos=2, width=80)
    written = write_set(scene, tmp_path)
    # Diagonals: 80 x 60 is 100 px at f = 40 / tan 37 deg; 100 x 66 is 119.8 px at f = 50 / tan 23 deg; film 43.27 mm.
    for shot, focal_35mm in zip(scene.shots, (23, 43), strict=True):
        with Image.open(written.images / shot.name) as photo:
            exif = photo.getexif()
            assert photo.size == (shot.lens.width, shot.lens.height)
        assert (exif[271], exif[272]) == (shot.lens.make, shot.lens.model)
        lens = exif.get_ifd(EXIF_IFD)
        assert lens[41989] == focal_35mm
        focal_mm = shot.lens.fx * shot.lens.sensor_mm / max(photo.size)
        assert float(lens[37386]) == pytest.approx(focal_mm, abs=0.01)


def test_sideways_photos_turn_upright_by_their_exif(tmp_path: Path) -> None:
    scene = SCENES["portrait_landscape"](photos=4, width=160)
    shot = scene.shots[3]
    with Image.open(write_set(scene, tmp_path).images / shot.name) as photo:
        assert photo.size == (160, 106)
        upright = np.asarray(ImageOps.exif_transpose(photo), float)
    assert np.abs(upright - render(scene.world, shot)).mean() < 4


def test_a_scene_without_a_maker_has_no_exif(yard: PhotoSet) -> None:
    with Image.open(yard.images / "0000.jpg") as photo:
        assert not photo.getexif()


def test_sets_are_rendered_once(photo_set: Callable[[str, int, int], PhotoSet], yard: PhotoSet) -> None:
    assert photo_set("turntable", 2, 80) is photo_set("turntable", 2, 80)
    assert sorted(path.name for path in yard.images.iterdir()) == [f"{i:04d}.jpg" for i in range(12)]


@pytest.fixture(scope="module")
def bundled() -> Scene:
    return sample_scene()


def test_the_bundled_sample_is_what_the_code_makes(bundled: Scene) -> None:
    truth = json.loads((sample_folder() / "gt.json").read_text())["images"]
    assert sorted(truth) == sorted(shot.name for shot in bundled.shots)
    for shot in bundled.shots:
        np.testing.assert_allclose(truth[shot.name]["t_w2c"], shot.cam_from_world[:, 3], atol=1e-9)
        assert truth[shot.name]["K"][0][2] == shot.lens.cx - 0.5
    shot = bundled.shots[7]
    with Image.open(sample_folder() / shot.name) as photo:
        difference = np.asarray(photo, float) - render(bundled.world, shot)
    assert np.abs(difference).mean() < 5
    assert np.abs(difference.mean(axis=(0, 1))).max() < 0.2
    assert np.abs(cv2.blur(difference, (15, 15))).max() < 12


def test_the_bundled_sample_is_small() -> None:
    files = list(sample_folder().iterdir())
    assert len(files) == 21
    assert sum(file.stat().st_size for file in files) < 3_000_000


@pytest.mark.parametrize("first", [0, 6, 13, 19])
def test_sift_matches_of_the_sample_obey_the_truth(first: int) -> None:
    truth = json.loads((sample_folder() / "gt.json").read_text())["images"]
    names = [f"{i % 20:04d}.jpg" for i in (first, first + 1)]
    xy_a, xy_b = sift_matches(*(sample_folder() / name for name in names))
    error = sampson_px(truth[names[0]], truth[names[1]], xy_a, xy_b)
    assert len(error) > 200
    assert np.median(error) < 0.25
    assert (error < 2).mean() > 0.6
