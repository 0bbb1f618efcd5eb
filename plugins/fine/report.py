"""Refinement reports, and given poses that are inconsistent with the matches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from unposed.optim.bundle.problem import Bundle
from unposed.optim.mapping.drafts import rotation_difference_deg
from unposed.optim.mapping.epipolar import epipolar_errors_px
from unposed.optim.mapping.refinement import PairConsistency, RefinementResult, pair_consistency
from unposed.optim.rotations import skew
from unposed.optim.view_graph import ViewGraph
from unposed.pipeline.artifacts import HypothesisFigures, Photos, RefinementReport, SparseModel

MAX_NAMED = 3
"""Number of photos that a warning names; the others are counted."""


def refinement_report(result: RefinementResult, graph: ViewGraph, model: SparseModel) -> RefinementReport:
    """The report of one model."""
    inside = np.asarray(np.isin(graph.pairs, model.photos).all(axis=1))
    count, consistency, covariance = graph.match_count[inside], result.consistency, result.covariance
    poses = model.cam_from_world
    return RefinementReport(
        costs=tuple(summary.costs for summary in result.summaries),
        pairs=graph.pairs[inside].astype(np.int32),
        matches=count,
        inliers=consistency.inliers[inside],
        error_px=consistency.error_px[inside],
        removed={
            "matches off their epipolar lines": int((count - consistency.inliers[inside]).sum()),
            "key points in tracks that see a photo twice": result.off_track,
            "key points far from their point, or that show it under a small angle": result.off_point,
        },
        free_gauge=None if covariance is None else covariance.free_gauge,
        condition=None if covariance is None else covariance.condition,
        sigma_deg=None if covariance is None else _rotation_sigma_deg(covariance.poses[model.photos]),
        sigma_centre=None if covariance is None else _centre_sigma(covariance.poses[model.photos], poses),
        tension=result.tension,
    )


def hypothesis_figures(bundles: Sequence[Bundle], costs: Sequence[float]) -> tuple[HypothesisFigures, ...]:
    """Figures of all hypotheses of a model, the chosen one first, then by cost."""
    order = np.argsort(costs, kind="stable").tolist()
    chosen = bundles[order[0]]
    return tuple(
        HypothesisFigures(
            cost=float(costs[number]),
            focal_ratio=_focal_ratio(chosen, bundles[number]),
            turned_deg=rotation_difference_deg(chosen, bundles[number]),
        )
        for number in order
    )


def _focal_ratio(chosen: Bundle, other: Bundle) -> float:
    """Median over the photos in both of the other focal length over the chosen one."""
    both = np.isfinite(chosen.cam_from_world[:, 0, 0]) & np.isfinite(other.cam_from_world[:, 0, 0])
    own, its = (each.intrinsics[each.camera_of_photo[both], 0] for each in (chosen, other))
    return float(np.median(its / own)) if both.any() else float("nan")


def _rotation_sigma_deg(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """(p,) standard deviations of rotations, from covariances of poses (p, 6, 6)."""
    variance = np.trace(covariance[:, :3, :3], axis1=1, axis2=2)
    return np.asarray(np.degrees(np.sqrt(np.maximum(variance, 0.0))))


def _centre_sigma(covariance: NDArray[np.float64], poses: NDArray[np.floating]) -> NDArray[np.float64]:
    """(p,) standard deviations of camera centres -R^T t, from covariances of poses (p, 6, 6).

    With R' = exp(w) R and t' = t + dt the centre moves by R^T (w x t - dt).
    """
    jacobian = np.concatenate(
        [-skew(np.asarray(poses[:, :, 3], np.float64)), np.tile(-np.eye(3), (len(poses), 1, 1))], axis=2
    )
    variance = np.trace(jacobian @ covariance @ jacobian.transpose(0, 2, 1), axis1=1, axis2=2)
    return np.asarray(np.sqrt(np.maximum(variance, 0.0)))


def poses_in_conflict(
    graph: ViewGraph, bundle: Bundle, given: NDArray[np.float64], max_error_px: float, min_inlier_ratio: float
) -> NDArray[np.int64]:
    """Photos whose given poses (photos, 3, 4), NaN for others, are inconsistent with their matches, the worst first.

    `bundle` has the cameras, and the poses of the other photos. One wrong pose makes the edges to its neighbours
    inconsistent as well: the photo with the smallest inlier ratio is taken, and the test repeated without its edges.
    """
    fixed = np.isfinite(given[:, 0, 0])
    poses = np.where(fixed[:, None, None], given, bundle.cam_from_world)
    posed = np.isfinite(poses[:, 0, 0])
    error_px = epipolar_errors_px(graph, replace(bundle, cam_from_world=poses))
    consistency = pair_consistency(graph, error_px, max_error_px)
    return _inconsistent_photos(graph, consistency, fixed, np.asarray(posed[graph.pairs].all(axis=1)), min_inlier_ratio)


def _inconsistent_photos(
    graph: ViewGraph,
    consistency: PairConsistency,
    candidates: NDArray[np.bool_],
    usable: NDArray[np.bool_],
    min_inlier_ratio: float,
) -> NDArray[np.int64]:
    ends, count, n = graph.pairs, graph.match_count, len(candidates)
    inconsistent: list[int] = []
    while True:
        good, total = (
            np.bincount(ends[usable].ravel(), np.repeat(values[usable], 2), minlength=n)
            for values in (consistency.inliers, count)
        )
        share = np.where(candidates & (total > 0), good / np.maximum(total, 1), 1.0)
        worst = np.flatnonzero(share == share.min())
        if not len(share) or share[worst[0]] >= min_inlier_ratio:
            return np.array(inconsistent, np.int64)
        inconsistent += worst.tolist()
        usable = usable & ~np.isin(ends, worst).any(axis=1)


def warning_about(photos: Photos, wrong: NDArray[np.int64]) -> str:
    """A warning about photos whose given poses are inconsistent with their matches."""
    what, verb = ("pose", "is") if len(wrong) == 1 else ("poses", "are")
    return f"the given {what} of {named(photos, wrong.tolist())} {verb} inconsistent with the matches of the photos"


def named(photos: Photos, indices: Sequence[int]) -> str:
    """The names of the first of these photos, and how many more there are."""
    names = ", ".join(photos[index].name for index in indices[:MAX_NAMED])
    return names + (f" and {len(indices) - MAX_NAMED} more" if len(indices) > MAX_NAMED else "")


def reasons_not_refined(
    left_out: Mapping[int, str], inconsistent: set[int], registered: NDArray[np.bool_], least: int
) -> dict[int, str]:
    """Reasons of this stage for photos that are left out."""
    few = {
        photo: f"it could not be registered: fewer than {least} of its key points agree with the model"
        for photo in left_out
        if registered[photo]
    }
    return few | {
        photo: "its given pose is inconsistent with its matches" for photo in left_out if photo in inconsistent
    }
