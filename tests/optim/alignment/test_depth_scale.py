"""The scale of a model from the scales that single photos suggest."""

from __future__ import annotations

import numpy as np
import pytest

from unposed.optim.alignment.depth_scale import MetricScaleOptions, combined_scale, photo_log_scale, spread_photos
from unposed.optim.alignment.metric_scale import MetricScale

OPTIONS = MetricScaleOptions()


def combined(log_scale: np.ndarray) -> MetricScale:
    found = combined_scale(np.arange(len(log_scale)), log_scale, OPTIONS)
    assert not isinstance(found, str)
    return found


def test_the_error_is_as_large_as_it_says() -> None:
    """Scales of twelve photos that scatter by 8 %, after an error of 5 % that all share, with three wrong ones."""
    rng = np.random.default_rng(3)
    off = []
    for _ in range(300):
        scale = np.log(4.0) + 0.05 * rng.normal() + 0.08 * rng.normal(size=12)
        scale[:3] += rng.choice([-1.0, 1.0]) * rng.uniform(0.7, 1.5, 3)
        found = combined(scale)
        off.append((np.log(found.metres_per_unit) - np.log(4.0)) / found.sigma)
        assert found.wrong[:3].all()
    assert 0.8 < np.std(off) < 1.15


def test_few_photos_that_agree_by_chance_are_not_taken_for_exact() -> None:
    assert combined(np.zeros(1)).sigma > combined(np.zeros(3)).sigma > combined(np.zeros(12)).sigma > 0.05


@pytest.mark.parametrize(
    ("log_scale", "reason"),
    [
        (np.full(3, np.nan), "no photo has 20 points"),
        (np.array([0.0, 0.0, 2.0, 2.0]), "disagree about the scale: 1 to 7.39"),
        (np.linspace(-3.0, 3.0, 9), "disagree about the scale"),
    ],
)
def test_no_scale_where_photos_have_none_or_contradict_each_other(log_scale: np.ndarray, reason: str) -> None:
    found = combined_scale(np.arange(len(log_scale)), log_scale, OPTIONS)
    assert isinstance(found, str) and reason in found


def test_the_scale_of_a_photo_is_robust() -> None:
    """A third of the points behind the surface; a map of a quarter of the size; unknown depth in its left half."""
    rng = np.random.default_rng(0)
    xy, known = rng.uniform(0, (400, 300), (200, 2)), rng.uniform(1, 9, 200)
    metres = np.full((75, 100), np.nan)
    column, row = (xy / 4).astype(int).T
    metres[row, column] = 2.0 * known
    metres[:, :50] = np.nan
    last = {(r, c): k for k, (r, c) in enumerate(zip(row.tolist(), column.tolist(), strict=True))}
    own = np.array(sorted(last.values()))
    seen = known[own].copy()
    seen[rng.random(len(seen)) < 0.3] *= 3.0
    assert photo_log_scale(metres, xy[own], (400, 300), seen, 20) == pytest.approx(np.log(2.0))
    assert np.isnan(photo_log_scale(metres, xy[own], (400, 300), seen, 150))
    outside = xy[own] + 1000.0
    assert np.isnan(photo_log_scale(metres, outside, (400, 300), seen, 1))


def test_photos_are_spread_over_the_scene() -> None:
    """Of forty photos in two clusters, and one far away, with too few points in one of the clusters' photos."""
    rng = np.random.default_rng(1)
    centre = np.concatenate([rng.normal(0, 0.1, (30, 3)), rng.normal(10, 0.1, (9, 3)), [[0.0, 50.0, 0.0]]])
    points = np.full(40, 100)
    points[35] = 5
    points[3] = 200
    chosen = spread_photos(centre, centre, points, MetricScaleOptions(photos=3))
    assert 3 in chosen and 39 in chosen and any(30 <= row < 39 for row in chosen.tolist())
    everything = spread_photos(centre, centre, points, MetricScaleOptions(photos=100))
    assert everything.tolist() == [row for row in range(40) if row != 35]
    assert len(spread_photos(centre, centre, np.zeros(40, int), OPTIONS)) == 0
