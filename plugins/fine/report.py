"""What the fine stage tells of how it came to a component, and of given poses that its photos contradict."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from unposed.optim.bundle.problem import Bundle
from unposed.optim.mapping.refinement import PairConsistency, RefinementResult, epipolar_errors_px, pair_consistency
from unposed.optim.mapping.tracks import Correspondences, Keypoints
from unposed.pipeline.artifacts import Photos, RefinementReport, SparseModel

CONTRADICTED = 0.5
"""A given pose is contradicted if a smaller share of its photo's matches agrees with it."""

NAMED = 3
"""Photos of contradicted poses that a note names; the others are counted."""


def refinement_report(refined: RefinementResult, matches: Correspondences, scene: SparseModel) -> RefinementReport:
    """Of one component."""
    inside = np.asarray(np.isin(matches.pairs, scene.photos).all(axis=1))
    count, agreement, known = matches.count()[inside], refined.agreement, refined.known
    return RefinementReport(
        costs=tuple(summary.costs for summary in refined.summaries),
        pairs=matches.pairs[inside].astype(np.int32),
        matches=count,
        inliers=agreement.inliers[inside],
        error_px=agreement.error_px[inside],
        removed={
            "matches off their epipolar lines": int((count - agreement.inliers[inside]).sum()),
            "key points in tracks that see a photo twice": refined.off_track,
            "key points far from their point, or that show it under a small angle": refined.off_point,
        },
        free_gauge=None if known is None else known.free_gauge,
        condition=None if known is None else known.condition,
        sigma_deg=None if known is None else _turns_deg(known.poses[scene.photos]),
    )


def _turns_deg(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """(p,) by poses (p, 6, 6)."""
    variance = np.trace(covariance[:, :3, :3], axis1=1, axis2=2)
    return np.asarray(np.degrees(np.sqrt(np.maximum(variance, 0.0))))


def poses_in_conflict(
    views: Keypoints, matches: Correspondences, found: Bundle, given: NDArray[np.float64], bound_px: float
) -> NDArray[np.int64]:
    """Photos whose given poses (photos, 3, 4), not a number for others, do not go with their matches, the worst first.

    `found` tells the cameras, and the poses of the other photos. One wrong pose spoils the pairs with its neighbours as
    well: the blame goes to the photo that has the most of it, and the rest is judged without its pairs.
    """
    fixed = np.isfinite(given[:, 0, 0])
    poses = np.where(fixed[:, None, None], given, found.cam_from_world)
    placed = np.isfinite(poses[:, 0, 0])
    error_px = epipolar_errors_px(views, matches, replace(found, cam_from_world=poses))
    agreement = pair_consistency(matches, error_px, bound_px)
    return _blamed(matches, agreement, fixed, np.asarray(placed[matches.pairs].all(axis=1)))


def _blamed(
    matches: Correspondences, agreement: PairConsistency, suspect: NDArray[np.bool_], usable: NDArray[np.bool_]
) -> NDArray[np.int64]:
    ends, count, n = matches.pairs, matches.count(), len(suspect)
    blamed: list[int] = []
    while True:
        good, total = (
            np.bincount(ends[usable].ravel(), np.repeat(values[usable], 2), minlength=n)
            for values in (agreement.inliers, count)
        )
        share = np.where(suspect & (total > 0), good / np.maximum(total, 1), 1.0)
        worst = np.flatnonzero(share == share.min())
        if not len(share) or share[worst[0]] >= CONTRADICTED:
            return np.array(blamed, np.int64)
        blamed += worst.tolist()
        usable = usable & ~np.isin(ends, worst).any(axis=1)


def warning_about(photos: Photos, wrong: NDArray[np.int64]) -> str:
    """One line for the user."""
    names = [photos[index].name for index in wrong[:NAMED].tolist()]
    more = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
    what = "pose" if len(wrong) == 1 else "poses"
    return f"the given {what} of {', '.join(names)}{more} contradict{'s' * (len(wrong) == 1)} what the photos show"
