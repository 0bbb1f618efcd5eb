"""Medians of values that do not weigh the same."""

from __future__ import annotations

import numpy as np

from unposed.optim.weighted_median import weighted_median


def test_heavy_values_count_more() -> None:
    values = np.array([5.0, 1.0, 3.0])
    assert weighted_median(values, np.ones(3)) == 3.0
    assert weighted_median(values, np.array([3.0, 1.0, 1.0])) == 5.0
    assert weighted_median(values, np.array([1.0, 3.0, 1.0])) == 1.0
    assert weighted_median(values[:2], np.ones(2)) == 1.0  # the first one that reaches half
