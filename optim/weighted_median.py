"""The median of values that do not weigh the same."""

from __future__ import annotations

import numpy as np

from .arrays import Array


def weighted_median(values: Array, weights: Array) -> float:
    """The first of the sorted values (n,) at which their weights (n,), summed up, reach half of the total."""
    order = np.argsort(values, kind="stable")
    cumulative = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(cumulative, 0.5 * cumulative[-1])])
