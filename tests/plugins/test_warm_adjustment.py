"""The warm fine stage: old photos held or moved, files of key points that it cannot read, and models without points."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from worlds import mapper_inputs

from unposed.growth.known_models import KnownKeypoints, write_keypoints
from unposed.optim.rotations import exp_so3, rotation_angle_deg
from unposed.pipeline.artifacts import Camera, InitialModel, InitialModels
from unposed.pipeline.stage import Resources, StageError
from unposed.plugins.fine.exact_points import ExactPointOptions
from unposed.plugins.fine.known_keypoints import known_keypoints
from unposed.plugins.fine.warm import WarmAdjustment

Make = Callable[..., Any]
CPU = Resources("cpu", threads=1, ram_bytes=1 << 30, vram_bytes=0)
NO_PIXELS = ExactPointOptions(enabled=False)
ARRAYS: dict[str, Any] = {"names": ["0.jpg", "1.jpg"], "start": [0, 2, 3], "keypoint": [0, 1, 2], "xy": np.ones((3, 2))}


def cut_short(file: Path) -> None:
    np.savez(file, **ARRAYS)
    file.write_bytes(file.read_bytes()[:-40])


def one_array(file: Path) -> None:
    with file.open("wb") as stream:
        np.save(stream, np.ones((3, 2)))


def changed(**arrays: Any) -> Callable[[Path], None]:
    return lambda file: np.savez(file, **{**ARRAYS, **arrays})


@pytest.mark.parametrize(
    "write",
    [
        cut_short,
        one_array,
        changed(keypoint=[0, -1, 2]),
        changed(names=["0.jpg", "1.jpg", "2.jpg"], start=[0, 3, 2, 3]),
        changed(start=[0, 3]),
        changed(names="0.jpg", start=[0, 3]),
        changed(points=np.ones((2, 3))),
        changed(points=np.ones((2, 3)), point=[0, 1, 2]),
        changed(points=np.ones((2, 3)), point=[0, 1]),
    ],
)
def test_a_file_that_has_no_key_points_is_named(collection: Make, tmp_path: Path, write: Any) -> None:
    given = mapper_inputs(collection(photos=3))
    write(file := tmp_path / "keypoints.npz")
    with pytest.raises(StageError, match=r"keypoints\.npz: cannot be read as key points"):
        known_keypoints(file, given["photos"], given["view_graph"].keypoints)


def test_a_model_without_points_is_reported_and_not_adjusted(collection: Make, tmp_path: Path) -> None:
    """Photos that lie too near each other for the angle that points must be seen under."""
    world = collection(photos=4, sweep_deg=30.0, noise_px=0.5)
    given, keypoints = mapper_inputs(world), world.graph.keypoints
    rows = {photo.name: keypoints.rows_of(index) for index, photo in enumerate(given["photos"].photos)}
    known = {
        name: KnownKeypoints(np.arange(own.stop - own.start), keypoints.xy[own], np.zeros(own.stop - own.start, int))
        for name, own in rows.items()
    }
    write_keypoints(known, None, file := tmp_path / "keypoints.npz")
    camera = Camera("SIMPLE_RADIAL", 1600, 1200, (1500.0, 800.0, 600.0, 0.0))
    model = InitialModel((camera,), np.arange(4, dtype=np.int32), np.zeros(4, np.int32), world.cam_from_world)
    coarse = InitialModels((model,), {})
    usual = WarmAdjustment(keypoints=file)(**given, resources=CPU, coarse=coarse)
    assert len(usual.models[0].points) > 100
    found = WarmAdjustment(keypoints=file, min_angle_deg=60.0)(**given, resources=CPU, coarse=coarse)
    assert found.models == ()
    assert any("give no points" in warning for warning in found.warnings)


def old_model_of(world: Any, names: list[str], late: int, file: Path, turn: float = 0.0) -> InitialModel:
    """The true model, its later half turned about the middle of the scene; the file has the points of all but one
    photo, which is a little off. A point has two places in halves that lie differently."""
    bundle = world.bundle_without(late)
    rotation, poses = exp_so3(np.array([[0.0, turn, 0.0]]))[0], world.cam_from_world.copy()
    half = late + 1
    poses[half:, :, :3] = poses[half:, :, :3] @ rotation.T
    poses[late, :, :3] = exp_so3(np.array([[2e-3, -1e-3, 1e-3]]))[0] @ poses[late, :, :3]
    point = np.where((turn != 0.0) & (bundle.photo >= half), bundle.point + len(bundle.points), bundle.point)
    points = np.concatenate([bundle.points, bundle.points @ rotation.T])
    rows = {name: np.flatnonzero(bundle.photo == k) for k, name in enumerate(names) if k != late}
    start = world.graph.keypoints.start
    known = {
        name: KnownKeypoints(bundle.row[own] - start[names.index(name)], bundle.xy[own], point[own])
        for name, own in rows.items()
    }
    write_keypoints(known, points, file)
    camera = Camera("SIMPLE_RADIAL", 1600, 1200, (1500.0, 800.0, 600.0, 0.0))
    return InitialModel((camera,), np.arange(len(names), dtype=np.int32), np.zeros(len(names), np.int32), poses)


def test_a_late_photo_gets_its_pose_while_the_others_stay(collection: Make, tmp_path: Path) -> None:
    world = collection(photos=12, noise_px=0.3)
    given, late = mapper_inputs(world), 5
    names = [photo.name for photo in given["photos"].photos]
    model = old_model_of(world, names, late, file := tmp_path / "keypoints.npz")
    coarse = InitialModels((model,), {})
    found = WarmAdjustment(keypoints=file, exact_points=NO_PIXELS)(**given, resources=CPU, coarse=coarse)
    poses, report = found.models[0].cam_from_world, found.reports[0]
    assert report.tension is not None and 0.0 < report.tension < 2.0
    others = np.arange(12) != late
    assert np.abs(poses[others] - model.cam_from_world[others]).max() < 1e-12
    how = WarmAdjustment(keypoints=file, exact_points=NO_PIXELS, max_tension=0.0)
    everything = how(**given, resources=CPU, coarse=coarse)
    assert everything.reports[0].tension is None
    off, started, of_everything = (
        rotation_angle_deg(each[late, :, :3] @ world.cam_from_world[late, :, :3].T)
        for each in (poses, model.cam_from_world, everything.models[0].cam_from_world)
    )
    assert off < 0.6 * started and off < of_everything + 0.05  # the noise of one seed is 0.03
    counts = [len(each.models[0].obs_xy) for each in (found, everything)]
    assert counts[0] > 0.98 * counts[1]


def test_halves_that_a_late_photo_shows_to_lie_otherwise_are_not_held(collection: Make, tmp_path: Path) -> None:
    world = collection(photos=12, noise_px=0.3)
    given = mapper_inputs(world)
    names = [photo.name for photo in given["photos"].photos]
    model = old_model_of(world, names, 5, file := tmp_path / "keypoints.npz", turn=6e-3)
    how = WarmAdjustment(keypoints=file, exact_points=NO_PIXELS)
    found = how(**given, resources=CPU, coarse=InitialModels((model,), {}))
    assert found.reports[0].tension is None
    errors, before = (world.errors(each) for each in (found.models[0].cam_from_world, model.cam_from_world))
    assert np.median(errors.rotation_error_deg) < 0.75 * np.median(before.rotation_error_deg)
