"""Pose errors in cases whose answer is known beforehand."""

from itertools import combinations

import numpy as np
import pytest

from unposed.optim.evaluation import PoseErrors, area_under_curve, evaluate_poses, rotation_and_centre
from unposed.optim.rotations import nearest_rotation

N = 9
PAIRS = N * (N - 1) // 2
RNG = np.random.default_rng(7)
CENTRES = RNG.standard_normal((N, 3)) * 3
ROTATIONS = nearest_rotation(RNG.standard_normal((N, 3, 3)))


def poses(rotation: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """cam_from_world (n, 3, 4)."""
    return np.concatenate([rotation, -rotation @ centre[:, :, None]], axis=2)


def in_another_world(cam_from_world: np.ndarray, scale: float = 0.037) -> np.ndarray:
    """The same cameras after turning, moving and scaling the world."""
    rng = np.random.default_rng(11)
    turn, shift = nearest_rotation(rng.standard_normal((3, 3))), rng.standard_normal(3) * 40
    rotation, centre = rotation_and_centre(cam_from_world)
    return poses(rotation @ turn.T, scale * centre @ turn.T + shift)


def about_z(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


TRUTH = poses(ROTATIONS, CENTRES)


def test_perfect_poses_in_another_world_are_perfect() -> None:
    errors = evaluate_poses(TRUTH, in_another_world(TRUTH))
    assert (errors.photos, errors.registered, errors.pairs, errors.pairs_without_baseline) == (N, N, PAIRS, 0)
    assert set(errors.rra.values()) == set(errors.rta.values()) == {1.0}
    assert all(area == pytest.approx(1.0, abs=1e-6) for area in errors.auc.values())
    assert errors.maa30 == 1.0
    assert errors.ate_rmse == pytest.approx(0, abs=1e-9)
    assert errors.rotation_max_deg == pytest.approx(0, abs=1e-6)
    assert errors.scale == pytest.approx(1 / 0.037)
    assert errors.aligned_by == "centres"
    assert errors.extent == pytest.approx(max(np.linalg.norm(a - b) for a, b in combinations(CENTRES, 2)))


def test_one_camera_turned_about_its_centre() -> None:
    """4.5 degrees: its pairs fail at 1 and 3 and pass at 5, and no centre moves."""
    turned = ROTATIONS.copy()
    turned[3] = about_z(4.5) @ turned[3]
    errors = evaluate_poses(TRUTH, in_another_world(poses(turned, CENTRES)))
    bad = (N - 1) / PAIRS
    assert errors.rra == {1: pytest.approx(1 - bad), 3: pytest.approx(1 - bad), 5: 1.0, 15: 1.0}
    assert errors.ate_rmse == pytest.approx(0, abs=1e-9)
    assert errors.rotation_mean_deg == pytest.approx(4.5 / N)
    assert errors.rotation_max_deg == pytest.approx(4.5)
    assert errors.rotation_error_deg[3] == pytest.approx(4.5)
    # Seen from the turned camera directions are 4.5 degrees off at most, so the rotation is what counts.
    assert errors.auc[10] == pytest.approx(1 - bad * 0.45)
    assert errors.maa30 == pytest.approx(1 - bad * 4 / 30)


def test_photos_left_out_fail_all_their_pairs() -> None:
    estimate = in_another_world(TRUTH)
    estimate[:2] = np.nan
    errors = evaluate_poses(TRUTH, estimate)
    share = (N - 2) * (N - 3) / 2 / PAIRS
    assert errors.registered == N - 2
    assert errors.rra[15] == errors.rta[15] == errors.maa30 == pytest.approx(share)
    assert errors.auc[30] == pytest.approx(share)
    assert errors.relative_rotation_median_deg == pytest.approx(0, abs=1e-6), "medians are of registered pairs"
    assert errors.ate_rmse == pytest.approx(0, abs=1e-9)
    assert np.isnan(errors.centre_error[:2]).all()


def test_a_direction_may_be_asked_for_without_its_sign() -> None:
    """Two photos, the baseline the other way round: 180 degrees off, or none."""
    truth = poses(np.tile(np.eye(3), (2, 1, 1)), np.array([[0, 0, 0], [1.0, 0, 0]]))
    swapped = poses(np.tile(np.eye(3), (2, 1, 1)), np.array([[0, 0, 0], [-1.0, 0, 0]]))
    assert evaluate_poses(truth, swapped).relative_direction_median_deg == pytest.approx(180)
    assert evaluate_poses(truth, swapped).rta[15] == 0.0
    folded = evaluate_poses(truth, swapped, unsigned=True)
    assert folded.relative_direction_median_deg == pytest.approx(0)
    assert folded.rta[15] == 1.0


def test_pairs_without_a_baseline_count_by_rotation_alone() -> None:
    centres = np.array([[0, 0, 0], [1e-6, 0, 0], [1.0, 0, 0]])
    turns = np.stack([np.eye(3), about_z(2.0), np.eye(3)])
    moved = centres.copy()
    moved[1] = [0, -1e-6, 0]  # the direction of the pair without a baseline is nonsense now
    errors = evaluate_poses(poses(turns, centres), poses(turns, moved))
    assert errors.pairs_without_baseline == 1
    assert errors.rta[1] == 1.0
    assert errors.auc[1] == pytest.approx(1.0, abs=1e-3)


def test_estimated_centres_in_one_place_have_no_direction() -> None:
    errors = evaluate_poses(TRUTH, poses(ROTATIONS, np.zeros((N, 3))))
    assert errors.rra[1] == 1.0
    assert errors.rta[15] == 0.0
    assert errors.auc[30] == 0.0


def test_cameras_on_a_line_are_aligned_by_their_orientations() -> None:
    centres = np.outer(np.arange(N), [1.0, 0, 0])
    truth = poses(ROTATIONS, centres)
    errors = evaluate_poses(truth, in_another_world(truth))
    assert errors.aligned_by == "orientations"
    assert errors.rotation_max_deg == pytest.approx(0, abs=1e-6)
    assert errors.ate_rmse == pytest.approx(0, abs=1e-9)


def test_centre_error_of_a_known_displacement() -> None:
    """Both diagonals of a unit square, one 2h shorter: the best scale is 1 - h / sqrt 2, and each corner misses h / 2.

    Half diagonals are d and d - h with d = sqrt(1/2); mapping the estimate on the truth, scale * d' - d must be
    balanced: for small h the scale is 1 + h / 2d and the misses are +-h / 2, to first order.
    """
    h, d = 1e-4, np.sqrt(0.5)
    truth_centres = np.array([[d, 0, 0], [-d, 0, 0], [0, d, 0], [0, -d, 0]])
    moved = truth_centres * [1, 1 - h / d, 1]
    turns = np.tile(np.eye(3), (4, 1, 1))
    errors = evaluate_poses(poses(turns, truth_centres), poses(turns, moved))
    assert errors.scale == pytest.approx(1 + h / (2 * d), rel=1e-6)
    assert errors.centre_error == pytest.approx(np.full(4, h / 2), rel=1e-3)
    assert errors.ate_rmse == pytest.approx(h / 2, rel=1e-3)
    assert errors.ate_median == pytest.approx(h / 2, rel=1e-3)
    assert errors.ate_max == pytest.approx(h / 2, rel=1e-3)
    assert errors.ate_relative == pytest.approx(h / 2 / (2 * d), rel=1e-3)


def test_focal_error_is_the_median_over_registered_photos_with_both_known() -> None:
    true_focal = np.array([1.0, 1.0, 2.0, np.nan, *[1.0] * 5])
    focal = np.array([1.1, 0.8, 2.6, 9.0, *[np.nan] * 5])
    estimate = TRUTH.copy()
    assert evaluate_poses(TRUTH, estimate, true_focal, focal).focal_error == pytest.approx(0.2)
    estimate[2] = np.nan
    assert evaluate_poses(TRUTH, estimate, true_focal, focal).focal_error == pytest.approx(0.15)
    assert evaluate_poses(TRUTH, estimate).focal_error is None


def test_too_few_photos_leave_figures_out() -> None:
    one = evaluate_poses(TRUTH[:1], TRUTH[:1])
    assert (one.pairs, one.rra[1], one.auc[1], one.maa30, one.ate_rmse, one.extent) == (0, None, None, None, None, 0.0)
    two = evaluate_poses(TRUTH[:2], TRUTH[:2])
    assert (two.pairs, two.rra[1], two.ate_rmse, two.scale, two.aligned_by) == (1, 1.0, None, None, None)
    nothing = evaluate_poses(TRUTH, np.full_like(TRUTH, np.nan))
    assert (nothing.registered, nothing.rra[15], nothing.auc[30]) == (0, 0.0, 0.0)
    assert nothing.relative_rotation_median_deg is None


def test_area_under_curve_is_the_integral() -> None:
    rng = np.random.default_rng(1)
    errors = np.append(rng.uniform(0, 12, 200), [np.inf] * 20)
    x = np.linspace(0, 10, 200_001)
    curve = np.searchsorted(np.sort(errors), x) / len(errors)
    assert area_under_curve(errors, 10) == pytest.approx(np.mean((curve[1:] + curve[:-1]) / 2), abs=1e-5)


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match=r"\(n, 3, 4\)"):
        evaluate_poses(TRUTH, TRUTH[:-1])


def test_slow_obvious_reference() -> None:
    """The batched pair errors against a plain loop over pairs."""
    rng = np.random.default_rng(4)
    shaken = nearest_rotation(ROTATIONS + 0.05 * rng.standard_normal((N, 3, 3)))
    estimate = poses(shaken, CENTRES + 0.2 * rng.standard_normal((N, 3)))
    rotation_deg, direction_deg = [], []
    for i, j in combinations(range(N), 2):
        true = np.vstack([TRUTH[j], [0, 0, 0, 1]]) @ np.linalg.inv(np.vstack([TRUTH[i], [0, 0, 0, 1]]))
        seen = np.vstack([estimate[j], [0, 0, 0, 1]]) @ np.linalg.inv(np.vstack([estimate[i], [0, 0, 0, 1]]))
        cosine = (np.trace(seen[:3, :3] @ true[:3, :3].T) - 1) / 2
        rotation_deg.append(np.degrees(np.arccos(cosine)))
        unit = [m[:3, 3] / np.linalg.norm(m[:3, 3]) for m in (true, seen)]
        direction_deg.append(np.degrees(np.arccos(unit[0] @ unit[1])))
    errors: PoseErrors = evaluate_poses(TRUTH, estimate)
    worse = np.maximum(rotation_deg, direction_deg)
    assert errors.relative_rotation_median_deg == pytest.approx(np.median(rotation_deg))
    assert errors.relative_direction_median_deg == pytest.approx(np.median(direction_deg))
    for t in (1, 3, 5, 15):
        assert errors.rra[t] == pytest.approx(np.mean(np.less(rotation_deg, t)))
        assert errors.rta[t] == pytest.approx(np.mean(np.less(direction_deg, t)))
    for t in (1, 3, 5, 10, 30):
        assert errors.auc[t] == pytest.approx(np.mean(np.maximum(0, 1 - worse / t)))
    assert errors.maa30 == pytest.approx(np.mean([np.mean(worse < t) for t in range(1, 31)]))
