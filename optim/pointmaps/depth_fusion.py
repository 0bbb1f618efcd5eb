"""Fuse depth predictions that are known up to one scale each into one depth per cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import Array, Index

_MIN_SPREAD = 1e-3  # keeps noise-free predictions from dividing by zero


@dataclass(frozen=True, eq=False)
class FusedDepths:
    """Fused log depths, and the log scale of every prediction relative to them."""

    log_scale: Array
    """(predictions,) log of predicted over fused depth; NaN for predictions without a sample."""
    log_depth: Array
    """(cells,) NaN for cells without a sample. Each connected group of predictions and cells has a free unit."""
    spread: float
    """Robust standard deviation of predicted around fused depths, relative to the depth."""


def fuse_depths(
    prediction: Index,
    cell: Index,
    log_depth: Array,
    weight: Array,
    predictions: int,
    cells: int,
    *,
    outlier_spreads: float = 2.0,
    iterations: int = 10,
) -> FusedDepths:
    """Fit log_depth[i] = log_scale[prediction[i]] + fused[cell[i]] to samples (n,) under a Cauchy loss.

    Means over cells and means over predictions alternate. Where every prediction covers the whole photo, as depth
    grids do, two or three iterations suffice. `outlier_spreads` is the scale of the loss in units of `spread`.
    """
    scale, fused = np.zeros(predictions), np.zeros(cells)
    sample_weight, spread = weight, 0.0
    for iteration in range(iterations):
        fused = _means(cell, log_depth - scale[prediction], sample_weight, cells)
        residual = log_depth - fused[cell] - scale[prediction]
        scale = scale + _means(prediction, residual, sample_weight, predictions)
        residual = log_depth - fused[cell] - scale[prediction]
        spread = max(1.4826 * float(np.median(np.abs(residual))), _MIN_SPREAD) if len(residual) else 0.0
        if iteration:  # the first residuals still hold the differences of scale, which are not outliers
            sample_weight = weight / (1.0 + (residual / (outlier_spreads * spread)) ** 2)
    return FusedDepths(scale, fused, spread)


def _means(owner: Index, value: Array, weight: Array, owners: int) -> Array:
    """(owners,) weighted mean of the values (n,) of each owner; NaN without any."""
    total = np.bincount(owner, weight, owners)
    sums = np.bincount(owner, weight * value, owners)
    with np.errstate(divide="ignore", invalid="ignore"):
        means: Array = sums / total
    return means
