"""Depth maps and dense points against rendered scenes, and their parts against slow definitions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from finished import true_model

from unposed.pipeline.artifacts import Depths, SparseModel
from unposed.pipeline.stage import Resources
from unposed.plugins.dense.sweep import PlaneSweep
from unposed.surface.stereo import sweep
from unposed.surface.stereo.correlation import Correlator, sampled, window_sums
from unposed.surface.stereo.fusion import FusionOptions, fused_points
from unposed.surface.stereo.neighbours import NeighbourOptions, choose_sources, inverse_depth_range
from unposed.surface.stereo.semi_global import semi_global_cost
from unposed.surface.stereo.thinning import thinned
from unposed.surface.stereo.view import DensePoints, DepthEstimate, Pinhole, StereoView
from unposed.synthetic.photos import PhotoSet
from unposed.synthetic.render import cast

MACHINE = Resources("cpu", 2, 2**30, 0)


@pytest.fixture(scope="module")
def seen(photo_set: Callable[[str, int, int], PhotoSet]) -> tuple[PhotoSet, SparseModel, Depths]:
    """A courtyard in five small photos, its true cameras, and what stereo makes of them."""
    made = photo_set("easy", 5, 320)
    model, photos = true_model(made)
    return made, model, PlaneSweep(points=20_000)(model, photos, MACHINE)


def footprint_errors(made: PhotoSet, depths: Depths) -> np.ndarray:
    """(n,) distance along the ray from the surface, over what a pixel spans there, in the first photo of each point."""
    points, shots = depths.points, sorted(made.scene.shots, key=lambda shot: shot.name)
    first = points.seen_by[points.start[:-1]]
    errors = np.full(len(points), np.inf)
    for row, shot in enumerate(shots):
        own = np.flatnonzero(first == row)
        xy, depth = depths.maps[row].camera.project(points.xyz[own].astype(np.float64))
        errors[own] = np.abs(cast(made.scene.world, shot, xy) - depth) / (depth / shot.lens.fx)
    return errors


def test_dense_points_lie_on_the_surfaces(seen: tuple[PhotoSet, SparseModel, Depths]) -> None:
    """Half a pixel's footprint and 90 % within two is what splats need; measured 0.3 and 93 %."""
    made, _, depths = seen
    errors = footprint_errors(made, depths)
    assert len(errors) > 5_000
    assert np.median(errors) < 0.5
    assert (errors < 2).mean() > 0.9


def test_a_gpu_takes_many_planes_at_once_and_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its own ways on a CPU: blocks of planes, and the median of 5 x 5 pixels by sorting."""
    random = np.random.default_rng(0)
    grey = random.random((48, 64), np.float32)
    views = []
    for shift in range(3):
        pose = np.eye(3, 4)
        pose[0, 3] = 0.2 * shift
        views.append(StereoView(Pinhole(64, 48, 60.0, 60.0, 32.0, 24.0, pose), np.roll(grey, shift, axis=1)))
    level = sweep._levels(views[0], views[1:], 0, "cpu")[0]
    one_by_one = sweep._swept(level, 0.1, 1.0, 9, sweep.SweepOptions())
    monkeypatch.setattr(sweep, "_planes_at_once", lambda image: 4)
    at_once = sweep._swept(level, 0.1, 1.0, 9, sweep.SweepOptions())
    assert all(map(torch.equal, at_once, one_by_one))
    depth = torch.from_numpy(random.random((37, 41), np.float32))
    assert torch.equal(sweep._median_on_device(depth), sweep._median(depth))


def test_dense_points_are_seen_by_the_photos_they_name(seen: tuple[PhotoSet, SparseModel, Depths]) -> None:
    made, _, depths = seen
    points, shots = depths.points, sorted(made.scene.shots, key=lambda shot: shot.name)
    assert np.diff(points.start).min() >= 3
    of_point = np.repeat(np.arange(len(points)), np.diff(points.start))
    for row, shot in enumerate(shots):
        own = of_point[points.seen_by == row]
        xy, depth = depths.maps[row].camera.project(points.xyz[own].astype(np.float64))
        visible = cast(made.scene.world, shot, xy) > depth * 0.98
        assert visible.mean() > 0.95


def test_normals_face_the_cameras_and_stand_on_the_ground(seen: tuple[PhotoSet, SparseModel, Depths]) -> None:
    _, _, depths = seen
    points = depths.points
    centre = np.mean([each.camera.centre for each in depths.maps], axis=0)
    facing = ((centre - points.xyz) * points.normal).sum(axis=1)
    np.testing.assert_allclose(np.linalg.norm(points.normal, axis=1), 1.0, atol=1e-5)
    assert (facing > 0).mean() > 0.95
    ground = (np.abs(points.xyz[:, 2]) < 0.02) & (np.hypot(*points.xyz[:, :2].T) < 3)
    assert np.median(points.normal[ground, 2]) > 0.9


def test_depth_is_not_looked_for_where_a_photo_is_alone(
    photo_set: Callable[[str, int, int], PhotoSet],
) -> None:
    made = photo_set("easy", 5, 320)
    model, photos = true_model(made)
    alone = replace(model, obs_xy=model.obs_xy[:0], obs_point=model.obs_point[:0])
    depths = PlaneSweep()(alone, photos, MACHINE)
    assert len(depths.points) == 0
    assert all(not each.inverse.any() for each in depths.maps)


@pytest.mark.parametrize("side", [3, 5, 7, 11])
def test_window_sums_are_sums(side: int) -> None:
    image = torch.rand(2, 9, 13)
    half = side // 2
    padded = torch.nn.functional.pad(image[None], (half,) * 4, mode="replicate")[0]
    slow = torch.stack([padded[:, y : y + 9, x : x + 13] for y in range(side) for x in range(side)]).sum(dim=0)
    torch.testing.assert_close(window_sums(image, side), slow)


def test_correlation_ignores_exposure_and_finds_blank_windows_alike() -> None:
    image = torch.rand(20, 30)
    correlate = Correlator(image, 5, 1e-4)
    torch.testing.assert_close(correlate(0.3 * image + 0.5), torch.ones_like(image), atol=1e-3, rtol=0)
    torch.testing.assert_close(correlate(-image), -torch.ones_like(image), atol=1e-3, rtol=0)
    assert float(correlate(torch.full_like(image, 0.4)).abs().max()) < 1e-3
    window = image[3:8, 10:15].flatten()
    other = torch.rand(20, 30)
    expected = torch.corrcoef(torch.stack([window, other[3:8, 10:15].flatten()]))[0, 1]
    assert float(correlate(other)[5, 12]) == pytest.approx(float(expected), abs=1e-3)


def test_sampling_is_linear_between_pixel_centres() -> None:
    image = torch.arange(12.0).reshape(3, 4)
    x, y = torch.tensor([[0.5, 1.0, 3.5, 9.0]]), torch.tensor([[0.5, 0.5, 2.5, 1.0]])
    torch.testing.assert_close(sampled(image, x, y), torch.tensor([[0.0, 0.5, 11.0, 5.0]]))


def test_semi_global_costs_carry_depth_into_blank_windows() -> None:
    """Only the left edge knows which label is right, and grey is equal everywhere."""
    cost = torch.full((5, 8, 10), 0.5)
    cost[:, :, 0], cost[3, :, 0] = 1.0, 0.0
    label = semi_global_cost(cost, torch.zeros(8, 10), 0.05, 0.5, 0.1).argmin(dim=0)
    assert bool((label == 3).all())
    wall = torch.zeros(8, 10)
    wall[:, 5:] = 1.0
    cost[:, :, 9], cost[1, :, 9] = 1.0, 0.0
    label = semi_global_cost(cost, wall, 0.05, 0.5, 0.01).argmin(dim=0)
    assert bool((label[:, :5] == 3).all())
    assert bool((label[:, 5:] == 1).all())


def side_by_side(depth: float, count: int) -> list[DepthEstimate]:
    """Cameras one tenth apart along x that look along z at a wall."""
    poses = [np.c_[np.eye(3), [-0.1 * i, 0.0, 0.0]] for i in range(count)]
    flat, sure = np.full((20, 30), 1 / depth, np.float32), np.ones((20, 30), np.float32)
    return [DepthEstimate(Pinhole(30, 20, 40.0, 40.0, 15.0, 10.0, pose), flat, sure) for pose in poses]


def others_of(count: int) -> list[np.ndarray]:
    return [np.array([b for b in range(count) if b != a]) for a in range(count)]


def grey(row: int) -> np.ndarray:
    return np.full((20, 30, 3), 10 * row, np.uint8)


def test_a_surface_makes_one_layer_of_points() -> None:
    points, agreed = fused_points(side_by_side(2.0, 4), others_of(4), grey)
    # Neighbours are two pixels apart: the first photo makes most points, the others what only they see.
    np.testing.assert_allclose(points.xyz[:, 2], 2.0, rtol=1e-6)
    np.testing.assert_allclose(points.normal, np.tile([0, 0, -1], (len(points), 1)), atol=1e-3)
    assert len(points) <= 20 * 36
    assert agreed[0].mean() > 0.8
    assert (points.rgb[np.diff(points.start) == 4] == 0).all()


def test_a_depth_that_one_photo_alone_has_is_no_point() -> None:
    maps = side_by_side(2.0, 4)
    wrong = maps[1].inverse.copy()
    wrong[5:10, 5:10] = 1 / 1.7
    maps[1] = replace(maps[1], inverse=wrong)
    points, agreed = fused_points(maps, others_of(4), grey)
    np.testing.assert_allclose(points.xyz[:, 2], 2.0, rtol=1e-6)
    assert not agreed[1][6:9, 6:9].any()


def test_two_photos_are_enough_where_there_are_no_more() -> None:
    assert len(fused_points(side_by_side(2.0, 2), others_of(2), grey)[0]) > 400
    strict = FusionOptions(min_score=1.0)
    unsure = [replace(each, score=each.score * 0.9) for each in side_by_side(2.0, 2)]
    assert len(fused_points(unsure, others_of(2), grey, strict)[0]) == 0


def test_thinning_keeps_the_density_of_the_photos() -> None:
    """A near and a far wall of equal size in pixels keep as many points each, whose rows stay whole."""
    rng = np.random.default_rng(0)
    near, far = rng.uniform(0, 1, (4000, 3)) * (1, 1, 0), rng.uniform(0, 8, (4000, 3)) * (1, 1, 0) + (0, 0, 50)
    count = np.full(8000, 2)
    cloud = DensePoints(
        np.concatenate([near, far]).astype(np.float32),
        np.zeros((8000, 3), np.float32),
        np.arange(24000).reshape(-1, 3).astype(np.uint8),
        np.repeat(np.float32([0.01, 0.08]), 4000),
        np.concatenate([[0], np.cumsum(count)]).astype(np.int64),
        np.tile(np.int32([3, 7]), 8000),
    )
    fewer = thinned(cloud, 1000)
    assert 700 < len(fewer) <= 1000
    assert abs(int((fewer.xyz[:, 2] < 1).sum()) - len(fewer) / 2) < 0.1 * len(fewer)
    np.testing.assert_array_equal(fewer.seen_by, np.tile([3, 7], len(fewer)))
    assert thinned(cloud, 8000) is cloud


def test_sources_see_the_same_under_a_good_angle() -> None:
    centres = np.array([[0.0, 0, 0], [0.01, 0, 0], [1.0, 0, 0], [9.0, 0, 0], [100.0, 0, 0]])
    points = np.c_[np.random.default_rng(0).uniform(-1, 1, (40, 2)), np.full(40, 6.0)]
    photo, point = np.repeat(np.arange(4), 40), np.tile(np.arange(40), 4)
    sources = choose_sources(centres, points, photo, point, NeighbourOptions(sources=2))
    assert sources[0].tolist() == [2, 3]  # not its twin, which knows no more
    assert len(sources[4]) == 0


def test_the_range_of_depths_leaves_out_strays() -> None:
    low, high = inverse_depth_range(np.concatenate([np.linspace(2, 4, 300), [0.01, 900.0, -1.0]]), 0.2)
    assert pytest.approx(low, rel=0.02) == 0.8 * 0.25
    assert pytest.approx(high, rel=0.02) == 1.2 * 0.5
