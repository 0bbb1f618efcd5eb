"""Photos of one size that several cameras took: their focal lengths lie in groups, and few cameras fit all photos."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from unposed.optim.mapping.camera_groups import nearest_groups


def distance_from_medians(values: np.ndarray, label: np.ndarray) -> float:
    return float(sum(np.abs(values[label == g] - np.median(values[label == g])).sum() for g in np.unique(label)))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("groups", [1, 2, 3, 4])
def test_groups_are_the_best_of_all(seed: int, groups: int) -> None:
    values = np.random.default_rng(seed).normal(size=9)
    order = np.argsort(values)
    best = np.inf
    for cuts in combinations(range(1, 9), groups - 1):
        label = np.empty(9, int)
        label[order] = np.searchsorted(cuts, np.arange(9), side="right")
        best = min(best, distance_from_medians(values, label))
    found = nearest_groups(values, groups)
    assert distance_from_medians(values, found) == pytest.approx(best)
    assert set(found.tolist()) == set(range(groups))
    assert (np.diff(found[order]) >= 0).all()


def test_outliers_form_no_group() -> None:
    values = np.concatenate([np.log(800 + np.arange(-9, 10)), [np.log(830)], np.log(1060 + np.arange(-9, 10))])
    np.testing.assert_array_equal(nearest_groups(values, 2), [0] * 20 + [1] * 19)
