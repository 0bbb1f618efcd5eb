"""Similarities fitted to corresponding positions of which up to half are wrong.

Least median of squares (Rousseeuw 1984): of the similarities through small samples, the one of least median error. It
needs no bound for what counts as wrong, which differs by a thousand between a survey and a phone. Those within three
robust standard deviations of it are then fitted by least squares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np

from ..arrays import Array, Index, Mask
from ..option_ranges import Count, Positive
from ..rotations import exp_so3, nearest_rotation, rotation_angle_deg
from ..similarity import Similarity, fit_similarity

EXACT = 1e-12
"""Median error, as a share of the extent, below which there is nothing left to search: positions are equal."""


@dataclass(frozen=True)
class RobustSimilarityOptions:
    """Effort of the search, and which positions count as wrong."""

    max_samples: Count = 2000
    """Samples that are tried: 2000 of three hit three right ones among half wrong with certainty."""
    max_sigmas: Positive = 3.0
    """Positions with larger errors, in robust standard deviations, are wrong."""
    max_candidates: Count = 200
    """Poses whose suggested rotations are compared with those of all: each pair takes memory."""
    min_tilt_deg: Positive = 1.0
    """Standard deviation of the tilt up to which positions alone determine what is up; beyond, photos do it better."""


@dataclass(frozen=True, eq=False)
class FittedSimilarity:
    """A similarity and how well the positions agree with it."""

    similarity: Similarity
    errors: Array
    """(n,) distances from the targets."""
    inliers: Mask
    """(n,)."""
    tilt_deg: float
    """Standard deviation of the rotation about the axis that the positions determine least; 0 where orientations
    determine it."""

    @property
    def rms(self) -> float:
        """Root mean square error of the inliers."""
        return float(np.sqrt(np.mean(self.errors[self.inliers] ** 2)))


def fit_positions(
    source: Array, target: Array, options: RobustSimilarityOptions | None = None, seed: int = 0
) -> FittedSimilarity | None:
    """Fit a similarity from positions to positions (n, 3); None for fewer than three, or where they coincide."""
    return _search(source, target, 3, fit_similarity, options or RobustSimilarityOptions(), seed)


def fit_level_positions(
    source: Array, target: Array, options: RobustSimilarityOptions | None = None, seed: int = 0
) -> FittedSimilarity | None:
    """Fit a similarity whose rotation is about z, for frames that are both level; None for fewer than two positions.

    Positions on a line, as along a street, determine no other.
    """
    return _search(source, target, 2, _level_similarity, options or RobustSimilarityOptions(), seed)


def fit_poses(
    source: Array,
    target: Array,
    target_from_source: Array,
    options: RobustSimilarityOptions | None = None,
    seed: int = 0,
) -> FittedSimilarity | None:
    """Fit a similarity to positions (n, 3) and to the rotation (n, 3, 3) between frames that each pose suggests; None
    for fewer than two."""
    options = options or RobustSimilarityOptions()
    some = target_from_source[:: max(1, len(source) // options.max_candidates)]
    angle = rotation_angle_deg(some[:, None] @ target_from_source.transpose(0, 2, 1)[None])
    mean = some[int(np.argmin(np.median(angle, axis=1)))] if len(source) else np.eye(3)
    off = rotation_angle_deg(target_from_source @ mean.T)
    near = off <= max(options.max_sigmas * 1.4826 * float(np.median(off)), 1e-6) if len(source) else off > 0
    rotation = nearest_rotation(target_from_source[near].sum(axis=0)) if near.any() else mean

    def fit(a: Array, b: Array) -> Similarity:
        return _scale_and_translation(a, b, rotation)

    found = _search(source, target, 2, fit, options, seed)
    return None if found is None else FittedSimilarity(found.similarity, found.errors, found.inliers, 0.0)


def inverse_similarity(similarity: Similarity) -> Similarity:
    """The map back."""
    back = similarity.rotation.T
    return Similarity(1.0 / similarity.scale, back, -back @ similarity.translation / similarity.scale)


def composed_similarity(second: Similarity, first: Similarity) -> Similarity:
    """x -> second(first(x))."""
    return Similarity(second.scale * first.scale, second.rotation @ first.rotation, second(first.translation[None])[0])


def _search(
    source: Array,
    target: Array,
    sample: int,
    fit: Callable[[Array, Array], Similarity],
    options: RobustSimilarityOptions,
    seed: int,
) -> FittedSimilarity | None:
    if len(source) < sample or not np.ptp(source, axis=0).any() or not np.ptp(target, axis=0).any():
        return None
    best, least = None, np.inf
    for rows in _samples(len(source), sample, options.max_samples, seed):
        if not np.ptp(source[rows], axis=0).any() or not np.ptp(target[rows], axis=0).any():
            continue
        tried = fit(source[rows], target[rows])
        # Half of the positions agree; those of the sample do so anyway.
        errors = np.linalg.norm(tried(source) - target, axis=1)
        middle = min(len(source) - 1, (len(source) + sample) // 2)
        median = float(np.partition(errors, middle)[middle])
        if tried.scale > 0 and median < least:
            best, least = tried, median
            if least < EXACT * float(np.ptp(target)):
                break
    if best is None:
        return None
    inliers: Mask = np.ones(len(source), bool)
    for _ in range(5):
        errors = np.linalg.norm(best(source) - target, axis=1)
        # In three dimensions the median distance is 1.54 standard deviations of a coordinate.
        sigma = float(np.median(errors[inliers])) / 1.54 * (1.0 + 5.0 / max(len(source) - sample, 1))
        inliers = errors <= max(options.max_sigmas * np.sqrt(3.0) * sigma, 1e-9 * float(np.ptp(target)))
        if inliers.sum() < sample:
            return None
        best = fit(source[inliers], target[inliers])
    errors = np.linalg.norm(best(source) - target, axis=1)
    return FittedSimilarity(best, errors, inliers, _tilt_deg(target[inliers], errors[inliers]))


def _samples(count: int, size: int, most: int, seed: int) -> Iterator[Index]:
    if comb(count, size) <= most:
        yield from (np.array(rows) for rows in combinations(range(count), size))
        return
    rng = np.random.default_rng(seed)
    for _ in range(most):
        yield rng.choice(count, size, replace=False)


def _tilt_deg(target: Array, errors: Array) -> float:
    """Error of a position over the lever that the positions have about their longest axis."""
    lever = np.linalg.svd(target - target.mean(axis=0), compute_uv=False)
    sigma = float(np.sqrt(np.mean(errors**2) / 3.0))
    return float(np.degrees(np.arctan2(sigma, lever[1]))) if len(lever) > 1 else 90.0


def _level_similarity(source: Array, target: Array) -> Similarity:
    """Least squares over scale, turn about z and translation: complex numbers horizontally, heights beside them."""
    a, b = source - source.mean(axis=0), target - target.mean(axis=0)
    turn = np.vdot(a[:, 0] + 1j * a[:, 1], b[:, 0] + 1j * b[:, 1])
    rotation = exp_so3(np.array([[0.0, 0.0, np.angle(turn)]]))[0]
    return _scale_and_translation(source, target, rotation)


def _scale_and_translation(source: Array, target: Array, rotation: Array) -> Similarity:
    turned = source @ rotation.T
    a, b = turned - turned.mean(axis=0), target - target.mean(axis=0)
    variance = float((a**2).sum())
    scale = max(float((a * b).sum()) / variance, 0.0) if variance > 0 else 1.0
    return Similarity(scale, rotation, target.mean(axis=0) - scale * turned.mean(axis=0))
