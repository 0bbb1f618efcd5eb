"""Poses and focal lengths from point maps: whose focal length is whose, what is left out, and senseless input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from unposed.optim.bundle.intrinsics import Intrinsics, intrinsics_with_priors
from unposed.optim.evaluation import evaluate_poses
from unposed.optim.pointmaps.pair_depths import LATTICE_SIDE, PairDepths, lattice_cells
from unposed.optim.pointmaps.point_map_mapper import PointMapPoses, poses_from_pair_depths

SIZE = np.array([640.0, 480.0])
PIXEL_NOISE = 0.5


class World:
    """Cameras on an arc around a cloud in front of a wall, paired with their neighbours."""

    def __init__(self, focal: np.ndarray, *, reach: int = 3, matches: int = 60, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        n = self.photos = len(focal)
        turn = np.linspace(-0.8, 0.8, n)
        centres = 6.0 * np.column_stack([np.sin(turn), 0.2 * rng.standard_normal(n), -np.cos(turn)])
        forward = np.array([0.0, 0.0, 0.0]) - centres
        forward /= np.linalg.norm(forward, axis=1, keepdims=True)
        right = np.cross([0.0, 1.0, 0.0], forward)
        right /= np.linalg.norm(right, axis=1, keepdims=True)
        rotation = np.stack([right, np.cross(forward, right), forward], axis=1)
        self.truth = np.concatenate([rotation, -rotation @ centres[:, :, None]], axis=2)
        self.focal = focal
        cloud = rng.uniform((-2.2, -1.6, -1.5), (2.2, 1.6, 1.5), (800, 3))
        pairs = [(a, b) for a in range(n) for b in range(a + 1, min(n, a + reach + 1))]
        e, k = len(pairs), matches
        xy, depth = np.zeros((e, 2, k, 2)), np.zeros((e, 2, k))
        lattice = np.full((e, 2, LATTICE_SIDE**2), np.nan)
        for edge, pair in enumerate(pairs):
            some = rng.choice(len(cloud), k, replace=False)
            for side, photo in enumerate(pair):
                y = cloud @ rotation[photo].T + self.truth[photo, :, 3]
                pixel = y[:, :2] / y[:, 2:] * focal[photo] + SIZE / 2
                scale = np.exp(0.1 * rng.standard_normal())
                xy[edge, side] = pixel[some] + PIXEL_NOISE * rng.standard_normal((k, 2))
                depth[edge, side] = scale * y[some, 2] * np.exp(0.02 * rng.standard_normal(k))
                seen = ((pixel > 0) & (pixel < SIZE)).all(axis=1)
                lattice[edge, side, lattice_cells(pixel[seen], SIZE)] = np.log(scale * y[seen, 2])
        said = focal[np.array(pairs)] * np.exp(0.02 * rng.standard_normal((e, 2)))
        ones = np.ones((e, k))
        self.maps = PairDepths(np.array(pairs), xy, depth, ones, lattice, said, np.zeros(e, bool))

    def align(
        self, initial_intrinsics: Intrinsics, sigma: list[float], maps: PairDepths | None = None, split: bool = True
    ) -> PointMapPoses:
        found = poses_from_pair_depths(
            maps or self.maps,
            np.tile(SIZE, (self.photos, 1)),
            initial_intrinsics,
            np.array(sigma),
            noise_px=PIXEL_NOISE,
            may_split=split,
        )
        assert found is not None
        return found

    def rotation_deg(self, found: PointMapPoses) -> float:
        error = evaluate_poses(self.truth, found.cam_from_world).relative_rotation_median_deg
        assert error is not None
        return error


def initial_intrinsics(camera_of_photo: list[int], focal: float = 700.0) -> Intrinsics:
    cameras = max(camera_of_photo) + 1
    params = [(focal, *(SIZE / 2))] * cameras
    sizes = np.tile(SIZE, (cameras, 1))
    return intrinsics_with_priors(
        ["SIMPLE_PINHOLE"] * cameras, params, sizes, ["guess"] * cameras, np.array(camera_of_photo), 1.0
    )


def test_one_focal_length_for_all_where_all_share_it() -> None:
    world = World(np.full(10, 500.0))
    found = world.align(initial_intrinsics([0] * 10), [np.inf])
    assert len(found.intrinsics.models) == 1
    assert found.intrinsics.values[0, 0] == pytest.approx(500.0, rel=0.005)
    assert world.rotation_deg(found) < 0.2
    assert found.consistent.all()


def test_photos_of_equal_size_with_focal_lengths_of_their_own() -> None:
    focal = 500.0 * np.exp(0.04 * np.random.default_rng(1).standard_normal(10))
    world = World(focal)
    found = world.align(initial_intrinsics([0] * 10), [np.inf])
    assert len(found.intrinsics.models) == 10
    np.testing.assert_allclose(found.intrinsics.values[found.intrinsics.camera_of_photo, 0], focal, rtol=0.015)
    assert world.rotation_deg(found) < 0.3


def test_groups_that_are_a_fact_stay_together() -> None:
    focal = np.where(np.arange(10) % 2, 450.0, 550.0)
    found = World(focal).align(initial_intrinsics([0, 1] * 5), [np.inf, np.inf], split=False)
    np.testing.assert_allclose(found.intrinsics.values[:, 0], [550.0, 450.0], rtol=0.01)


def test_given_focal_lengths_stay_and_those_of_exif_nearly() -> None:
    world = World(np.full(10, 500.0))
    given = world.align(initial_intrinsics([0] * 10, 510.0), [0.0], split=False)
    assert given.intrinsics.values[0, 0] == pytest.approx(510.0, rel=1e-4)
    exif = world.align(initial_intrinsics([0] * 10, 520.0), [0.05], split=False)
    assert exif.intrinsics.values[0, 0] == pytest.approx(500.0, rel=0.01)


def test_the_larger_island_is_aligned_and_the_other_left() -> None:
    world = World(np.full(10, 500.0))
    keep = (world.maps.pairs < 6).all(axis=1) | (world.maps.pairs >= 6).all(axis=1)
    found = world.align(initial_intrinsics([0] * 10), [np.inf], world.maps.select(keep))
    np.testing.assert_array_equal(found.registered, np.arange(10) < 6)
    outside = world.maps.pairs[keep].min(axis=1) >= 6
    np.testing.assert_array_equal(found.consistency[outside], 0.0)


def test_senseless_numbers_do_no_harm() -> None:
    """A photo whose depths are all unknown has no place; single depths that are none are not missed."""
    world = World(np.full(10, 500.0))
    depth, lattice = world.maps.depth.copy(), world.maps.lattice.copy()
    depth[:, :, ::7] = np.nan
    depth[:, 0, 1::7] = np.inf
    depth[:, 1, 2::7] = -1.0
    of_last = world.maps.pairs == 9
    depth[of_last] = np.nan
    lattice[of_last] = np.nan
    found = world.align(initial_intrinsics([0] * 10), [np.inf], replace(world.maps, depth=depth, lattice=lattice))
    np.testing.assert_array_equal(found.registered, np.arange(10) < 9)
    assert np.isfinite(found.cam_from_world[:9]).all()
    assert np.isfinite(found.intrinsics.values).all()
    assert world.rotation_deg(found) < 0.2


def test_no_depth_at_all_is_nothing() -> None:
    world = World(np.full(4, 500.0))
    nothing = replace(world.maps, depth=np.full_like(world.maps.depth, np.nan))
    sizes = np.tile(SIZE, (4, 1))
    found = poses_from_pair_depths(
        nothing, sizes, initial_intrinsics([0] * 4), np.array([np.inf]), noise_px=0.5, may_split=True
    )
    assert found is None
    none = world.maps.select(np.zeros(len(world.maps.pairs), bool))
    assert (
        poses_from_pair_depths(
            none, sizes, initial_intrinsics([0] * 4), np.array([np.inf]), noise_px=0.5, may_split=True
        )
        is None
    )


def test_two_photos_are_a_scene() -> None:
    world = World(np.full(2, 500.0))
    found = world.align(initial_intrinsics([0, 0]), [np.inf])
    assert found.registered.all()
    assert world.rotation_deg(found) < 1.0


def test_the_same_input_gives_the_same_bits() -> None:
    world = World(np.full(8, 500.0))
    first, second = (world.align(initial_intrinsics([0] * 8), [np.inf]) for _ in range(2))
    assert first.cam_from_world.tobytes() == second.cam_from_world.tobytes()
