"""Depth maps of made-up networks, brought to known points."""

from __future__ import annotations

import numpy as np

from unposed.surface.stereo.depth_correction import CorrectionOptions, corrected_depth


def truth() -> np.ndarray:
    """(60, 80) a slanted floor before a wall."""
    y, x = np.mgrid[:60, :80] + 0.5
    return np.minimum(4.0, 1.5 + 0.03 * x + 0.02 * y).astype(np.float32)


def smooth_error(size: float) -> np.ndarray:
    """(60, 80) logarithm of a factor that bends over the photo."""
    y, x = np.mgrid[:60, :80] + 0.5
    return size * (np.sin(1.7 * x / 80 + 0.4) - 0.6 * np.cos(2.0 * y / 60))


def samples(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and true depths of so many points."""
    xy = np.random.default_rng(seed).random((count, 2)) * (80, 60)
    return xy, truth()[xy[:, 1].astype(int), xy[:, 0].astype(int)].astype(np.float64)


def test_smooth_errors_go_with_the_degree() -> None:
    """Medians of what is left of an error of 5 %, at any scale; each degree is worth having."""
    xy, known = samples(200)
    seen = (truth() * 0.13 * np.exp(smooth_error(0.05))).astype(np.float32)
    errors = []
    for degree in (0, 1, 2):
        found = corrected_depth(seen, xy, known, CorrectionOptions(degree=degree))
        assert found is not None
        errors.append(float(np.median(np.abs(np.log(found / truth())))))
    assert errors[0] < 0.05 and errors[2] < 0.002
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_noise_averages_out_and_wrong_points_count_little() -> None:
    """Points off by 2 %, a third of them by anything up to a factor of three."""
    rng = np.random.default_rng(1)
    xy, known = samples(150)
    wrong = rng.random(150) < 0.3
    known = known * np.exp(0.02 * rng.normal(size=150) + wrong * rng.uniform(-1.1, 1.1, 150))
    seen = (truth() * np.exp(smooth_error(0.03)) / 7.0).astype(np.float32)
    found = corrected_depth(seen, xy, known, CorrectionOptions())
    assert found is not None
    assert np.median(np.abs(np.log(found / truth()))) < 0.01


def test_few_points_on_one_side_do_not_bend_the_other() -> None:
    xy, known = samples(12, seed=3)
    xy[:, 0] *= 0.2
    known = truth()[xy[:, 1].astype(int), xy[:, 0].astype(int)] * np.exp(
        0.02 * np.random.default_rng(0).normal(size=12)
    )
    found = corrected_depth(truth(), xy, known, CorrectionOptions(degree=3))
    assert found is not None
    assert np.abs(np.log(found / truth())).max() < 0.1
    free = corrected_depth(truth(), xy, known, CorrectionOptions(degree=3, bending=1e3))
    assert free is not None
    assert np.abs(np.log(free / truth())).max() > 0.2


def test_unknown_depths_stay_unknown_and_few_points_give_none() -> None:
    xy, known = samples(40)
    seen = truth()
    seen[:, :30] = 0.0
    found = corrected_depth(seen, xy, known, CorrectionOptions())
    assert found is not None
    assert not found[:, :30].any() and found[:, 30:].all()
    assert corrected_depth(seen, xy[:7], known[:7], CorrectionOptions()) is None
    outside = xy + np.array([200, 0])
    assert corrected_depth(seen, outside, known, CorrectionOptions()) is None
