"""Options of the export for splat trainers: frame, sizes, masks, what is left out, and what cannot be exported."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest
from PIL import Image
from splat_faults import NAMES, SIDES, scene

from unposed.linting.lint import lint
from unposed.optim.partition.model_merging import moved_poses
from unposed.optim.rotations import exp_so3
from unposed.optim.scene_frame import far_from_others, upright_frame
from unposed.optim.similarity import Similarity
from unposed.pipeline.artifacts import Camera, Photo, Photos, SparseModel, SparseModels
from unposed.pipeline.errors import InputError
from unposed.plugins.export.splat import SplatExport


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(1)
    for name in NAMES:
        Image.fromarray(rng.integers(60, 256, (10, 20, 3), np.uint8)).resize(SIDES).save(folder / name)
    mask = np.full(SIDES[::-1], 255, np.uint8)
    mask[:, :100] = 0
    Image.fromarray(mask).save(folder / "mask.png")
    return Photos(tuple(Photo(name, folder / name, "", *SIDES) for name in NAMES), {})


def masked(photos: Photos) -> Photos:
    mask = photos[0].path.parent / "mask.png"
    return Photos(tuple(replace(photo, mask=mask) for photo in photos.photos), {})


def write(model: SparseModel, photos: Photos, folder: Path, **options: Any) -> pycolmap.Reconstruction:
    SplatExport(**options)(SparseModels((model,), {}), photos, folder)
    return pycolmap.Reconstruction(folder / "sparse" / "0")


def turned(model: SparseModel) -> SparseModel:
    """The model in a frame that is turned, enlarged and moved away."""
    frame = Similarity(7.0, exp_so3(np.array([[1.0, -0.5, 2.0]]))[0], np.array([3.0, 50.0, -20.0]))
    return replace(model, cam_from_world=moved_poses(model.cam_from_world, frame), points=frame(model.points))


def centres_of(model: pycolmap.Reconstruction) -> np.ndarray:
    return np.array([image.projection_center() for _, image in sorted(model.images.items())])


@pytest.mark.parametrize(("frame", "radius"), [("unit", 1.0), ("metric", 7.0 * 4 / 9)])
def test_the_frame_is_upright_and_written_down(photos: Photos, tmp_path: Path, frame: str, radius: float) -> None:
    given = turned(scene())
    model = write(given, photos, tmp_path / "out", frame=frame)
    centres = centres_of(model)
    np.testing.assert_allclose(centres.mean(axis=0), 0.0, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(centres, axis=1).max(), radius)
    down = np.array([image.cam_from_world().rotation.matrix()[1] for image in model.images.values()])
    np.testing.assert_allclose(down, np.tile([0, 1, 0], (9, 1)), atol=1e-9)
    written = json.loads((tmp_path / "out" / "unposed_frame.json").read_text())["scene_from_reconstruction"]
    back = Similarity(written["scale"], np.array(written["rotation"]), np.array(written["translation"]))
    points = np.array([point.xyz for _, point in sorted(model.points3D.items())])
    np.testing.assert_allclose(back(given.points), points, atol=1e-9)
    for image in model.images.values():  # what the images show has not moved
        seen = [point for point in image.points2D if point.has_point3D()]
        at = image.cam_from_world() * np.array([model.points3D[point.point3D_id].xyz for point in seen])
        np.testing.assert_allclose(image.camera.img_from_cam(at), [point.xy for point in seen], atol=1e-6)
    assert lint(tmp_path / "out") == ()


def test_level_photos_all_around_say_what_is_up() -> None:
    """Each looks down a little, so that their own up, and the mean of it, leans; x axes are level."""
    down = exp_so3(np.array([[0.6, 0.0, 0.0]]))[0]
    poses = [np.c_[down @ exp_so3(np.array([[0.0, angle, 0.0]]))[0], [0, 0, 5]] for angle in np.linspace(0, 2, 7)]
    tilt = exp_so3(np.array([[0.3, 0.0, 0.8]]))[0]
    frame = upright_frame(np.array(poses) @ np.block([[tilt, np.zeros((3, 1))], [np.zeros(3), np.ones(1)]]))
    np.testing.assert_allclose(frame.rotation @ tilt.T @ [0, 1, 0], [0, 1, 0], atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(frame.rotation), 1.0)


def test_images_of_a_longest_side(photos: Photos, tmp_path: Path) -> None:
    model = write(scene(), photos, tmp_path / "out", max_side=304)
    (camera,) = model.cameras.values()
    assert (camera.width, camera.height) == (304, 152)
    np.testing.assert_allclose(camera.params, [228.0, 228.0, 152.0, 76.0])
    assert lint(tmp_path / "out") == ()
    with Image.open(tmp_path / "out/images/0.jpg") as image, Image.open(photos[0].path) as photo:
        smaller = np.asarray(photo.resize((304, 152))).astype(float)
        assert np.abs(np.asarray(image).astype(float) - smaller).mean() < 3.0


@pytest.mark.parametrize(("bake", "value"), [("black", 0), ("white", 255)])
def test_masks_are_painted(photos: Photos, tmp_path: Path, bake: str, value: int) -> None:
    write(scene(), masked(photos), tmp_path / "out", bake=bake)
    for place, wide in (("images", 96), ("images_4", 20)):
        with Image.open(tmp_path / "out" / place / "3.jpg") as image:
            hidden = np.asarray(image)[:, :wide]
        assert np.abs(hidden.astype(int) - value).max() <= 8  # JPEG
    assert lint(tmp_path / "out") == ()


def test_masks_become_transparent(photos: Photos, tmp_path: Path) -> None:
    model = write(scene(), masked(photos), tmp_path / "out", bake="alpha")
    assert {image.name for image in model.images.values()} == {f"{number}.png" for number in range(9)}
    with Image.open(tmp_path / "out/images_2/3.png") as image:
        alpha = np.asarray(image)[..., 3]
    np.testing.assert_array_equal(alpha, np.where(np.arange(200) < 50, 0, 255)[None].repeat(100, 0))
    assert lint(tmp_path / "out") == ()


def test_masks_that_some_programs_do_not_read_are_named(photos: Photos, tmp_path: Path) -> None:
    write(scene(), masked(photos), tmp_path / "out")
    assert [(each.check, each.advice) for each in lint(tmp_path / "out")] == [("masks-unread", True)]
    assert lint(tmp_path / "out", ["brush", "lichtfeld", "nerfstudio"]) == ()


def test_far_cameras_and_points_are_left_out_and_named(photos: Photos, tmp_path: Path) -> None:
    model = scene()
    poses, points = model.cam_from_world.copy(), model.points.copy()
    poses[4, 0, 3], points[5] = -80.0, (0.0, 0.0, 5000.0)
    made = write(replace(model, cam_from_world=poses, points=points), photos, tmp_path / "out")
    assert made.num_images() == 8 and 5 not in made.images
    assert made.num_points3D() == 39
    assert sorted(file.name for file in (tmp_path / "out" / "images").iterdir()) == [
        f"{number}.jpg" for number in range(9) if number != 4
    ]
    readme = (tmp_path / "out" / "README.txt").read_text()
    assert readme.startswith("8 of 9 photos")
    assert "far from all other cameras (camera_ratio):\n  4.png\n" in readme
    assert "Left out as well: 1 points far from all others" in readme
    assert lint(tmp_path / "out") == ()
    kept = write(replace(model, cam_from_world=poses), photos, tmp_path / "all", camera_ratio=1e6, point_ratio=1e6)
    assert kept.num_images() == 9


def test_few_of_many_points_are_kept(photos: Photos, tmp_path: Path) -> None:
    made = write(scene(), photos, tmp_path / "out", points=15)
    assert made.num_points3D() == 15
    assert "15 points" in (tmp_path / "out" / "README.txt").read_text()
    assert lint(tmp_path / "out") == ()


def test_stray_points_do_not_hide_each_other() -> None:
    cloud = np.random.default_rng(0).normal(size=(100, 3))
    cloud[:3] = [[1e5, 0, 0], [1e3, 0, 0], [0, 1e8, 0]]
    np.testing.assert_array_equal(np.flatnonzero(far_from_others(cloud, 100.0)), [0, 1, 2])
    assert not far_from_others(np.zeros((5, 3)), 10.0).any()
    assert not far_from_others(np.zeros((0, 3)), 10.0).any()


def one_spot(model: SparseModel) -> SparseModel:
    poses = model.cam_from_world.copy()
    poses[:, :, 3] = 0.0
    return replace(model, cam_from_world=poses)


def one_photo(model: SparseModel) -> SparseModel:
    return replace(scene(1), photos=model.photos[:1])


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (one_spot, "all photos were taken from one spot"),
        (one_photo, "one registered photo shows no depth"),
        (lambda made: replace(made, points=made.points[:0]), "the model has no points"),
        (
            lambda made: replace(made, cameras=(Camera("PINHOLE", 800, 400, (600.0, 600.0, 400.0, 200.0)),)),
            "0.png: the photo has changed since: it has 400 x 200 pixels, and had 800 x 400",
        ),
    ],
)
def test_what_no_splat_can_be_trained_from_gets_one_line(
    photos: Photos, tmp_path: Path, change: Any, line: str
) -> None:
    with pytest.raises(InputError, match=line) as raised:
        write(change(scene()), photos, tmp_path / "out")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_a_missing_photo_is_named(photos: Photos, tmp_path: Path) -> None:
    lost = Photos((replace(photos[0], path=tmp_path / "lost.png"), *photos.photos[1:]), {})
    with pytest.raises(InputError, match=r"lost\.png: photo: No such file"):
        write(scene(), lost, tmp_path / "out")


def test_a_fisheye_of_more_than_180_degrees_keeps_what_a_plane_can_show(photos: Photos, tmp_path: Path) -> None:
    wide = Camera("OPENCV_FISHEYE", *SIDES, (110.0, 110.0, 200.0, 100.0, 0.0, 0.0, 0.0, 0.0))  # 208 degrees across
    made = write(replace(scene(), cameras=(wide,)), photos, tmp_path / "out")
    (camera,) = made.cameras.values()
    assert camera.model.name == "PINHOLE"
    half_deg = np.degrees(np.arctan(camera.width / 2 / camera.params[0]))
    assert 55.0 < half_deg <= 60.0
    assert lint(tmp_path / "out") == ()
