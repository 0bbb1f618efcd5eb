"""Points that very many photos see are adjusted in parts, which costs less and hardly any accuracy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from unposed.optim.bundle.adjust import adjust_bundle
from unposed.optim.bundle.long_tracks import join_parts, split_long_tracks
from unposed.optim.bundle.problem import Bundle, BundleOptions
from unposed.optim.rotations import exp_so3

Make = Callable[..., Any]


def bundle_of_lengths(lengths: list[int]) -> Bundle:
    point = np.repeat(np.arange(len(lengths)), lengths)
    photo = np.concatenate([np.arange(length) for length in lengths])
    photos = max(lengths)
    poses = np.tile(np.eye(3, 4), (photos, 1, 1))
    points = np.arange(3.0 * len(lengths)).reshape(-1, 3)
    count = len(point)
    return Bundle(
        ("PINHOLE",), np.ones((1, 8)), np.zeros(photos, np.int64), poses, points, np.zeros((count, 2)), photo, point,
        np.arange(count),
    )  # fmt: skip


@pytest.mark.parametrize("most", [4, 5, 10])
def test_parts_are_of_equal_length_and_any_two_photos_share_some(most: int) -> None:
    lengths = [2, most, most + 1, 3 * most, *[7 * most + 3] * 400]
    bundle = bundle_of_lengths(lengths)
    split, origin, order = split_long_tracks(bundle, most)
    length = np.bincount(split.point)
    assert (origin[split.point] == bundle.point).all() and (np.diff(origin) >= 0).all()
    assert (length[:2] == lengths[:2]).all() and origin[:2].tolist() == [0, 1]
    assert length[2:].min() >= most // 2 and length.max() == most
    assert (np.sort(order) == np.arange(len(order))).all()
    assert (split.row == bundle.row[order]).all() and (bundle.point[order] == bundle.point).all()
    seen = np.zeros((len(split.points), max(lengths)))
    seen[split.point, split.photo] = 1.0
    assert (seen.T @ seen).min() > 0
    joined = join_parts(split, bundle, origin)
    np.testing.assert_allclose(joined.points, bundle.points)
    assert (joined.row == bundle.row).all()


def test_a_joined_point_is_the_mean_of_its_parts_by_observations() -> None:
    bundle = bundle_of_lengths([2, 5, 9])
    split, origin, _ = split_long_tracks(bundle, 4)
    length = np.bincount(split.point)
    joined = join_parts(replace(split, points=split.points + np.arange(len(origin))[:, None]), bundle, origin)
    for point in range(3):
        own = np.flatnonzero(origin == point)
        expected = bundle.points[point] + np.average(own, weights=length[own])
        np.testing.assert_allclose(joined.points[point], expected)


def test_parts_leave_the_poses_as_exact(collection: Make) -> None:
    world = collection(photos=20, points=80, sweep_deg=120.0, noise_px=0.5)
    bundle = world.bundle()
    assert np.bincount(bundle.point).max() > 12
    rng = np.random.default_rng(0)
    poses = bundle.cam_from_world.copy()
    poses[:, :, :3] = exp_so3(0.005 * rng.standard_normal((20, 3))) @ poses[:, :, :3]
    start = replace(bundle, cam_from_world=poses)
    errors = []
    for most in (1000, 8):
        found, _ = adjust_bundle(start, BundleOptions(max_track_length=most, tolerance=1e-4))
        assert len(found.points) == len(bundle.points) and (found.point == bundle.point).all()
        errors.append(float(np.median(world.errors(found.cam_from_world).rotation_error_deg)))
    assert errors[1] != errors[0] and errors[1] < 1.2 * errors[0] < 0.3
