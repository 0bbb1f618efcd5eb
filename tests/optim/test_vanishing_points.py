"""The focal length of a single photo from made-up line segments of a room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from unposed.optim.arrays import Array
from unposed.optim.rotations import exp_so3
from unposed.optim.vanishing_points import FocalEstimate, VanishingPointOptions, focal_from_segments

WIDTH, HEIGHT, FOCAL_PX = 1000, 750, 900.0
CORNER = (0.35, -0.6, 0.05)
"""Rotation vector of a camera that looks into a corner of the room: three vanishing points are finite."""
FAST = VanishingPointOptions(samples=1000)


def room(
    turned: Sequence[float] = CORNER, *, count: int = 90, noise_px: float = 0.3, clutter: int = 0, seed: int = 0
) -> Array:
    """Segments (n, 2, 2) in pixels along the axes of a room of 8 units around a camera, and some in any direction."""
    rng = np.random.default_rng(seed)
    world_to_camera = exp_so3(np.array([turned]))[0]
    centre = np.array([WIDTH, HEIGHT]) / 2.0
    kept: list[Array] = []
    while len(kept) < count:
        start = rng.uniform([-4, -3, 2], [4, 3, 8])
        ends = np.stack([start, start + rng.uniform(0.6, 2.0) * np.eye(3)[len(kept) % 3]]) @ world_to_camera.T
        pixels = FOCAL_PX * ends[:, :2] / ends[:, 2:] + centre
        if (ends[:, 2] > 1.0).all() and ((pixels > 0) & (pixels < [WIDTH, HEIGHT])).all():
            kept.append(pixels + rng.normal(0.0, noise_px, (2, 2)))
    ends = rng.uniform([0, 0], [WIDTH, HEIGHT], (clutter, 1, 2)) + rng.normal(0.0, 40.0, (clutter, 2, 2))
    return np.concatenate([np.array(kept), ends])


def found(segments: Array, **options: Any) -> FocalEstimate:
    estimate = focal_from_segments(segments, WIDTH, HEIGHT, replace(FAST, **options))
    assert estimate is not None
    return estimate


@pytest.mark.parametrize("seed", range(3))
def test_a_corner_of_a_room_tells_the_focal_length(seed: int) -> None:
    estimate = found(room(seed=seed, clutter=25))
    assert estimate.focal_px == pytest.approx(FOCAL_PX, rel=0.05)
    assert abs(np.log(estimate.focal_px / FOCAL_PX)) < 2.0 * estimate.log_sigma < 0.3
    assert estimate.support > 0.5


def test_two_finite_vanishing_points_are_enough() -> None:
    """A house from its corner with the horizon level: its verticals are parallel in the photo."""
    assert found(room((0.0, -0.7, 0.0))).focal_px == pytest.approx(FOCAL_PX, rel=0.05)


def test_what_leaves_the_focal_length_open_gives_none() -> None:
    square = room((0.0, 0.0, 0.0))  # one vanishing point in the middle and two at infinity: any focal length fits
    assert focal_from_segments(square, WIDTH, HEIGHT, FAST) is None
    assert focal_from_segments(room(count=15), WIDTH, HEIGHT, FAST) is None
    assert focal_from_segments(np.zeros((0, 2, 2)), WIDTH, HEIGHT, FAST) is None
    plants = room(count=3, clutter=150)
    assert focal_from_segments(plants, WIDTH, HEIGHT, FAST) is None
    assert focal_from_segments(plants, WIDTH, HEIGHT, replace(FAST, min_support=0.0, max_log_sigma=9.0)) is not None


def test_the_deviation_grows_with_what_is_unknown() -> None:
    segments = room(clutter=20)
    usual = found(segments)
    assert (
        found(segments, principal_sigma=0.1).log_sigma > usual.log_sigma > found(segments, min_log_sigma=1e-6).log_sigma
    )
    assert found(room(noise_px=1.2), max_error=0.004, max_log_sigma=1.0).log_sigma > usual.log_sigma
    assert found(segments, rival_support=0.2, max_log_sigma=9.0).log_sigma > usual.log_sigma


def test_lengths_are_in_units_of_the_longer_side() -> None:
    segments = room()
    twice = focal_from_segments(2.0 * segments, 2 * WIDTH, 2 * HEIGHT, FAST)
    upright = focal_from_segments(segments[:, :, ::-1], HEIGHT, WIDTH, FAST)
    assert twice is not None and upright is not None
    assert twice.focal_px == pytest.approx(2.0 * found(segments).focal_px, rel=1e-3)
    assert upright.focal_px == pytest.approx(FOCAL_PX, rel=0.05)


@pytest.mark.parametrize(
    "change", [{"max_segments": 40}, {"min_length": 0.12}, {"samples": 300}, {"max_error": 0.002}, {"rivals": 1}]
)
def test_options_change_the_estimate(change: dict[str, Any]) -> None:
    segments = room(clutter=40)
    assert found(segments, min_support=0.2, max_log_sigma=9.0, **change) != found(segments)


@pytest.mark.parametrize("change", [{"min_ratio": 1.5}, {"max_ratio": 0.5}, {"min_segments": 200}])
def test_focal_lengths_beyond_the_range_are_not_tried(change: dict[str, Any]) -> None:
    estimate = focal_from_segments(room(), WIDTH, HEIGHT, replace(FAST, **change))
    assert estimate is None or abs(np.log(estimate.focal_px / FOCAL_PX)) > 0.3
