"""Which photos show enough of the same from another side, and between which depths a photo has its scene."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from unposed.optim.arrays import Array, Index
from unposed.optim.option_ranges import Count, Positive, Within


@dataclass(frozen=True)
class NeighbourOptions:
    """Which photos the depth of a photo is estimated from."""

    sources: Count = 4
    """Photos that each photo is compared with at most."""
    good_angle_deg: tuple[Positive, Positive] = (6.0, 18.0)
    """Triangulation angles between which shared points count in full: narrower ones leave depth uncertain, wider ones
    let windows look different."""
    min_angle_deg: Positive = 1.0
    """Photos that see their shared points under less are none: their depth would be noise."""
    min_shared: Count = 8
    """Points that two photos must both observe to be compared."""
    range_margin: Annotated[float, Within("[0, 1)")] = 0.25
    """By how much the range of inverse depths is wider at both ends than that of the points in a photo."""


def choose_sources(
    centres: Array, points: Array, photo: Index, point: Index, options: NeighbourOptions = NeighbourOptions()
) -> list[Index]:
    """Rows of the best sources of each photo, best first, from observations of points by photos.

    A shared point at angle a counts min(1, a / low) min(1, high / a)^2. Photos that share few points, or see them under
    too small an angle, are left out, so a photo may have no source at all.
    """
    rays = points[point] - centres[photo]
    rays /= np.maximum(np.linalg.norm(rays, axis=1, keepdims=True), 1e-12)
    observed = [np.flatnonzero(photo == row) for row in range(len(centres))]
    score = np.zeros((len(centres), len(centres)))
    low, high = options.good_angle_deg
    for a in range(len(centres)):
        at = np.full(len(points), -1)
        at[point[observed[a]]] = observed[a]
        others = np.flatnonzero((at[point] >= 0) & (photo > a))
        cosine = (rays[others] * rays[at[point[others]]]).sum(axis=1)
        angle_deg = np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))
        weight = np.minimum(1.0, angle_deg / low) * np.minimum(1.0, high / np.maximum(angle_deg, 1e-6)) ** 2
        for b in np.unique(photo[others]).tolist():
            own = photo[others] == b
            if own.sum() >= options.min_shared and np.median(angle_deg[own]) >= options.min_angle_deg:
                score[a, b] = score[b, a] = weight[own].sum()
    chosen = []
    for row in score:
        order = np.argsort(-row, kind="stable")[: options.sources]
        chosen.append(order[row[order] > 0])
    return chosen


def inverse_depth_range(depths: Array, margin: float) -> tuple[float, float]:
    """Least and largest inverse depth of a photo's points (n,), without the outermost hundredth, widened by a margin
    of them."""
    inverse = 1.0 / depths[depths > 0]
    low, high = np.quantile(inverse, [0.01, 0.99])
    return float(low * (1.0 - margin)), float(high * (1.0 + margin))
