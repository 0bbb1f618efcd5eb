"""Relative rotations of verified pairs, under the camera parameters that make fewest of them inconsistent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..arrays import Array, Index, Mask
from ..bundle.intrinsics import Intrinsics
from ..cameras import FX, K1
from ..intrinsics_priors import FocalSource
from ..mapping.relative_poses import estimate_relative_poses
from ..mapping.view_graph_calibration import shared_focal
from ..view_graph import ViewGraph
from .capture_order import walked_pairs
from .edges import RelativeRotations
from .hypothesis import Hypothesis
from .missing_correspondences import matched_points, score_pairs
from .options import DoppelgangerOptions
from .search import has_inconsistent_cluster, initial_hypotheses


@dataclass(frozen=True, eq=False)
class _FixedInputs:
    """Inputs and scores of pairs that do not depend on the camera parameters."""

    graph: ViewGraph
    planar: Mask
    missing_score: Array
    match_completeness: Array
    real: Index
    """(photos,) number of key points that match in any photo."""
    order: Index
    max_error_px: float
    options: DoppelgangerOptions
    threads: int


def estimate_relative_rotations(
    graph: ViewGraph,
    intrinsics: Intrinsics,
    sources: Sequence[FocalSource],
    *,
    planar: Mask,
    order: Index,
    keypoint_sigma_px: float,
    options: DoppelgangerOptions,
    threads: int = 1,
) -> tuple[RelativeRotations, list[Hypothesis]]:
    """Relative rotations of the verified pairs, and initial hypotheses, none without pairs.

    `sources` are those of each camera's focal length, `planar` (e,) marks pairs that one plane explains, and `order`
    (photos,) is that of capture.

    With a focal length that is far off, or with a wide-angle lens taken for a perfect one, no cycle closes. If pairs
    are inconsistent, distortion is tried, and other focal lengths where pairs do not agree on one: camera parameters
    under which no cluster is inconsistent are taken for right. Where pairs agree no other focal length is tried, since
    there is mostly one under which even doppelgangers fit.
    """
    real = np.add.reduceat(np.append(matched_points(graph), False).astype(np.int64), graph.keypoints.start[:-1])
    max_error_px = options.max_error_sigmas * keypoint_sigma_px
    fixed = _FixedInputs(
        graph, planar, *score_pairs(graph, options, threads), real, order, max_error_px, options, threads
    )
    focals_px, unsure = intrinsics.values[:, FX].copy(), np.zeros(len(intrinsics.values), bool)
    for camera, source in enumerate(sources):
        if source == "guess":
            suggested_px, agreement = shared_focal(graph, intrinsics.camera_of_photo, camera)
            focals_px[camera] = suggested_px if np.isfinite(suggested_px) else focals_px[camera]
            unsure[camera] = agreement < options.min_focal_agreement
    edges = _relative_rotations(fixed, intrinsics.with_focals(focals_px))
    initial = initial_hypotheses(edges, options)
    free = np.array([source != "given" for source in sources], bool)
    if not initial or not free.any():
        return edges, initial
    if initial[0].cost <= options.min_trial_cost and not has_inconsistent_cluster(initial[0], edges, options):
        return edges, initial
    longer_px = np.ones(len(focals_px))
    np.maximum.at(longer_px, intrinsics.camera_of_photo, graph.keypoints.size.max(axis=1))
    trials: list[tuple[Array, float | None]] = [(focals_px, k1) for k1 in options.trial_distortions]
    if unsure.any():
        others_px = [np.where(unsure, factor * longer_px, focals_px) for factor in options.trial_focals]
        trials += [(other_px, k1) for other_px in others_px for k1 in (None, *options.trial_distortions[:1])]
    for trial_px, k1 in trials:
        trial = intrinsics.with_focals(trial_px)
        other = _relative_rotations(fixed, trial if k1 is None else _with_distortion(trial, free, k1))
        others = initial_hypotheses(other, options)
        if (
            others
            and not has_inconsistent_cluster(others[0], other, options)
            and others[0].cost < initial[0].cost - options.min_trial_gain
        ):
            return other, others
    return edges, initial


def _with_distortion(intrinsics: Intrinsics, cameras: Mask, k1: float) -> Intrinsics:
    values = intrinsics.values.copy()
    values[cameras, K1] = k1
    return intrinsics.with_values(values)


def _relative_rotations(fixed: _FixedInputs, intrinsics: Intrinsics) -> RelativeRotations:
    relative = estimate_relative_poses(
        fixed.graph,
        intrinsics.models,
        intrinsics.values,
        intrinsics.camera_of_photo,
        max_error_px=fixed.max_error_px,
        seed=fixed.options.seed,
        threads=fixed.threads,
    )
    pairs = fixed.graph.pairs[relative.edge]
    return RelativeRotations(
        photos=fixed.graph.photo_count,
        pairs=pairs,
        b_from_a=relative.b_from_a[:, :, :3],
        matches=relative.weight,
        match_ratio=relative.weight / fixed.real[pairs].min(axis=1),
        planar=fixed.planar[relative.edge],
        missing_score=fixed.missing_score[relative.edge],
        match_completeness=fixed.match_completeness[relative.edge],
        walked=walked_pairs(fixed.graph.photo_count, pairs, relative.weight, fixed.order, fixed.options),
    )
