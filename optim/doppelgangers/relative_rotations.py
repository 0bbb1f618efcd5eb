"""Relative rotations of verified pairs, under the camera parameters that make fewest of them inconsistent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..arrays import Array, Index, Mask
from ..bundle.intrinsics import Intrinsics
from ..cameras import FX, K1
from ..intrinsics_priors import FocalSource
from ..mapping.planar_ambiguity import resolve_planar_ambiguity
from ..mapping.relative_poses import RelativePoses, estimate_relative_poses
from ..mapping.view_graph_calibration import shared_focal
from ..view_graph import ViewGraph
from .capture_order import walked_pairs
from .edges import RelativeRotations
from .hypothesis import Hypothesis
from .missing_correspondences import matched_points, score_pairs
from .options import DoppelgangerOptions
from .search import SearchResult, has_inconsistent_cluster, initial_hypotheses, search_hypotheses


@dataclass(frozen=True, eq=False)
class RotationEvidence:
    """What the verified pairs say about rotations, and where the search starts."""

    edges: RelativeRotations
    """Pairs that are evidence."""
    divided: RelativeRotations
    """Pairs that are none, since their matches belong to two geometries; see `min_pose_share`."""
    divided_edges: Index
    """Their rows in the view graph."""
    intrinsics: Intrinsics
    """The cameras under which rotations were estimated."""
    initial: list[Hypothesis]
    """Hypotheses about `edges`, the best one first; none without pairs."""


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


def searched_relative_rotations(
    graph: ViewGraph,
    intrinsics: Intrinsics,
    sources: Sequence[FocalSource],
    *,
    planar: Mask,
    order: Index,
    keypoint_sigma_px: float,
    options: DoppelgangerOptions,
) -> tuple[RotationEvidence, SearchResult | None]:
    """Relative rotations of the verified pairs, and what the search finds in them; nothing without pairs.

    `sources` are those of each camera's focal length, `planar` (e,) marks pairs that one plane explains, and `order`
    (photos,) is that of capture.

    If the search leaves a cluster inconsistent, planar pairs get the pose of their two that closes more triangles, and
    it is repeated under the same cameras: wrong poses of neighbouring pairs are alike and make a cluster as
    doppelgangers do. The result is taken only if no inconsistent cluster is left, since doppelgangers whose front is
    flat may be turned until some fit.
    """
    real = np.add.reduceat(np.append(matched_points(graph), False).astype(np.int64), graph.keypoints.start[:-1])
    max_error_px = options.max_error_sigmas * keypoint_sigma_px
    scores = score_pairs(graph, options)
    fixed = _FixedInputs(graph, planar, *scores, real, order, max_error_px, options)
    found = _first_evidence(fixed, intrinsics, sources)
    if not found.initial:
        return found, None
    result = search_hypotheses(found.edges, found.initial, options)
    if not planar.any() or not has_inconsistent_cluster(result.best, found.edges, options):
        return found, result
    chosen = _evidence(fixed, found.intrinsics, found.divided_edges, chosen_planes=True)
    other = search_hypotheses(chosen.edges, chosen.initial, options)
    if (
        not has_inconsistent_cluster(other.best, chosen.edges, options)
        and other.best.cost < result.best.cost - options.min_trial_gain
    ):
        return chosen, other
    return found, result


def _first_evidence(fixed: _FixedInputs, intrinsics: Intrinsics, sources: Sequence[FocalSource]) -> RotationEvidence:
    """Relative rotations and initial hypotheses under the cameras that fit.

    With a focal length that is far off, or with a wide-angle lens taken for a perfect one, no cycle closes. If pairs
    are inconsistent, distortion is tried, and other focal lengths where pairs do not agree on one: camera parameters
    under which no cluster is inconsistent are taken for right. Where pairs agree no other focal length is tried, since
    there is mostly one under which even doppelgangers fit.
    """
    graph, options = fixed.graph, fixed.options
    focals_px, unsure = intrinsics.values[:, FX].copy(), np.zeros(len(intrinsics.values), bool)
    for camera, source in enumerate(sources):
        if source == "guess":
            suggested_px, agreement = shared_focal(graph, intrinsics.camera_of_photo, camera)
            focals_px[camera] = suggested_px if np.isfinite(suggested_px) else focals_px[camera]
            unsure[camera] = agreement < options.min_focal_agreement
    first = intrinsics.with_focals(focals_px)
    found = _evidence(fixed, first)
    if not found.initial:
        return found
    contradicted = has_inconsistent_cluster(found.initial[0], found.edges, options)
    if not contradicted and found.initial[0].cost <= options.min_trial_cost:
        return found
    for trial in _other_cameras(graph, first, sources, unsure, options):
        other = _evidence(fixed, trial, found.divided_edges)
        if (
            other.initial
            and not has_inconsistent_cluster(other.initial[0], other.edges, options)
            and other.initial[0].cost < found.initial[0].cost - options.min_trial_gain
        ):
            return other
    return found


def _other_cameras(
    graph: ViewGraph, first: Intrinsics, sources: Sequence[FocalSource], unsure: Mask, options: DoppelgangerOptions
) -> list[Intrinsics]:
    """Camera parameters to try; those that were given stay."""
    free = np.array([source != "given" for source in sources], bool)
    if not free.any():
        return []
    focals_px = first.values[:, FX]
    longer_px = np.ones(len(focals_px))
    np.maximum.at(longer_px, first.camera_of_photo, graph.keypoints.size.max(axis=1))
    trials = [_with_distortion(first, free, k1) for k1 in options.trial_distortions]
    if unsure.any():
        others = [first.with_focals(np.where(unsure, each * longer_px, focals_px)) for each in options.trial_focals]
        for other in others:
            trials += [other, *(_with_distortion(other, free, k1) for k1 in options.trial_distortions[:1])]
    return trials


def _with_distortion(intrinsics: Intrinsics, cameras: Mask, k1: float) -> Intrinsics:
    values = intrinsics.values.copy()
    values[cameras, K1] = k1
    return intrinsics.with_values(values)


def _evidence(
    fixed: _FixedInputs,
    intrinsics: Intrinsics,
    divided_edges: Index | None = None,
    chosen_planes: bool = False,
) -> RotationEvidence:
    """Relative rotations and initial hypotheses under these cameras, with the poses of planar pairs chosen or not.

    Which pairs are divided the first cameras tell, and others must explain what is left: wrong ones would divide the
    very pairs that contradict them.
    """
    cameras = intrinsics.models, intrinsics.values, intrinsics.camera_of_photo
    graph, options = fixed.graph, fixed.options
    relative = estimate_relative_poses(graph, *cameras, max_error_px=fixed.max_error_px, seed=options.seed)
    if divided_edges is None:
        share = relative.weight / np.maximum(graph.match_count[relative.edge], 1)
        divided_edges = relative.edge[share < options.min_pose_share * (np.median(share) if len(share) else 0.0)]
    is_divided = np.isin(relative.edge, divided_edges)
    divided, relative = relative.select(is_divided), relative.select(~is_divided)
    if chosen_planes:
        relative = resolve_planar_ambiguity(graph, relative, *cameras, keypoint_error_px=graph.keypoint_error_px)
    edges = _relative_rotations(fixed, relative)
    initial = initial_hypotheses(edges, options)
    return RotationEvidence(edges, _relative_rotations(fixed, divided), divided_edges, intrinsics, initial)


def _relative_rotations(fixed: _FixedInputs, relative: RelativePoses) -> RelativeRotations:
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
