"""Rigs by a file or by folders: what is taken for one, and what becomes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unposed.optim.rotations import exp_so3, rotation_from_quaternion
from unposed.pipeline.artifacts import Camera, CameraPriors, Photo, Photos
from unposed.pipeline.errors import InputError
from unposed.plugins.cameras.exif import ExifCameras

NAMES = [f"{side}/{i}.jpg" for side in ("left", "right") for i in range(4)] + ["z.jpg"]
POSE = {"cam_from_rig_rotation": [np.sqrt(0.5), 0.0, -np.sqrt(0.5), 0.0], "cam_from_rig_translation": [0.1, 0.0, 0.2]}
LEFT: dict[str, Any] = {"image_prefix": "left/", "ref_sensor": True}
RIGHT: dict[str, Any] = {"image_prefix": "right/", **POSE}


def photos(names: list[str] = NAMES) -> Photos:
    return Photos(tuple(Photo(name, Path(name), name, 640, 480) for name in sorted(names)), {})


@pytest.fixture
def priors(tmp_path: Path) -> Callable[..., CameraPriors]:
    def make(content: object, names: list[str] = NAMES, **options: Any) -> CameraPriors:
        file = tmp_path / "rig_config.json"
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        return ExifCameras(rigs=file, **options)(photos(names))

    return make


def test_a_file_says_what_was_taken_together(priors: Callable[..., CameraPriors]) -> None:
    rigs = priors([{"cameras": [RIGHT, LEFT]}]).rigs  # the reference need not come first
    assert rigs is not None
    assert rigs.frame_of_photo.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 4]
    assert rigs.sensor_of_photo.tolist() == [0] * 4 + [1] * 4 + [-1]
    np.testing.assert_array_equal(rigs.sensor_from_rig[0], np.eye(3, 4))
    np.testing.assert_allclose(
        rigs.sensor_from_rig[1, :, :3], exp_so3(np.array([[0.0, -np.pi / 2, 0.0]]))[0], atol=1e-12
    )
    np.testing.assert_array_equal(rigs.sensor_from_rig[1, :, 3], [0.1, 0.0, 0.2])
    assert not rigs.refined.any() and not rigs.central
    free = priors([{"cameras": [RIGHT, LEFT]}], refine_rigs=True).rigs
    assert free is not None and free.refined.tolist() == [False, True]


def test_sensors_without_a_pose_are_to_be_found(priors: Callable[..., CameraPriors]) -> None:
    rigs = priors([{"cameras": [LEFT, {"image_prefix": "right/"}]}]).rigs
    assert rigs is not None
    assert np.isnan(rigs.sensor_from_rig[1]).all() and rigs.refined.tolist() == [False, True]
    assert rigs.known.tolist() == [True] * 4 + [False] * 5
    assert len(set(rigs.tied.tolist())) == 9


def test_each_sensor_has_a_camera_of_its_own_and_may_be_given(priors: Callable[..., CameraPriors]) -> None:
    cameras = priors([{"cameras": [LEFT, RIGHT]}])
    assert cameras.camera_of_photo.tolist() == [0] * 4 + [1] * 4 + [2]
    given = {**RIGHT, "camera_model_name": "PINHOLE", "camera_params": [500, 501, 320, 240]}
    cameras = priors([{"cameras": [LEFT, given]}])
    assert cameras.cameras[1] == Camera("PINHOLE", 640, 480, (500.0, 501.0, 320.0, 240.0))
    assert cameras.focal_source == ("guess", "given", "guess") and cameras.grouping == "assumed"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("nonsense", "cannot be read as JSON"),
        ([], "expected a list of rigs"),
        ({"cameras": []}, "expected a list of rigs"),
        ([{"cameras": [RIGHT]}], "exactly one of its cameras must have ref_sensor"),
        ([{"cameras": [LEFT, {**RIGHT, "image_prefix": 3}]}], "needs an image_prefix"),
        ([{"cameras": [LEFT, {**RIGHT, "cam_from_rig_rotation": [1, 0, 0]}]}], "expected 4 numbers"),
        ([{"cameras": [LEFT, {**RIGHT, "cam_from_rig_rotation": [1, 1, 0, 0]}]}], "no unit quaternion"),
        (
            [{"cameras": [LEFT, {**RIGHT, "cam_from_rig_translation": None}]}],
            "cam_from_rig_translation: expected 3 numbers",
        ),
        ([{"cameras": [LEFT, {**RIGHT, "camera_model_name": "X"}]}], "camera_model_name is none of"),
        ([{"cameras": [LEFT, {**RIGHT, "camera_model_name": "PINHOLE"}]}], "camera_params: expected 4 numbers"),
        ([{"cameras": [{**LEFT, "image_prefix": "nowhere/"}]}], "the names of no photos begin with"),
        ([{"cameras": [LEFT, {**RIGHT, "camera_model_name": ["PINHOLE"]}]}], "camera_model_name is none of"),
        (
            [{"cameras": [LEFT, {**RIGHT, "camera_model_name": "PINHOLE", "camera_params": [-5, 5, 320, 240]}]}],
            "the focal length must be above 0",
        ),
        ([{"cameras": [LEFT, {**RIGHT, "image_prefix": "left/"}]}], "this image_prefix is there twice"),
        ([{"cameras": [LEFT, {**RIGHT, "image_prefix": "rihgt/"}]}], "no photo begins with the image_prefix rihgt/"),
    ],
)
def test_malformed_files_are_refused(priors: Callable[..., CameraPriors], content: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        priors(content)


def test_a_camera_whose_photos_are_all_left_out_does_no_harm(priors: Callable[..., CameraPriors]) -> None:
    rigs = priors([{"cameras": [LEFT, RIGHT]}], ["left/0.jpg", "left/1.jpg"]).rigs
    assert rigs is not None
    assert rigs.sensor_of_photo.tolist() == [0, 0]


@pytest.mark.parametrize("order", [1, -1])
def test_the_longest_prefix_says_which_sensor_it_was(priors: Callable[..., CameraPriors], order: int) -> None:
    ten, one = {"image_prefix": "cam10", "ref_sensor": True}, {**RIGHT, "image_prefix": "cam1"}
    rigs = priors([{"cameras": [ten, one][::order]}], ["cam1/a.jpg", "cam10/a.jpg"]).rigs
    assert rigs is not None
    assert len(set(rigs.frame_of_photo.tolist())) == 1
    assert sorted(rigs.sensor_of_photo.tolist()) == [0, 1]


def test_two_photos_of_one_sensor_and_moment_are_named(priors: Callable[..., CameraPriors]) -> None:
    with pytest.raises(InputError, match=r"left/0\.jpg and left/0\.png are of one camera and moment"):
        priors([{"cameras": [LEFT, RIGHT]}], [*NAMES, "left/0.png"])


def test_folders_with_the_same_names_may_be_a_rig() -> None:
    rigs = ExifCameras()(photos()).rigs
    assert rigs is not None
    assert rigs.frame_of_photo.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 4]
    assert rigs.known.tolist() == [True] * 4 + [False] * 5  # nothing is tied as long as no pose is known
    assert ExifCameras(folder_rigs=False)(photos()).rigs is None
    assert ExifCameras()(photos([*NAMES[:2], *NAMES[4:6]])).rigs is None  # two moments
    other_names = [name.replace("right/", "right/b") for name in NAMES]
    assert ExifCameras()(photos(other_names)).rigs is None
    elsewhere = [name.replace("right/", "there/right/") for name in NAMES]
    assert ExifCameras()(photos(elsewhere)).rigs is None


def test_given_poses_and_rigs_exclude_each_other(tmp_path: Path, priors: Callable[..., CameraPriors]) -> None:
    poses = tmp_path / "poses.json"
    entry = {"R_w2c": np.eye(3).tolist(), "t_w2c": [0, 0, 0]}
    poses.write_text(json.dumps({"images": {"left/0.jpg": entry, "z.jpg": entry}}))
    with pytest.raises(InputError, match=r"left/0\.jpg belongs to a rig"):
        priors([{"cameras": [LEFT, RIGHT]}], poses=poses)
    assert ExifCameras(poses=poses)(photos()).rigs is None


def test_quaternions_are_those_of_rodrigues() -> None:
    turns = np.random.default_rng(0).normal(0.0, 1.0, (20, 3))
    angle = np.linalg.norm(turns, axis=1, keepdims=True)
    quaternions = np.concatenate([np.cos(angle / 2), np.sin(angle / 2) * turns / angle], axis=1)
    np.testing.assert_allclose(rotation_from_quaternion(3.0 * quaternions), exp_so3(turns), atol=1e-12)
    np.testing.assert_allclose(rotation_from_quaternion(quaternions[0]), exp_so3(turns[:1])[0], atol=1e-12)
