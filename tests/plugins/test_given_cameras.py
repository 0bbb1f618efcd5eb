"""Intrinsics and poses from files: what they mean, and what is said of bad ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unposed.pipeline.artifacts import Camera, Photo, Photos
from unposed.pipeline.errors import InputError
from unposed.plugins.cameras.exif import ExifCameras
from unposed.plugins.shared.models import intrinsics_of_priors

SIZES = {"a/1.jpg": (800, 600), "a/2.jpg": (800, 600), "b.png": (640, 480)}
PHOTOS = Photos(tuple(Photo(name, Path(name), name, *size) for name, size in SIZES.items()), {})
K = [[700.0, 0.0, 399.5], [0.0, 710.0, 299.5], [0.0, 0.0, 1.0]]
TURN = [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]


def write(path: Path, images: dict[str, Any], **more: Any) -> Path:
    path.write_text(json.dumps({"images": images, **more}), encoding="utf-8")
    return path


def test_intrinsics_photo_by_photo(tmp_path: Path) -> None:
    file = write(tmp_path / "k.json", {"a/1.jpg": {"K": K}, "b.png": {"K": K, "dist": [0.1, 0, 0.01]}, "other": {}})
    cameras = ExifCameras(intrinsics=file)(PHOTOS)
    assert cameras.camera_of_photo.tolist() == [0, 1, 2]
    assert cameras.focal_source == ("given", "guess", "given")
    assert cameras.grouping == "assumed"
    assert cameras.cameras[0] == Camera("PINHOLE", 800, 600, (700.0, 710.0, 399.5, 299.5))
    assert cameras.cameras[2] == Camera("OPENCV", 640, 480, (700.0, 710.0, 399.5, 299.5, 0.1, 0.0, 0.01, 0.0))
    assert cameras.cam_from_world is None


def test_equal_intrinsics_are_one_camera(tmp_path: Path) -> None:
    convention = "centre of top-left pixel is (0,0)"
    file = write(tmp_path / "k.json", {p.name: {"K": K} for p in PHOTOS.photos}, pixel_convention=convention)
    cameras = ExifCameras(intrinsics=file)(PHOTOS)
    assert cameras.camera_of_photo.tolist() == [0, 0, 1]
    assert cameras.grouping == "given"
    assert cameras.cameras[0].params == (700.0, 710.0, 400.0, 300.0)


def test_intrinsics_with_standard_deviations(tmp_path: Path) -> None:
    """What has one is held by a prior, and photos of other deviations are of other cameras."""
    sigma = {"f": 7.0, "dist": [0.02, 0.01, 0.0, 0.0]}
    file = write(tmp_path / "k.json", {"a/1.jpg": {"K": K, "sigma": sigma}, "a/2.jpg": {"K": K}, "other": {"sigma": 1}})
    cameras = ExifCameras(intrinsics=file)(PHOTOS)
    assert cameras.focal_source == ("given", "given", "guess")
    assert [camera.model for camera in cameras.cameras[:2]] == ["OPENCV", "PINHOLE"]  # distortion is to be found
    assert cameras.given_sigma is not None
    assert cameras.given_sigma.tolist() == [[7.0, 7.0, 0.0, 0.0, 0.02, 0.01, 0.0, 0.0], [0.0] * 8, [0.0] * 8]
    prior = intrinsics_of_priors(cameras, 1.0).prior
    np.testing.assert_allclose(prior.sigma[0], [7.0, 7.0, 1e-6, 1e-6, 0.02, 0.01, 1e-6, 1e-6])
    np.testing.assert_allclose(prior.sigma[1], 1e-6)
    assert np.isinf(prior.sigma[2, 0])  # a guess has no prior, whatever others were given


def test_intrinsics_without_standard_deviations_are_constant(tmp_path: Path) -> None:
    cameras = ExifCameras(intrinsics=write(tmp_path / "k.json", {"a/1.jpg": {"K": K}}))(PHOTOS)
    assert cameras.given_sigma is None


def test_intrinsics_by_size(tmp_path: Path) -> None:
    file = tmp_path / "cameras.txt"
    file.write_text("# Camera list\n1 SIMPLE_RADIAL 800 600 700 400 300 -0.1\n\n2 PINHOLE 99 99 1 1 1 1\n")
    cameras = ExifCameras(intrinsics=file)(PHOTOS)
    assert cameras.camera_of_photo.tolist() == [0, 0, 1]
    assert cameras.focal_source == ("given", "guess")
    assert cameras.cameras[0] == Camera("SIMPLE_RADIAL", 800, 600, (700.0, 400.0, 300.0, -0.1))


def test_poses(tmp_path: Path) -> None:
    images = {"a/2.jpg": {"R_w2c": TURN, "t_w2c": [1, 2, 3]}, "b.png": {"R_w2c": None}}
    poses = ExifCameras(poses=write(tmp_path / "p.json", images))(PHOTOS).cam_from_world
    assert poses is not None
    np.testing.assert_allclose(poses[1], np.column_stack([TURN, [1, 2, 3]]), atol=1e-15)
    assert np.isnan(poses[[0, 2]]).all()


def test_poses_with_standard_deviations_are_rough_and_others_exact(tmp_path: Path) -> None:
    pose = {"R_w2c": TURN, "t_w2c": [1, 2, 3]}
    images = {
        "a/1.jpg": {**pose, "sigma_deg": 2.0, "sigma_position": 0.1},
        "a/2.jpg": pose,
        "b.png": {**pose, "sigma_position": 0.3},
    }
    sigma = ExifCameras(poses=write(tmp_path / "p.json", images))(PHOTOS).pose_sigma
    np.testing.assert_array_equal(sigma, [[2.0, 0.1], [0.0, 0.0], [np.inf, 0.3]])
    images = {"a/1.jpg": pose}
    assert ExifCameras(poses=write(tmp_path / "p.json", images))(PHOTOS).pose_sigma is None


WORLD_FROM_CAM = np.column_stack([np.array(TURN, float), [1.0, 2.0, 3.0]])
FROM_GL = np.diag([1.0, -1.0, -1.0])


def transforms(folder: Path) -> Path:
    """Names with other folders and without endings, OpenGL axes, rows."""
    rows = np.vstack([np.column_stack([WORLD_FROM_CAM[:, :3] @ FROM_GL, WORLD_FROM_CAM[:, 3]]), [0, 0, 0, 1]])
    frames = [{"file_path": "./images/2", "transform_matrix": rows.tolist()}]
    (folder / "transforms.json").write_text(json.dumps({"frames": frames}))
    return folder / "transforms.json"


def arkit(folder: Path) -> Path:
    """The same, columns one after the other."""
    frames = json.loads(transforms(folder).read_text())["frames"]
    columns = np.array(frames[0]["transform_matrix"]).T
    entries = [
        {"image": "2.jpg", "transform": columns.tolist()},
        {"name": "b.png", "transform": columns.ravel().tolist()},
    ]
    (folder / "arkit.json").write_text(json.dumps({"frames": entries}))
    return folder / "arkit.json"


def trajectory(folder: Path) -> Path:
    """TURN is a quarter turn about z."""
    (folder / "poses.tum").write_text(f"# time x y z qx qy qz qw\n2 1 2 3 0 0 {0.5**0.5} {0.5**0.5}\n")
    return folder / "poses.tum"


def colmap(folder: Path) -> Path:
    world_from_cam = WORLD_FROM_CAM[:, :3]
    x, y, z = -world_from_cam.T @ WORLD_FROM_CAM[:, 3]
    (folder / "cameras.txt").write_text("1 PINHOLE 800 600 700 700 400 300\n")
    (folder / "images.txt").write_text(f"1 {0.5**0.5} 0 0 {-(0.5**0.5)} {x} {y} {z} 1 a/2.jpg\n\n")
    (folder / "points3D.txt").write_text("")
    return folder / "images.txt"


@pytest.mark.parametrize("source", [transforms, arkit, trajectory, colmap])
def test_poses_of_other_programs(tmp_path: Path, source: Any) -> None:
    found = ExifCameras(poses=source(tmp_path))(PHOTOS).cam_from_world
    assert found is not None
    rotation = WORLD_FROM_CAM[:, :3].T
    np.testing.assert_allclose(found[1], np.column_stack([rotation, -rotation @ [1.0, 2.0, 3.0]]), atol=1e-12)
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[2]).all() == (source is arkit)


def test_entries_by_photo_need_no_folders_and_endings(tmp_path: Path) -> None:
    pose = {"R_w2c": TURN, "t_w2c": [1.0, 2.0, 3.0]}
    file = write(
        tmp_path / "p.json", {"2.jpg": {"K": K, "sigma": {"f": 5}, **pose, "sigma_deg": 2}, "b": pose, "c": pose}
    )
    found = ExifCameras(poses=file, intrinsics=file)(PHOTOS)
    assert found.focal_source == ("guess", "given", "guess")
    assert found.cam_from_world is not None and found.pose_sigma is not None
    assert np.isnan(found.cam_from_world[0]).all() and np.isfinite(found.cam_from_world[1:]).all()
    assert found.pose_sigma[1:, 0].tolist() == [2.0, 0.0]
    folders = write(
        tmp_path / "f.json", {"a/1.jpg": pose, "c/1.jpg": {"R_w2c": None}, "c/2.jpg": pose, "d/2.jpg": pose}
    )
    poses = ExifCameras(poses=folders)(PHOTOS).cam_from_world
    assert poses is not None
    assert np.isfinite(poses).all(axis=(1, 2)).tolist() == [True, False, False], "two entries are called 2.jpg"


def test_a_name_that_two_photos_have_says_nothing(tmp_path: Path) -> None:
    twice = Photos((*PHOTOS.photos, Photo("c/2.jpg", Path("c/2.jpg"), "c", 800, 600)), {})
    with pytest.raises(InputError, match="pose of none of the photos"):
        ExifCameras(poses=trajectory(tmp_path))(twice)


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("p.tum", "2 1 2 3 0 0 0\n", "expected lines"),
        ("p.tum", "2 1 2 3 0 0 0 0\n", "expected lines"),
        ("p.tum", "# nothing\n", "has no pose"),
        ("p.json", '{"frames": [{"image": "2.jpg", "transform": [1, 2]}]}', "2.jpg: transform: expected 4 x 4 numbers"),
        ("p.json", '{"frames": [{"transform": [1, 2]}]}', "a frame has no file_path"),
        (
            "p.json",
            '{"images": {"b.png": {"R_w2c": [[1,0,0],[0,1,0],[0,0,1]], "t_w2c": [0,0,0], "sigma_position": -1}}}',
            "above 0",
        ),
    ],
)
def test_bad_poses_of_other_programs_are_named(tmp_path: Path, name: str, text: str, problem: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=problem):
        ExifCameras(poses=tmp_path / name)(PHOTOS)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"K": [1, 2, 3]}, "a/1.jpg: K: expected 3 x 3 numbers"),
        ({"K": [["a"] * 3] * 3}, "K: expected 3 x 3 numbers"),
        ({"K": [[-1, 0, 1], [0, 1, 1], [0, 0, 1]]}, r"K must be \[\[fx, 0, cx\]"),
        ({"K": [[float("nan"), 0, 1], [0, 1, 1], [0, 0, 1]]}, "K: expected 3 x 3 numbers"),
        ({"K": K, "width": 1600, "height": 1200}, "is 800 x 600, and the file says 1600 x 1200"),
        ({"K": K, "dist": [0, 0, 0, 0, 0.3]}, "more terms than k1, k2, p1, p2"),
        ({"K": K, "sigma": 3.0}, r'a/1.jpg: sigma: expected {"f": pixels'),
        ({"K": K, "sigma": {"focal": 3.0}}, 'sigma: expected {"f": pixels'),
        ({"K": K, "sigma": {"f": -3.0}}, "sigma: a standard deviation is negative"),
        ({"K": K, "sigma": {"dist": [0.1]}}, "sigma: dist: expected 4 numbers"),
        ({}, "knows the camera of none of the photos"),
    ],
)
def test_bad_intrinsics_are_named(tmp_path: Path, entry: dict[str, Any], problem: str) -> None:
    file = write(tmp_path / "k.json", {"a/1.jpg": entry})
    with pytest.raises(InputError, match=problem):
        ExifCameras(intrinsics=file)(PHOTOS)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("1 PINHOLE 800 600 700 700 400\n", r"PINHOLE with 3 parameters is none of .*PINHOLE \(4\)"),
        ("1 PINHOLE 800\n", "expected CAMERA_ID MODEL WIDTH HEIGHT"),
        ("1 PINHOLE 800 600 nan 700 400 300\n", "are no camera's"),
        ("1 SIMPLE_PINHOLE 8 6 7 4 3\n2 SIMPLE_PINHOLE 8 6 8 4 3\n", "two cameras of 8 x 6"),
        ("1 SIMPLE_PINHOLE 8 6 7 4 3\n", "knows the camera of none of the photos"),
    ],
)
def test_bad_lists_of_cameras_are_named(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "cameras.txt"
    file.write_text(text)
    with pytest.raises(InputError, match=problem):
        ExifCameras(intrinsics=file)(PHOTOS)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"R_w2c": [[2, 0, 0], [0, 1, 0], [0, 0, 1]], "t_w2c": [0, 0, 0]}, "is no rotation"),
        ({"R_w2c": [[-1, 0, 0], [0, 1, 0], [0, 0, 1]], "t_w2c": [0, 0, 0]}, "is no rotation"),
        ({"R_w2c": TURN, "t_w2c": [0, 0]}, "t_w2c: expected 3 numbers"),
        ({}, "knows the pose of none of the photos"),
    ],
)
def test_bad_poses_are_named(tmp_path: Path, entry: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        ExifCameras(poses=write(tmp_path / "p.json", {"a/1.jpg": entry}))(PHOTOS)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "is no JSON"),
        ("[1]", "expected {\"images\""),
        ('{"images": {"a/1.jpg": 3}}', "expected {\"images\""),
        ('{"images": {}, "pixel_convention": "as usual"}', "pixel_convention names neither"),
    ],
)  # fmt: skip
def test_other_files_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "k.json"
    file.write_text(text)
    with pytest.raises(InputError, match=problem):
        ExifCameras(intrinsics=file)(PHOTOS)
    with pytest.raises(InputError, match="cannot be read"):
        ExifCameras(poses=tmp_path / "absent.json")(PHOTOS)
