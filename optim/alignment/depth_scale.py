"""The scale of a model from depths in metres that networks predict for single photos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from ..arrays import Array, Index
from ..option_ranges import Count, Positive, Within
from .metric_scale import MetricScale

_ROUNDS = 5
"""Of leaving out and averaging, after which nothing changes."""


@dataclass(frozen=True)
class MetricScaleOptions:
    """How predicted depths of single photos become one scale with its error."""

    photos: Count = 12
    """Photos that are looked at, spread over the scene. More hardly help: what is left is the error that all share."""
    min_points: Count = 20
    """Points in a photo, with a predicted depth each, below which its scale is not known."""
    max_sigmas: Positive = 3.0
    """Photos whose scale is off by more robust standard deviations are wrong, as where a poster fills the photo."""
    photo_sigma: Positive = 0.1
    """Standard deviation of the scale of one photo, as a share, that is expected before any is seen."""
    prior_photos: Positive = 2.0
    """Photos that this expectation weighs as much as, so that two or three that agree by chance give no small error."""
    shared_sigma: Annotated[float, Within("[0, 1]")] = 0.05
    """Error, as a share, that all photos have in common, and no scatter shows: of a kind of scene that the network was
    not trained on, and of the focal length."""
    max_scatter: Positive = 0.5
    """Scatter of the scales of photos, as a share, above which the network does not know this scene."""


def spread_photos(centre: Array, looked_at: Array, points: Index, options: MetricScaleOptions) -> Index:
    """Choose photos that are far from each other, by their camera centres (n, 3), the middles of what they see (n, 3)
    and their numbers of points (n,): the one with most points, then always the farthest from those chosen.

    Photos of one place share the error of the network; photos of several places average it.
    """
    able = np.flatnonzero(points >= options.min_points)
    if not len(able):
        return able
    place = np.concatenate([centre[able], looked_at[able]], axis=1)
    chosen = [int(points[able].argmax())]
    distance = np.linalg.norm(place - place[chosen[0]], axis=1)
    while len(chosen) < min(options.photos, len(able)):
        distance[chosen] = -1.0
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(place - place[chosen[-1]], axis=1))
    return np.sort(able[chosen])


def photo_log_scale(metres: Array, xy: Array, size: tuple[int, int], known: Array, min_points: int) -> float:
    """Median over points of log(predicted metres / depth in the model); NaN where too few of them have both.

    `metres` (h, w) covers an image of `size` (width, height), in which the points of depths `known` (n,) lie at
    xy (n, 2). The median is indifferent to points in front of or behind the surface, and to edges of depth.
    """
    height, width = metres.shape
    column = np.floor(xy[:, 0] * (width / size[0])).astype(np.int64)
    row = np.floor(xy[:, 1] * (height / size[1])).astype(np.int64)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height) & (known > 0)
    predicted, known = np.asarray(metres[row[inside], column[inside]], np.float64), known[inside]
    usable = np.isfinite(predicted) & (predicted > 0)
    if usable.sum() < min_points:
        return float("nan")
    return float(np.median(np.log(predicted[usable] / known[usable])))


def combined_scale(rows: Index, log_scale: Array, options: MetricScaleOptions) -> MetricScale | str:
    """The scale that most photos agree on, from that of each (n,), NaN where it has none; or why there is none.

    Mean m of the right photos, from the median on; its standard deviation is (s^2 / n + shared^2)^(1/2), where s is
    the scatter of the n right ones, drawn towards the expected one as by `prior_photos`.
    """
    rows, log_scale = rows[np.isfinite(log_scale)], log_scale[np.isfinite(log_scale)]
    if not len(rows):
        return f"no photo has {options.min_points} points whose depth is predicted"
    middle, deviation = float(np.median(log_scale)), np.abs(log_scale - np.median(log_scale))
    scatter = _scatter(1.4826 * float(np.median(deviation)), len(rows), options)
    right = np.ones(len(rows), bool)
    for _ in range(_ROUNDS):
        right = np.abs(log_scale - middle) <= options.max_sigmas * scatter
        if not right.any():
            break
        middle = float(log_scale[right].mean())
        scatter = _scatter(float(np.std(log_scale[right])), int(right.sum()), options)
    if 2 * right.sum() <= len(rows) or scatter > options.max_scatter:
        low, high = np.exp(log_scale.min()), np.exp(log_scale.max())
        return f"its photos disagree about the scale: {low:.3g} to {high:.3g} metres per unit"
    sigma = float(np.hypot(scatter / np.sqrt(right.sum()), options.shared_sigma))
    return MetricScale(float(np.exp(middle)), sigma, rows, np.exp(log_scale), ~right)


def _scatter(seen: float, photos: int, options: MetricScaleOptions) -> float:
    """Standard deviation of the scale of a photo, from what is seen of some photos and what is expected."""
    prior = options.prior_photos
    squared = (prior * options.photo_sigma**2 + photos * seen**2) / (prior + photos)
    return float(np.sqrt(squared))
