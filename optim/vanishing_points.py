"""Vanishing points: the focal length of a single photo from lines in three directions at right angles.

Buildings, rooms, tables and boxes have many such lines. Vanishing points v1 and v2 of two directions at right angles
fix the focal length, f^2 = -(v1 - c) . (v2 - c) with the principal point c, unless one of them lies at infinity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from .arrays import Array, Index
from .option_ranges import Count, Positive, Within
from .rotations import exp_so3

BLOCK = 256
"""Samples that are scored at a time: some megabytes."""


@dataclass(frozen=True)
class VanishingPointOptions:
    """Estimation of the focal length from the line segments of a photo. Lengths are in units of its longer side."""

    max_segments: Count = 300
    """The longest ones."""
    min_length: Positive = 0.025
    """Shorter segments have no direction to speak of."""
    min_segments: Annotated[int, Within("[4, inf)")] = 20
    """Photos with fewer say nothing."""
    max_error: Positive = 0.001
    """How far the ends of a segment may lie from the line through its middle and a vanishing point: a pixel of 1000."""
    samples: Count = 4000
    """Random samples of two pairs of segments, longer ones more often."""
    min_ratio: Positive = 0.3
    """Shortest focal length; lines of wider lenses are bent."""
    max_ratio: Positive = 8.0
    """Longest focal length; longer lenses see no perspective."""
    min_support: Annotated[float, Within("[0, 1]")] = 0.45
    """Least share of the length of all segments that agrees with the three vanishing points. On 22 sets 70 of 72
    estimates above are within two deviations; below 0.36, where plants and texture are, most are wrong."""
    rivals: Count = 6
    """Best samples of different focal lengths that are refined: their spread is what the segments leave open."""
    rival_log_distance: Positive = 0.05
    """Difference of the logarithms of focal lengths from which on two samples are different."""
    rival_support: Annotated[float, Within("(0, 1]")] = 0.93
    """Least support of a rival over that of the best one."""
    refined_errors: Positive = 3.0
    """Segments up to so many times `max_error` off are refined with, under a robust loss."""
    principal_sigma: Positive = 0.02
    """Standard deviation of the principal point, which is taken to be the centre."""
    min_log_sigma: Positive = 0.03
    """Least standard deviation of the logarithm of the focal length: distortion bends lines."""
    max_log_sigma: Positive = 0.2
    """Estimates of larger standard deviation are none."""


@dataclass(frozen=True)
class FocalEstimate:
    """The focal length of a photo and how exact it is."""

    focal_px: float
    log_sigma: float
    """Standard deviation of its logarithm, hence relative."""
    support: float
    """Share of the length of all segments that agrees with it."""


@dataclass(frozen=True, eq=False)
class _Lines:
    """Segments around the principal point, in units of the longer side."""

    middle: Array
    direction: Array
    length: Array

    def errors(self, frames: Array, focal: Array) -> Array:
        """(..., 3, n) distances of the ends from the lines towards the vanishing points of the rows of `frames`
        (..., 3, 3), directions at right angles in the camera's frame, under focal lengths (...)."""
        to_x, to_y = (
            frames[..., None, k] - frames[..., None, 2] / focal[..., None, None] * self.middle[:, k] for k in (0, 1)
        )
        across = np.abs(self.direction[:, 0] * to_y - self.direction[:, 1] * to_x)
        out: Array = 0.5 * self.length * across / np.maximum(np.hypot(to_x, to_y), 1e-12)
        return out

    def support(self, errors: Array, max_error: float) -> Array:
        """(...) share of the length that agrees with one of three vanishing points, by MSAC's score."""
        agreement = np.maximum(1.0 - (errors.min(axis=-2) / max_error) ** 2, 0.0)
        out: Array = agreement @ self.length / self.length.sum()
        return out


def focal_from_segments(
    segments: Array, width: int, height: int, options: VanishingPointOptions | None = None, seed: int = 0
) -> FocalEstimate | None:
    """Estimate the focal length of a photo from its line segments (n, 2, 2) in pixels; None where they do not tell.

    Directions at right angles are sampled and scored as in MSAC, the best samples of different focal lengths refined
    by robust least squares. The deviation is that of the least squares, with an unknown principal point, and of the
    spread of all refined ones that fit about as well: a front seen squarely fits any focal length.
    """
    options = options or VanishingPointOptions()
    side = float(max(width, height))
    lines = _longest(segments, np.array([width, height]) / 2.0, side, options)
    if len(lines.length) < options.min_segments:
        return None
    frames, focal = _sampled(lines, np.random.default_rng(seed), options)
    if not len(focal):
        return None
    support = np.concatenate([
        lines.support(lines.errors(frames[k : k + BLOCK], focal[k : k + BLOCK]), options.max_error)
        for k in range(0, len(focal), BLOCK)
    ])  # fmt: skip
    refined = [_refined(lines, frames[k], focal[k], options) for k in _different(support, focal, options)]
    best = max(refined, key=lambda each: each.support)
    rivals = [each for each in refined if each.support >= options.rival_support * best.support]
    spread = max(abs(np.log(each.focal_px / best.focal_px)) for each in rivals)
    log_sigma = float(np.sqrt(best.log_sigma**2 + spread**2 + options.min_log_sigma**2))
    if best.support < options.min_support or log_sigma > options.max_log_sigma:
        return None
    return FocalEstimate(best.focal_px * side, log_sigma, best.support)


def _longest(segments: Array, principal_px: Array, side: float, options: VanishingPointOptions) -> _Lines:
    length = np.linalg.norm(segments[:, 1] - segments[:, 0], axis=1) / side
    kept = np.argsort(-length, kind="stable")[: options.max_segments]
    kept = kept[length[kept] > options.min_length]
    ends = (segments[kept] - principal_px) / side
    return _Lines(ends.mean(axis=1), (ends[:, 1] - ends[:, 0]) / length[kept, None], length[kept])


def _sampled(lines: _Lines, rng: np.random.Generator, options: VanishingPointOptions) -> tuple[Array, Array]:
    """Frames (m, 3, 3) of directions at right angles, and focal lengths (m,), from two pairs of segments each."""
    chosen = rng.choice(len(lines.length), (options.samples, 4), p=lines.length / lines.length.sum())
    middle, direction = (
        np.column_stack([xy, np.full(len(xy), w)]) for xy, w in ((lines.middle, 1), (lines.direction, 0))
    )
    through = np.cross(middle, direction)[chosen]
    first, second = np.cross(through[:, 0], through[:, 1]), np.cross(through[:, 2], through[:, 3])
    with np.errstate(all="ignore"):  # parallel segments, and those that meet at no right angle
        focal = np.sqrt(-(first[:, :2] * second[:, :2]).sum(axis=1) / (first[:, 2] * second[:, 2]))
        right = (focal > options.min_ratio) & (focal < options.max_ratio)
    focal = focal[right]
    a, b = (_unit(point[right] * np.column_stack([np.ones((len(focal), 2)), focal])) for point in (first, second))
    return np.stack([a, b, np.cross(a, b)], axis=1), focal


def _different(support: Array, focal: Array, options: VanishingPointOptions) -> list[int]:
    """The samples of most support, without those whose focal lengths are near that of a better one."""
    kept: list[int] = []
    for each in np.argsort(-support, kind="stable").tolist():
        if all(abs(np.log(focal[each] / focal[other])) > options.rival_log_distance for other in kept):
            kept.append(each)
        if len(kept) == options.rivals:
            break
    return kept


def _refined(lines: _Lines, frame: Array, focal: float, options: VanishingPointOptions) -> FocalEstimate:
    """The focal length in units of the longer side that fits best near a sample."""
    from scipy.optimize import least_squares  # takes longer to import than a photo takes here

    errors = lines.errors(frame, np.array(focal))
    used = errors.min(axis=0) < options.refined_errors * options.max_error
    towards: Index = errors.argmin(axis=0)[used]
    middle, direction, length = lines.middle[used], lines.direction[used], lines.length[used]

    def moved(x: Array) -> tuple[Array, float]:
        return frame @ exp_so3(x[None, :3])[0].T, float(np.exp(x[3]))

    def residuals(x: Array) -> Array:
        """Signed distances over the largest; x is a rotation, a logarithm, and the shift of the principal point."""
        turned, f = moved(x)
        at = turned[towards]
        to_point = at[:, :2] - at[:, 2:] / f * (middle - x[4:])
        across = direction[:, 0] * to_point[:, 1] - direction[:, 1] * to_point[:, 0]
        out: Array = 0.5 * length * across / np.maximum(np.linalg.norm(to_point, axis=1), 1e-12) / options.max_error
        return out

    def from_centre(x: Array) -> Array:
        return residuals(np.append(x, [0.0, 0.0]))

    start = np.array([0.0, 0.0, 0.0, np.log(focal)])
    found = least_squares(from_centre, start, loss="cauchy", f_scale=0.5, max_nfev=30)
    x = np.append(found.x, [0.0, 0.0])
    turned, f = moved(x)
    at_best = residuals(x)
    step = 1e-6
    jacobian = np.stack([(residuals(x + step * unit) - at_best) / step for unit in np.eye(6)], axis=1)
    weight = 1.0 / (1.0 + (at_best / 0.5) ** 2)
    normal = jacobian.T @ (weight[:, None] * jacobian)
    normal[[4, 5], [4, 5]] += options.principal_sigma**-2.0
    log_sigma = float(np.sqrt(np.linalg.pinv(normal, hermitian=True)[3, 3]))
    support = float(lines.support(lines.errors(turned, np.array(f)), options.max_error))
    return FocalEstimate(f, log_sigma, support)


def _unit(rows: Array) -> Array:
    out: Array = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-300)
    return out
