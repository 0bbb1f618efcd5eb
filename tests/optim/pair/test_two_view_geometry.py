"""Synthetic pairs of every kind: the truth must come back, and nothing must come from nothing."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from unposed.optim.pair.epipolar import sampson_errors
from unposed.optim.pair.pure_rotation import rotation_from_homography
from unposed.optim.pair.two_view_geometry import (
    error_scale,
    estimate_two_view_geometry,
    line_probability,
    log_false_alarms,
)
from unposed.optim.rotations import nearest_rotation, rotation_angle_deg, skew

SIZE = (1600, 1200)
FOCAL = 1700.0


class Pair:
    """Two photos of points in a box, or on a wall, in front of the first camera."""

    def __init__(self, seed, *, shape="box", turn_deg=15.0, baseline=2.0, noise_px=0.0, outliers=0.0, focals=None,
                 sizes=(SIZE, SIZE), count=400):  # fmt: skip
        rng = np.random.default_rng(seed)
        self.sizes, self.focals = sizes, focals or (FOCAL, FOCAL)
        axis = np.array([0.3, 1.0, 0.2]) + 0.2 * rng.normal(size=3)
        self.rotation = turn(axis, turn_deg)
        across = np.array([-1.0, 0.2, 0.15]) + 0.1 * rng.normal(size=3)
        self.translation = baseline * across / np.linalg.norm(across)
        points = np.column_stack([rng.uniform(-4, 4, (20 * count, 2)), rng.uniform(7, 13, 20 * count)])
        if shape == "wall":
            points[:, 2] = 10.0 + points[:, :2] @ [0.5, 0.2]
        a = project(points, self.focals[0], sizes[0])
        b = project(points @ self.rotation.T + self.translation, self.focals[1], sizes[1])
        seen = np.flatnonzero(inside(a, sizes[0]) & inside(b, sizes[1]))[:count]
        assert len(seen) == count
        self.true_a, self.true_b = a[seen], b[seen]
        self.a, self.b = (xy + rng.normal(0, noise_px, xy.shape) for xy in (self.true_a, self.true_b))
        self.wrong = rng.random(count) < outliers
        self.b[self.wrong] = rng.uniform(0, sizes[1], (self.wrong.sum(), 2))
        # Like a matcher's: weight says little about a single match.
        self.weight = np.clip(rng.normal(0.5, 0.2, count) - 0.2 * self.wrong, 0.01, 1.0)

    def solve(self, **options):
        return estimate_two_view_geometry(self.a, self.b, self.weight, *self.sizes, **options)

    def rotation_error_deg(self, found):
        return float(rotation_angle_deg(found.b_from_a[:, :3] @ self.rotation.T))

    def baseline_error_deg(self, found):
        cosine = found.b_from_a[:, 3] @ self.translation / np.linalg.norm(self.translation)
        return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def turn(axis, degrees):
    axis = skew(np.asarray(axis)[None] / np.linalg.norm(axis))[0]
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * axis + (1 - np.cos(angle)) * axis @ axis


def project(points, focal, size):
    return focal * points[:, :2] / points[:, 2:] + np.array(size) / 2.0


def inside(xy, size):
    return ((xy > 0) & (xy < size)).all(axis=1)


@pytest.mark.parametrize("seed", range(3))
def test_perfect_matches_give_the_perfect_answer(seed):
    pair = Pair(seed)
    found = pair.solve()
    assert found.kind == "general"
    assert found.inliers.all()
    assert pair.rotation_error_deg(found) < 1e-3
    assert pair.baseline_error_deg(found) < 1e-3
    np.testing.assert_allclose(found.focals_px, FOCAL, rtol=1e-4)
    assert np.abs(sampson_errors(found.fundamental, pair.a, pair.b)).max() < 1e-3
    assert np.linalg.norm(found.fundamental) == pytest.approx(1.0)
    assert np.linalg.norm(found.b_from_a[:, 3]) == pytest.approx(1.0)


@pytest.mark.parametrize("count", [400, 1600])
@pytest.mark.parametrize("seed", range(3))
def test_noise_and_wrong_matches(seed, count):
    pair = Pair(seed, noise_px=0.5, outliers=0.5, count=count)
    found = pair.solve()
    assert found.kind == "general"
    assert found.inliers[~pair.wrong].mean() > 0.95
    assert found.inliers[pair.wrong].mean() < 0.05
    assert pair.rotation_error_deg(found) < 1.0
    assert pair.baseline_error_deg(found) < 3.0
    np.testing.assert_allclose(found.focals_px, FOCAL, rtol=0.15)
    assert np.median(np.abs(sampson_errors(found.fundamental, pair.true_a, pair.true_b))) < 0.2


def test_triangulation_angle_is_that_of_the_scene():
    near, far = (Pair(0, baseline=baseline, noise_px=0.2).solve() for baseline in (2.0, 0.5))
    assert near.angle_deg == pytest.approx(np.degrees(2.0 / 10.0), rel=0.15)
    assert near.angle_deg / far.angle_deg == pytest.approx(4.0, rel=0.25)


def test_all_matches_refine_what_a_few_have_found():
    """Sampling stops at some hundreds of matches; more of them must still make the answer better."""
    few, many = (
        np.array([Pair(seed, noise_px=1.0, count=count).solve().focals_px[0] for seed in range(12)])
        for count in (200, 3200)
    )
    # 16 times the matches are good for a quarter of the deviation.
    assert np.mean((many - FOCAL) ** 2) < np.mean((few - FOCAL) ** 2) / 4


@pytest.mark.parametrize("count", [400, 1600])
def test_given_focal_lengths_are_used(count):
    pair = Pair(1, noise_px=0.5, focals=(1700.0, 1100.0), count=count)
    found = pair.solve(focals_px=pair.focals)
    np.testing.assert_allclose(found.focals_px, pair.focals)
    assert pair.rotation_error_deg(found) < 0.3


def test_two_cameras_of_different_size():
    pair = Pair(2, noise_px=0.5, outliers=0.4, focals=(1700.0, 900.0), sizes=(SIZE, (900, 700)))
    found = pair.solve()
    assert found.kind == "general"
    assert found.inliers[~pair.wrong].mean() > 0.95
    np.testing.assert_allclose(found.focals_px, [1.2 * 1600, 1.2 * 900])
    assert np.median(np.abs(sampson_errors(found.fundamental, pair.true_a, pair.true_b))) < 0.3


@pytest.mark.parametrize("seed", range(3))
def test_a_wall_is_planar(seed):
    pair = Pair(seed, shape="wall", noise_px=0.5, outliers=0.3)
    found = pair.solve()
    assert found.kind == "planar"
    assert found.inliers[~pair.wrong].mean() > 0.9
    np.testing.assert_allclose(found.focals_px, 1.2 * 1600)


@pytest.mark.parametrize("sizes", [(SIZE, SIZE), (SIZE, (1200, 1600))])
def test_a_turning_camera_shows_no_depth(sizes):
    pair = Pair(0, baseline=0.0, turn_deg=12.0, noise_px=0.5, outliers=0.3, sizes=sizes)
    found = pair.solve()
    assert found.kind == "rotation"
    assert not found.b_from_a[:, 3].any()
    assert not found.fundamental.any()
    assert found.angle_deg == 0.0
    assert pair.rotation_error_deg(found) < 1.5
    assert found.inliers[~pair.wrong].mean() > 0.9
    assert found.inliers[pair.wrong].mean() < 0.05


def test_a_baseline_below_the_noise_is_a_turn():
    assert Pair(0, baseline=0.002, noise_px=0.5).solve().kind == "rotation"


def test_a_small_baseline_above_the_noise_is_general():
    found = Pair(0, baseline=0.3, noise_px=0.3).solve()
    assert found.kind == "general"
    assert found.angle_deg < 3.0


def test_depth_behind_a_dominant_plane_is_found():
    wall, box = Pair(4, shape="wall", noise_px=0.4, count=300), Pair(4, noise_px=0.4, count=100)
    joined = estimate_two_view_geometry(
        np.concatenate([wall.a, box.a]), np.concatenate([wall.b, box.b]), np.ones(400), SIZE, SIZE
    )
    assert joined.kind == "general"
    assert joined.inliers.mean() > 0.95


def test_few_matches_in_a_hard_pair_survive():
    pair = Pair(5, noise_px=0.4, outliers=0.75, count=120)
    found = pair.solve()
    assert found.kind != "none"
    assert found.inliers[~pair.wrong].mean() > 0.85


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(0, 300))
def test_random_matches_are_no_geometry(seed, count):
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(0, SIZE, (2, count, 2))
    found = estimate_two_view_geometry(a, b, rng.random(count), SIZE, SIZE)
    assert found.kind == "none"
    assert found.inliers.shape == (count,)
    assert not found.inliers.any()


@pytest.mark.parametrize("degenerate", ["one point", "one line"])
def test_degenerate_matches_are_no_geometry(degenerate):
    a = np.full((50, 2), 300.0)
    if degenerate == "one line":
        a[:, 0] = np.linspace(100, 900, 50)
    assert estimate_two_view_geometry(a, a + 20.0, np.ones(50), SIZE, SIZE).kind == "none"


def test_same_seed_same_answer():
    pair = Pair(6, noise_px=0.5, outliers=0.6)
    first, second = pair.solve(seed=3), pair.solve(seed=3)
    np.testing.assert_array_equal(first.inliers, second.inliers)
    np.testing.assert_array_equal(first.b_from_a, second.b_from_a)


def test_tolerance_grows_with_large_photos_only():
    assert error_scale((1600, 1200)) == 1.0
    assert error_scale((3000, 4800)) == 3.0
    assert error_scale((640, 480)) == error_scale((320, 240)) == 0.6


def test_line_probability_of_a_filled_rectangle():
    xy = np.random.default_rng(0).uniform(0, (400.0, 300.0), (20000, 2))
    assert line_probability(xy) == pytest.approx(2 * 500 / (400 * 300), rel=0.02)
    assert line_probability(xy[:, [0, 0]]) == 1.0


def test_false_alarms_bound_what_chance_does():
    """A pencil of lines through one match: count how often chance reaches so many inliers."""
    rng = np.random.default_rng(1)
    matches, probability, trials = 30, 0.1, 4000
    fits = rng.random((trials, matches, matches - 1)) < probability  # every match defines a model for the others
    reached = (fits.sum(axis=2) + 1).max(axis=1)
    for inliers in (8, 10, 12):
        assert np.mean(reached >= inliers) <= np.exp(log_false_alarms(matches, inliers, 1, probability))
    assert log_false_alarms(30, 12, 1, 0.1) < log_false_alarms(30, 8, 1, 0.1)
    assert log_false_alarms(30, 1, 1, 0.1) == np.inf


@pytest.mark.parametrize("focals", [(1500.0, 1500.0), (1200.0, 2000.0)])
def test_rotation_from_homography(focals):
    rotation = nearest_rotation(turn([0.1, 1.0, 0.3], 20.0))
    plane = np.diag([focals[1], focals[1], 1.0]) @ rotation @ np.diag([1.0, 1.0, focals[0]]) * -3.0
    a = np.random.default_rng(0).uniform(-500, 500, (300, 2))
    b = np.column_stack([a, np.ones(300)]) @ plane.T
    grid = np.geomspace(700.0, 4000.0, 13)
    trials = np.column_stack([grid, grid])
    if focals[0] != focals[1]:
        trials = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    found, chosen, error = rotation_from_homography(plane, a, b[:, :2] / b[:, 2:], trials)
    np.testing.assert_allclose(chosen, focals, rtol=0.01)
    assert rotation_angle_deg(found @ rotation.T) < 0.2
    assert np.median(error) < 2.0
