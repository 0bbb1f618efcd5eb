"""Metres per unit of a model."""

from __future__ import annotations

from dataclasses import dataclass

from ..arrays import Array, Index, Mask


@dataclass(frozen=True, eq=False)
class MetricScale:
    """How many metres a unit of the model is."""

    metres_per_unit: float
    sigma: float
    """Standard deviation of it, as a share."""
    rows: Index
    """(n,) photos of the model that have a scale, by their row."""
    photo_scales: Array
    """(n,) metres per unit by each of them."""
    wrong: Mask
    """(n,) those that the others contradict."""
