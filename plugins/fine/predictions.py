"""Depth and focal length priors from the predicted point maps of a network, for models with few long tracks.

Two photos, or photos whose tracks are seen by two photos only, hardly determine their focal lengths, and wrong focal
lengths bend the poses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np

from unposed.optim.arrays import Array, Index
from unposed.optim.bundle.intrinsics import Intrinsics
from unposed.optim.bundle.pose_priors import DepthPriors
from unposed.optim.bundle.problem import Bundle, IntrinsicsPrior, camera_points
from unposed.optim.cameras import CAMERA_MODELS, FX, FY
from unposed.optim.option_ranges import Count, Positive
from unposed.optim.pointmaps.pair_depths import plausible_depths
from unposed.optim.pointmaps.predicted_focals import PredictedFocalOptions
from unposed.optim.view_graph import ViewGraph
from unposed.pipeline.config import Within


@dataclass(frozen=True)
class PredictionOptions:
    """Weights of the predicted depths and focal lengths, and which models use them."""

    max_long_tracks: Annotated[int, Within("[0, inf)")] = 40
    """Points per photo that three photos see, median over the photos, from which on a model uses no predictions: these
    points constrain it better than any prediction, which would bend it."""
    independent_points: Count = 3
    """All depths of a photo weigh as much together as so many independent ones: errors of a depth map are smooth."""
    min_depth_sigma: Positive = 0.01
    """Least relative standard deviation of a depth, which is estimated from the scatter."""
    max_depth_sigma: Positive = 0.3
    """Largest relative standard deviation of a depth."""
    min_focal_sigma: Positive = 0.02
    """Least relative standard deviation of a predicted focal length: predictions for one photo are correlated."""
    min_scale_points: Count = 5
    """Points that a prediction and the model need in common to determine the scale of the prediction."""


def predicted_depths(graph: ViewGraph, subset: Bundle, options: PredictionOptions) -> DepthPriors | None:
    """Depth priors of all key points in the units of `subset`, whose points determine the scale of each prediction.

    All predictions of one key point are averaged. None where no matcher predicts depths.
    """
    row, side, log_depth = _predictions(graph, subset)
    if not len(row):
        return None
    known = _log_depths(graph, subset)
    ratio = known[row] - log_depth
    seen = np.isfinite(ratio)
    scale = _medians(side[seen], ratio[seen], int(side.max()) + 1, options.min_scale_points)
    level = log_depth + scale[side]
    kept = np.isfinite(level)
    row, level = row[kept], level[kept]
    count = np.bincount(row, minlength=len(known))
    mean = np.bincount(row, level, minlength=len(known)) / np.where(count > 0, count, np.nan)
    off = np.abs(known - mean)
    if not np.isfinite(off).any():
        return None
    scatter = float(np.clip(1.4826 * np.nanmedian(off), options.min_depth_sigma, options.max_depth_sigma))
    start = graph.keypoints.start
    per_photo = np.add.reduceat(np.append(count > 0, False).astype(np.int64), start[:-1])
    sigma = scatter * np.sqrt(np.maximum(per_photo / options.independent_points, 1.0))
    return DepthPriors(np.exp(mean), np.repeat(sigma, np.diff(start)))


def with_predicted_focals(
    prior: IntrinsicsPrior, intrinsics: Intrinsics, graph: ViewGraph, options: PredictionOptions
) -> IntrinsicsPrior:
    """The prior with the median predicted focal length of each camera that has no other prior."""
    if graph.depth_focal_px is None:
        return prior
    mean, sigma = np.broadcast_to(prior.mean, intrinsics.values.shape).copy(), prior.sigma.copy()
    predicted: dict[int, list[float]] = {}
    for pair, focals in zip(graph.pairs.tolist(), graph.depth_focal_px.tolist(), strict=True):
        for photo, focal_px in zip(pair, focals, strict=True):
            if np.isfinite(focal_px) and focal_px > 0.0:
                predicted.setdefault(int(intrinsics.camera_of_photo[photo]), []).append(float(np.log(focal_px)))
    for camera, logs in predicted.items():
        if np.isfinite(sigma[camera, FX]):
            continue
        middle = float(np.median(logs))
        spread = 1.4826 * float(np.median(np.abs(np.array(logs) - middle)))
        free = [FX] if CAMERA_MODELS[intrinsics.models[camera]].shared_focal else [FX, FY]
        mean[camera, free] = np.exp(middle)
        sigma[camera, free] = np.exp(middle) * np.clip(spread, options.min_focal_sigma, PredictedFocalOptions.max_sigma)
    return replace(prior, mean=mean, sigma=sigma)


def has_few_long_tracks(subset: Bundle, options: PredictionOptions) -> bool:
    """Whether so few points are seen by three photos that predictions help."""
    long = np.bincount(subset.point, minlength=len(subset.points)) >= 3
    posed = np.flatnonzero(np.isfinite(subset.cam_from_world[:, 0, 0]))
    count = np.bincount(subset.photo[long[subset.point]], minlength=len(subset.cam_from_world))[posed]
    return bool(np.median(count) < options.max_long_tracks)


def _predictions(graph: ViewGraph, subset: Bundle) -> tuple[Index, Index, Array]:
    """Key points with predicted depths: their rows, the side of the edge that predicts each, and the log depths."""
    rows, sides, logs = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    posed = np.isfinite(subset.cam_from_world[:, 0, 0])
    for edge in np.flatnonzero(posed[graph.pairs].all(axis=1)).tolist():
        own = graph.match_rows(edge)
        for end, (row, depth) in enumerate(((graph.row_a, graph.depth_a), (graph.row_b, graph.depth_b))):
            if depth is None:
                continue
            known = plausible_depths(depth[own])
            rows.append(row[own][known])
            sides.append(np.full(int(known.sum()), 2 * edge + end))
            logs.append(np.log(depth[own][known]))
    return np.concatenate(rows), np.concatenate(sides), np.concatenate(logs)


def _log_depths(graph: ViewGraph, subset: Bundle) -> Array:
    """(k,) log depth of every key point of the collection; NaN where the subset has no point."""
    z = camera_points(subset)[:, 2]
    out = np.full(len(graph.keypoints.xy), np.nan)
    out[subset.row] = np.log(np.where(z > 0.0, z, np.nan))
    return out


def _medians(group: Index, values: Array, groups: int, min_count: int) -> Array:
    """(groups,) median of each group; NaN for groups with fewer than min_count values."""
    order = np.lexsort((values, group))
    count = np.bincount(group, minlength=groups)
    out = np.full(groups, np.nan)
    enough = count >= min_count
    out[enough] = values[order][(np.cumsum(count) - count + count // 2)[enough]]
    return out
