"""View-graph calibration: focal lengths from fundamental matrices.

K_b^T F K_a is an essential matrix, so its first two singular values are equal; this constrains the two focal lengths
weakly, and not at all for some motions. All edges together give initial focal lengths that mapping can start from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array, Index, Mask
from ..option_ranges import Count, Positive
from ..view_graph import ViewGraph
from ..weighted_median import weighted_median


@dataclass(frozen=True)
class ViewGraphCalibrationOptions:
    """Weights of the least-squares problem over all edges."""

    max_matches: Count = 200
    """Matches from which on an edge has full weight; below, the weight grows with their number."""
    residual_sigma: Positive = 0.05
    """Standard deviation of 1 - s2 / s1, the relative difference of the singular values: scale of the Cauchy loss."""
    log_focal_weight: Positive = 0.02
    """Weight of the logarithm of the ratio to the initial focal length: holds cameras without constraints."""
    agreement: Positive = 0.2
    """Focal lengths whose logarithms differ by less agree."""
    lens_log_sigma: Positive = 0.1
    """Standard deviation of the logarithms of focal lengths of one lens, as pairs and small models find them: a camera
    beyond a core has one of the lenses in it, up to this,"""
    other_lenses: Positive = 1.0
    """or another one, which is as probable as this number of cameras in the core."""
    log_focal_step: Positive = 0.01
    """Distance of the logarithms of the focal lengths that are tried for a camera beside known ones: finer than what
    one pair tells."""


def calibrate_focals(
    graph: ViewGraph,
    intrinsics: Array,
    camera_of_photo: Index,
    known: NDArray[np.bool_],
    options: ViewGraphCalibrationOptions | None = None,
) -> Array:
    """Estimate focal lengths (cameras,) by least squares over all edges; `known` ones are constant.

    Cameras without constraints stay near their value in `intrinsics`. The residual 1 - s2 / s1 is bounded and goes to
    zero with the focal length, so the estimate is too short for long lenses: a start for a search, not its result.
    """
    from scipy.optimize import least_squares  # takes longer to import than most calibrations

    options = options or ViewGraphCalibrationOptions()
    focal = intrinsics[:, 0].copy()
    free = np.flatnonzero(~known)
    strong = np.linalg.norm(graph.fundamental, axis=(1, 2)) > 0
    if len(free) == 0 or not strong.any():
        return focal
    pairs = graph.pairs[strong]
    cameras = camera_of_photo[pairs]
    centred = _centred(graph.fundamental[strong], intrinsics[cameras])
    weight = np.sqrt(np.minimum(graph.match_count[strong], options.max_matches) / options.max_matches)

    def residuals(log_focal: Array) -> Array:
        logs = np.log(focal)
        logs[free] = log_focal
        f = np.exp(logs[cameras])
        scaled = centred.copy()
        scaled[:, :2, :] *= f[:, 1, None, None]
        scaled[:, :, :2] *= f[:, 0, None, None]
        s = np.linalg.svd(scaled, compute_uv=False)
        prior = options.log_focal_weight * (log_focal - np.log(focal[free]))
        return np.concatenate([weight * (1.0 - s[:, 1] / s[:, 0]) / options.residual_sigma, prior])

    found = least_squares(residuals, np.log(focal[free]), loss="cauchy", x_scale=0.1, xtol=1e-3, ftol=1e-4)
    focal[free] = np.exp(found.x)
    return focal


def calibrate_neighbours(
    graph: ViewGraph,
    intrinsics: Array,
    camera_of_photo: Index,
    known: Mask,
    side_px: Array,
    ratio_bounds: tuple[float, float],
    options: ViewGraphCalibrationOptions | None = None,
) -> Array:
    """Estimate focal lengths (cameras,) from edges to cameras that are known, which then are known to their neighbours.

    Each is the best of a grid between `ratio_bounds` in units of `side_px` (cameras,), under the prior that its lens is
    one of those of the `known` cameras that have edges: of others nothing was found. One known focal length of two
    makes an edge tell the other well, long lenses included, where edges between unknown cameras do not. The camera with
    most matches to known ones is next: the few matches across half a ring are wrong more often than those of
    neighbours. Cameras without such edges keep their value.
    """
    options = options or ViewGraphCalibrationOptions()
    focal, done = intrinsics[:, 0].copy(), known.copy()
    strong = (np.linalg.norm(graph.fundamental, axis=(1, 2)) > 0) & (graph.match_count > 0)
    cameras = camera_of_photo[graph.pairs[strong]]
    centred = _centred(graph.fundamental[strong], intrinsics[cameras])
    weight = np.tile(np.minimum(graph.match_count[strong], options.max_matches) / options.max_matches, 2)
    # Each edge in both directions: E and its transpose have the same singular values.
    matrices = np.concatenate([centred, centred.transpose(0, 2, 1)])
    source, target = np.concatenate([cameras, cameras[:, ::-1]]).T
    low, high = np.log(ratio_bounds)
    log_ratio = np.append(np.arange(low, high, options.log_focal_step), high)
    seen = known & np.isin(np.arange(len(known)), cameras)
    prior = _lens_cost(log_ratio, np.log(focal[seen] / side_px[seen]), options)
    while (tied := done[source] & ~done[target]).any():
        new = int(np.argmax(np.bincount(target[tied], weight[tied])))
        tied &= target == new
        with_known = _scaled(matrices[tied].transpose(0, 2, 1), focal[source[tied]]).transpose(0, 2, 1)
        tried = np.exp(log_ratio) * side_px[new]
        ratio = _singular_value_ratio(_scaled(with_known, tried[:, None]))
        cost = np.log1p(((1.0 - ratio) / options.residual_sigma) ** 2) @ weight[tied] + prior
        focal[new], done[new] = tried[np.argmin(cost)], True
    return focal


def _lens_cost(log_ratio: Array, seen: Array, options: ViewGraphCalibrationOptions) -> Array:
    """-log of the probability density at `log_ratio`, the logarithms of focal lengths over sides (n,), of a camera
    after those of `seen` (m,): a lens like one of them, or any within the range.

    Without it errors of weak edges would grow from wave to wave. A mean and a deviation of all would not do: a zoom is
    mostly used at its ends, and of two or three lenses none lies in the middle.
    """
    z = (log_ratio[:, None] - seen) / options.lens_log_sigma
    like_seen = np.exp(-0.5 * z**2).sum(axis=1) / (np.sqrt(2.0 * np.pi) * options.lens_log_sigma)
    any_lens = options.other_lenses / max(float(np.ptp(log_ratio)), options.lens_log_sigma)
    cost: Array = -np.log((like_seen + any_lens) / (len(seen) + options.other_lenses))
    return cost


def _scaled(matrices: Array, focal_px: Array) -> Array:
    """diag(f, f, 1) M; focal lengths and matrices (..., 3, 3) are broadcast."""
    rows = np.stack([focal_px, focal_px, np.ones_like(focal_px)], axis=-1)
    return rows[..., None] * matrices


def _singular_value_ratio(matrices: Array) -> Array:
    """s2 / s1 of matrices (..., 3, 3) of rank two, by s1^2 + s2^2 = |M|^2 and the trace of the square of M M^T: far
    less work than as many decompositions."""
    gram = matrices @ matrices.swapaxes(-1, -2)
    total = np.trace(gram, axis1=-2, axis2=-1)
    root = np.sqrt(np.maximum(2.0 * (gram**2).sum(axis=(-2, -1)) - total**2, 0.0))  # s1^2 - s2^2
    ratio: Array = np.sqrt(np.maximum(total - root, 0.0) / np.maximum(total + root, 1e-300))
    return ratio


def shared_focal(
    graph: ViewGraph, camera_of_photo: Index, camera: int, options: ViewGraphCalibrationOptions | None = None
) -> tuple[float, float]:
    """Median of the focal lengths estimated by the pairs within one camera, weighted by matches, and the share of the
    matches whose pairs agree with it; NaN and 0 without such pairs."""
    options = options or ViewGraphCalibrationOptions()
    inside = (camera_of_photo[graph.pairs] == camera).all(axis=1) & np.isfinite(graph.focal_px)
    if not inside.any():
        return float("nan"), 0.0
    value, weight = graph.focal_px[inside], graph.match_count[inside].astype(np.float64)
    median = weighted_median(value, weight)
    return median, float(weight[np.abs(np.log(value / median)) < options.agreement].sum() / weight.sum())


def _centred(fundamental: Array, intrinsics: Array) -> Array:
    """(e, 3, 3) unit-norm fundamental matrices in coordinates around the principal points; intrinsics (e, 2, 8)."""
    shift = np.tile(np.eye(3), (len(fundamental), 2, 1, 1))
    shift[:, :, :2, 2] = intrinsics[:, :, 2:4]
    centred = shift[:, 1].transpose(0, 2, 1) @ fundamental @ shift[:, 0]
    out: Array = centred / np.linalg.norm(centred, axis=(1, 2), keepdims=True)
    return out
