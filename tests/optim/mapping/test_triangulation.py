"""Points from known cameras."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from unposed.optim.bundle.losses import CAUCHY
from unposed.optim.bundle.problem import Bundle, errors_px
from unposed.optim.mapping.point_refinement import refine_points
from unposed.optim.mapping.tracks import Tracks, establish_tracks
from unposed.optim.mapping.triangulation import (
    angles_deg,
    keep_observations,
    one_point_per_place,
    rays_of,
    track_errors_px,
    triangulate,
    without_weak_photos,
)
from unposed.optim.view_graph import Keypoints

Make = Callable[..., Any]
LENS = ((1500.0, 810.0, 590.0, -0.05),)


def solve(world: Any, tracks: Tracks, keypoints: Keypoints | None = None, **options: Any) -> Bundle:
    truth = world.bundle()
    poses = options.pop("poses", truth.cam_from_world)
    limits = {"max_error_px": 4.0, "min_angle_deg": 1.0, **options}
    return triangulate(
        keypoints or world.graph.keypoints,
        tracks,
        truth.models,
        truth.intrinsics,
        truth.camera_of_photo,
        poses,
        **limits,
    )


def tracks_of(world: Any) -> Tracks:
    return establish_tracks(world.graph.keypoints, *world.graph.matches())


def true_points(world: Any, bundle: Bundle) -> np.ndarray:
    """The truth of each point, by the key point of its first observation."""
    first = np.unique(bundle.point, return_index=True)[1]
    return np.asarray(world.points[np.concatenate(world.point_of)[bundle.row[first]]])


def test_perfect_observations_give_perfect_points(collection: Make) -> None:
    world = collection(lenses=LENS)
    tracks = tracks_of(world)
    bundle = solve(world, tracks)
    assert len(bundle.points) == tracks.count
    assert len(bundle.xy) == len(tracks.row)
    np.testing.assert_allclose(bundle.points, true_points(world, bundle), atol=1e-8)
    assert errors_px(bundle).max() < 1e-5


def test_noise_stays_noise(collection: Make) -> None:
    world = collection(lenses=LENS, noise_px=0.5)
    bundle = solve(world, tracks_of(world))
    off = np.linalg.norm(bundle.points - true_points(world, bundle), axis=1)
    assert np.median(off) < 0.01  # 0.5 px at a distance of 5 and a focal length of 1500 px are 0.0017 sideways
    assert np.median(errors_px(bundle)) < 0.6


def test_a_world_far_from_its_origin(collection: Make) -> None:
    """Geo-referenced poses: everything moved by a thousand times the extent."""
    world = collection(lenses=LENS)
    move = np.array([3000.0, -2000.0, 5000.0])
    poses = world.cam_from_world.copy()
    poses[:, :, 3] -= poses[:, :, :3] @ move
    bundle = solve(world, tracks_of(world), poses=poses)
    np.testing.assert_allclose(bundle.points - move, true_points(world, bundle), atol=1e-4)


def test_the_odd_observation_leaves_and_the_point_stays(collection: Make) -> None:
    world = collection(lenses=LENS)
    tracks = tracks_of(world)
    length = np.bincount(tracks.track)
    long = np.flatnonzero(length >= 5)[::3]
    odd = np.unique(tracks.track, return_index=True)[1][long]
    xy = world.graph.keypoints.xy.copy()
    xy[tracks.row[odd]] += [9.0, -9.0]
    bundle = solve(world, tracks, replace(world.graph.keypoints, xy=xy))
    assert len(long) > 20
    assert len(bundle.points) == tracks.count
    lost = np.setdiff1d(tracks.row, bundle.row)
    assert np.isin(tracks.row[odd], lost).all()
    assert len(lost) < 1.1 * len(odd)
    np.testing.assert_allclose(bundle.points, true_points(world, bundle), atol=1e-8)


def test_points_under_small_angles_are_not_kept(collection: Make) -> None:
    world = collection(photos=6, sweep_deg=10.0)
    tracks = tracks_of(world)
    everything = solve(world, tracks, min_angle_deg=0.0)
    limit = float(np.median(angles_deg(everything)))
    bundle = solve(world, tracks, min_angle_deg=limit)
    assert len(bundle.points) == (angles_deg(everything) >= limit).sum() < len(everything.points)
    assert angles_deg(bundle).min() >= limit


@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_kept_agrees_with_its_point(collection: Make, seed: int) -> None:
    """Almost no parallax and coarse matches: the last solve moves points out of the bound, at worst behind cameras."""
    world = collection(photos=6, sweep_deg=0.5, noise_px=3.0, wrong=0.2, seed=seed)
    bundle = solve(world, tracks_of(world), min_angle_deg=0.0)
    assert len(bundle.points) > 100
    assert errors_px(bundle).max() < 4.0


def test_angles_of_two_rays(collection: Make) -> None:
    world = collection(photos=2, sweep_deg=20.0)
    bundle = solve(world, tracks_of(world))
    rotation = world.cam_from_world[:, :, :3]
    centres = -np.einsum("cji,cj->ci", rotation, world.cam_from_world[:, :, 3])
    a, b = (bundle.points - c for c in centres)
    cosine = np.sum(a * b, axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(angles_deg(bundle), np.degrees(np.arccos(cosine)), rtol=1e-6)


def test_photos_without_a_pose_are_left_out(collection: Make) -> None:
    world = collection(photos=5)
    poses = world.cam_from_world.copy()
    poses[3] = np.nan
    bundle = solve(world, tracks_of(world), poses=poses)
    assert 3 not in bundle.photo
    assert len(bundle.points) > 100
    assert np.isfinite(bundle.points).all()


def test_pixels_that_no_ray_makes_are_left_out(collection: Make) -> None:
    """A lens that folds within the photo: the corner shows nothing it could have seen."""
    world = collection(photos=5, lenses=((1500.0, 800.0, 600.0, -0.9),))
    tracks = tracks_of(world)
    xy = world.graph.keypoints.xy.copy()
    corner = tracks.row[tracks.photo == 0][:10]
    xy[corner] = [2.0, 2.0]
    bundle = solve(world, tracks, replace(world.graph.keypoints, xy=xy))
    assert not np.isin(corner, bundle.row).any()
    assert errors_px(bundle).max() < 1e-4


def test_no_tracks_make_an_empty_bundle(collection: Make) -> None:
    world = collection(photos=3)
    nothing = np.zeros(0, np.int64)
    bundle = solve(world, Tracks(nothing, nothing, nothing))
    assert bundle.points.shape == (0, 3)
    assert bundle.xy.shape == (0, 2)


@pytest.mark.parametrize("noise_px", [0.0, 0.5])
def test_errors_of_tracks_tell_the_odd_ones(collection: Make, noise_px: float) -> None:
    world = collection(lenses=LENS, noise_px=noise_px)
    tracks = tracks_of(world)
    tracks = tracks.select((np.bincount(tracks.track) >= 5)[tracks.track], 5)
    odd = np.unique(tracks.track, return_index=True)[1][::4]
    xy = world.graph.keypoints.xy.copy()
    xy[tracks.row[odd]] += [25.0, 0.0]
    errors = track_errors_px(replace(world.graph.keypoints, xy=xy), tracks, world.bundle(), bound_px=12.0)
    assert errors.shape == (len(tracks.row),)
    assert np.median(errors[odd]) > 10.0
    # The best point of a track leaves the odd observation out, and so the others are right again.
    partner = np.isin(tracks.track, tracks.track[odd]) & ~np.isin(np.arange(len(errors)), odd)
    assert np.median(errors[partner]) < 1e-5 + 2.0 * noise_px
    untouched = ~np.isin(tracks.track, tracks.track[odd])
    assert errors[untouched].max() < 1e-5 + 8.0 * noise_px


def test_errors_of_what_cannot_be_seen_are_infinite(collection: Make) -> None:
    world = collection(photos=5)
    tracks = tracks_of(world)
    poses = world.cam_from_world.copy()
    poses[3:] = np.nan
    errors = track_errors_px(world.graph.keypoints, tracks, replace(world.bundle(), cam_from_world=poses), bound_px=6.0)
    left = np.bincount(tracks.track[tracks.photo < 3], minlength=tracks.count)[tracks.track]
    lost = (tracks.photo >= 3) | (left < 2)
    np.testing.assert_array_equal(np.isinf(errors), lost)
    assert 0 < lost.sum() < len(lost)


def test_rays_are_unit_and_point_at_their_points(collection: Make) -> None:
    world = collection(photos=4, lenses=LENS)
    truth = world.bundle()
    rays = rays_of(world.graph.keypoints, truth.row, truth.photo, truth.models, truth.intrinsics, truth.camera_of_photo)
    poses = truth.cam_from_world[truth.photo]
    y = np.einsum("mij,mj->mi", poses[:, :, :3], truth.points[truth.point]) + poses[:, :, 3]
    np.testing.assert_allclose(rays, y / np.linalg.norm(y, axis=1, keepdims=True), atol=1e-10)


def test_dropping_observations_drops_points_seen_once(collection: Make) -> None:
    bundle = collection(photos=5).bundle()
    keep = np.random.default_rng(0).random(len(bundle.xy)) < 0.6
    kept = keep_observations(bundle, keep)
    length = np.bincount(kept.point, minlength=len(kept.points))
    alive = np.bincount(bundle.point[keep], minlength=len(bundle.points)) >= 2
    assert length.min() >= 2
    np.testing.assert_array_equal(kept.points, bundle.points[alive])
    np.testing.assert_array_equal(errors_px(kept), errors_px(bundle)[keep & alive[bundle.point]])


def test_photos_that_see_little_lose_their_pose(collection: Make) -> None:
    bundle = collection(photos=5).bundle()
    own = np.flatnonzero(bundle.photo == 2)
    keep = np.ones(len(bundle.xy), bool)
    keep[own[7:]] = False
    bundle = keep_observations(bundle, keep)
    assert np.isfinite(without_weak_photos(bundle, 7).cam_from_world).all()
    fewer = without_weak_photos(bundle, 8)
    np.testing.assert_array_equal(np.isnan(fewer.cam_from_world[:, 0, 0]), np.arange(5) == 2)
    assert 2 not in fewer.photo
    assert len(fewer.xy) >= len(bundle.xy) - 14
    assert np.isfinite(bundle.cam_from_world).all()


def test_a_place_sees_the_point_with_most_observations(collection: Make) -> None:
    """One more point is seen where the first one is, in one photo less, another where the last one is, in as many."""
    world = collection(lenses=LENS)
    bundle = solve(world, tracks_of(world))
    last = len(bundle.points) - 1
    first, second = (np.flatnonzero(bundle.point == point) for point in (0, last))
    doubled = np.concatenate([first[1:], second])
    repeated = replace(
        bundle,
        points=np.concatenate([bundle.points, bundle.points[[0, last]] + 1e-4]),
        xy=np.concatenate([bundle.xy, bundle.xy[doubled]]),
        photo=np.concatenate([bundle.photo, bundle.photo[doubled]]),
        point=np.concatenate([bundle.point, np.repeat([last + 1, last + 2], [len(first) - 1, len(second)])]),
        row=np.concatenate([bundle.row, bundle.row[doubled]]),
    )
    kept = one_point_per_place(repeated)
    np.testing.assert_array_equal(kept.points, bundle.points)
    np.testing.assert_array_equal(kept.row, bundle.row)
    elsewhere = replace(repeated, xy=repeated.xy + np.linspace(0, 1, len(repeated.xy))[:, None])
    assert len(one_point_per_place(elsewhere).points) == len(repeated.points)


def test_points_move_to_the_least_error_and_outliers_hold_them_little(collection: Make) -> None:
    world = collection(lenses=LENS)
    bundle = solve(world, tracks_of(world))
    rng = np.random.default_rng(0)
    length = np.bincount(bundle.point)
    spoilt = np.unique(bundle.point, return_index=True)[1][length >= 5]
    xy = bundle.xy.copy()
    xy[spoilt] += 40.0
    moved = replace(bundle, xy=xy, points=bundle.points + rng.normal(scale=0.002, size=bundle.points.shape))
    found = refine_points(moved, CAUCHY, 1.0, np.ones(len(xy)), 10)
    off, before = (np.linalg.norm(each.points - bundle.points, axis=1) for each in (found, moved))
    assert np.median(off[length >= 5]) < 0.1 * np.median(before)
    others = np.setdiff1d(np.flatnonzero(length >= 3), bundle.point[spoilt])
    assert off[others].max() < 1e-4
