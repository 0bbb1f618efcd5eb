"""Linear initial positions: exact without noise, close with it, whatever the length of the loop."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from unposed.optim.arrays import Array, Index
from unposed.optim.mapping import initial_positions
from unposed.optim.mapping.global_positioning import GlobalPositioningOptions, solve_global_positions
from unposed.optim.mapping.initial_positions import InitialPositionOptions, estimate_initial_positions
from unposed.optim.mapping.tracks import establish_tracks
from unposed.optim.rotations import exp_so3
from unposed.optim.similarity import fit_similarity
from unposed.optim.view_graph import Keypoints
from unposed.synthetic.collections import EmulationOptions, emulate_collection


@dataclass(frozen=True)
class Rays:
    """Observations of an emulated collection under its true rotations, or rotations that are off."""

    rays: Array
    camera: Index
    point: Index
    pairs: Index
    eye: Array
    points: int

    def start(self, pairs: Index | None = None) -> tuple[Array, Array]:
        chosen = self.pairs if pairs is None else pairs
        return estimate_initial_positions(self.rays, self.camera, self.point, len(self.eye), self.points, chosen)

    def error(self, centres: Array) -> float:
        """Largest distance from the true positions over the extent, after alignment."""
        known = np.isfinite(centres[:, 0])
        aligned = fit_similarity(centres[known], self.eye[known])(centres[known])
        extent = np.linalg.norm(np.ptp(self.eye, axis=0))
        return float(np.linalg.norm(aligned - self.eye[known], axis=1).max() / extent)


@cache
def observed(
    layout: str, photos: int, noise_px: float = 0.0, outlier_ratio: float = 0.0, turn_deg: float = 0.0
) -> Rays:
    made = emulate_collection(layout, photos, 0, EmulationOptions(noise_px=noise_px, outlier_ratio=outlier_ratio))
    tracks = establish_tracks(Keypoints(made.xy, made.start, made.size), made.row_a, made.row_b)
    wobble = exp_so3(np.radians(turn_deg) * np.random.default_rng(1).standard_normal((photos, 3)))
    rotation = wobble @ made.cam_from_world[:, :, :3]
    local = np.column_stack([(made.xy[tracks.row] - made.size[0] / 2) / made.focal_px, np.ones(len(tracks.row))])
    local /= np.linalg.norm(local, axis=1, keepdims=True)
    rays = np.einsum("mji,mj->mi", rotation[tracks.photo], local)
    eye = -np.einsum("nji,nj->ni", made.cam_from_world[:, :, :3], made.cam_from_world[:, :, 3])
    return Rays(rays, tracks.photo, tracks.track, made.pairs, eye, tracks.count)


@pytest.mark.parametrize("layout", ["aerial", "streets", "hemisphere"])
def test_exact_without_noise(layout: str) -> None:
    scene = observed(layout, 60)
    centres, points = scene.start()
    assert scene.error(centres) < 1e-9
    # Points fit their rays as well: none is further off than rounding, in radians.
    offset = points[scene.point] - centres[scene.camera]
    known = np.isfinite(offset[:, 0])
    offset = offset[known] / np.linalg.norm(offset[known], axis=1, keepdims=True)
    assert known.mean() > 0.9
    assert np.abs(offset - scene.rays[known]).max() < 1e-6


@pytest.mark.parametrize(
    ("noise_px", "outlier_ratio", "turn_deg", "bound"),
    [(0.5, 0.0, 0.0, 0.02), (0.5, 0.05, 0.0, 0.02), (0.5, 0.02, 0.3, 0.15)],
)
def test_close_with_noise_outliers_and_rotations_that_are_off(
    noise_px: float, outlier_ratio: float, turn_deg: float, bound: float
) -> None:
    scene = observed("aerial", 60, noise_px, outlier_ratio, turn_deg)
    assert scene.error(scene.start()[0]) < bound


@pytest.mark.slow
def test_a_walk_around_a_block_closes() -> None:
    """A chain of 250 photos that ends where it began, whose end pairs alone tell so."""
    scene = observed("streets", 250, 0.5, 0.02)
    assert scene.error(scene.start()[0]) < 0.01
    found = solve_global_positions(
        scene.rays, scene.camera, scene.point, len(scene.eye), scene.points, start=scene.start()
    )
    assert scene.error(found.centres) < 0.01  # of a photo with few key points; folded walks are off by 0.3
    assert found.cost < 1e-5


def test_cameras_without_pairs_are_unknown_and_still_positioned() -> None:
    scene = observed("aerial", 60)
    pairs = scene.pairs[(scene.pairs != 7).all(axis=1)]
    centres, points = scene.start(pairs)
    assert np.flatnonzero(np.isnan(centres[:, 0])).tolist() == [7]
    found = solve_global_positions(
        scene.rays, scene.camera, scene.point, len(scene.eye), scene.points, start=(centres, points)
    )
    assert scene.error(found.centres) < 1e-3


def test_nothing_is_known_without_pairs_or_without_parallax() -> None:
    scene = observed("aerial", 20)
    assert np.isnan(scene.start(np.zeros((0, 2), np.int64))[0]).all()
    options = InitialPositionOptions(min_angle_deg=80.0)
    sizes = len(scene.eye), scene.points
    centres, _ = estimate_initial_positions(scene.rays, scene.camera, scene.point, *sizes, scene.pairs, options)
    assert np.isnan(centres).all()


def test_random_starts_follow_where_the_start_is_useless() -> None:
    scene = observed("aerial", 20)
    nothing = np.full((20, 3), np.nan), np.full((scene.points, 3), np.nan)
    for start in (nothing, None):
        found = solve_global_positions(
            scene.rays, scene.camera, scene.point, 20, scene.points, start=start, options=GlobalPositioningOptions()
        )
        assert scene.error(found.centres) < 1e-3


def test_a_point_that_a_camera_sees_twice_counts_once() -> None:
    scene = observed("aerial", 20)
    twice = np.repeat(np.arange(len(scene.rays)), 1 + (np.arange(len(scene.rays)) % 7 == 0))
    sizes = len(scene.eye), scene.points
    centres, _ = estimate_initial_positions(
        scene.rays[twice], scene.camera[twice], scene.point[twice], *sizes, scene.pairs
    )
    assert scene.error(centres) < 1e-9


def test_the_same_bits_every_time() -> None:
    scene = observed("streets", 60, 0.5, 0.02)
    assert scene.start()[0].tobytes() == scene.start()[0].tobytes()


def test_depths_of_pairs_take_memory_for_a_few_pairs_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = observed("streets", 60, noise_px=0.5)
    found, peaks = [], []
    for edges in (16, len(seen.pairs)):
        monkeypatch.setattr(initial_positions, "EDGE_CHUNK", edges)
        tracemalloc.start()
        shape = len(seen.eye), seen.points
        options = InitialPositionOptions()
        found.append(initial_positions._pair_depths(seen.rays, seen.camera, seen.point, shape, seen.pairs, options))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    for column in ("direction", "half", "observation", "log_depth"):
        np.testing.assert_array_equal(*(getattr(each, column) for each in found))
    assert peaks[0] < 0.5 * peaks[1]
