"""Evidence for and against a model: what its own matches, tracks, cuts and hypotheses show.

Nothing here looks at how small residuals are, since bundle adjustment makes them small for wrong models as well. What
counts is what a wrong model cannot hide: matches that it had to leave out, tracks that do not meet in a point, parts
that few matches hold together, poses that the observations leave open, drafts that ended elsewhere, and neighbours that
do not match as neighbours do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from ..arrays import Array, Index, Mask
from ..bundle.problem import Bundle
from ..evaluation import evaluate_poses
from ..mapping.epipolar import agreeing_matches
from ..mapping.tracks import establish_tracks, spread_subset
from ..mapping.triangulation import track_errors_px
from ..option_ranges import Count, Positive, Within
from ..rigs import frames_of
from ..view_graph import ViewGraph
from .neighbours import NearestViewOptions, neighbour_matches

LIMIT_DEG = 5
"""Poses within so many degrees are right: the verdict is about these."""


@dataclass(frozen=True)
class EvidenceOptions(NearestViewOptions):
    """Thresholds of the evidence; errors are in units of the expected key point error."""

    tracks_per_photo: Count = 150
    """Tracks that are triangulated anew under the poses, long ones first."""
    bound_error: Positive = 6.0
    """Observations that decide where the point of a track is."""
    agreeing_error: Positive = 4.0
    """Observations and matches within it agree with the poses."""
    contradicted_share: Annotated[float, Within("[0, 1]")] = 0.3
    """A pair is contradicted by the model if a smaller share of its matches agrees: chance alone gives a tenth."""
    max_photos: Annotated[int, Within("[2, inf)")] = 500
    """Models with more photos have no smallest cut, and so many of their photos, evenly picked, show how far refinement
    moved them: both grow with the square of the number."""
    max_margin: Positive = 0.5
    """Margin to the next hypothesis beyond which more says no more; also that of a model without another one."""
    different_deg: Positive = 5.0
    """Hypotheses that turn the photos by less are the same model,"""
    different_log_focal: Positive = 0.1
    """unless the logarithms of their focal lengths differ by more."""


@dataclass(frozen=True, eq=False)
class ModelEvidence:
    """Evidence about one model; all but `contradicted` and `disagreeing` grow with how likely the model is right."""

    agreement: float
    """Share of the observations of tracks, from all matches that mapping used, that agree with their point."""
    contradicted: float
    """Share of the matches between photos of the model whose pair the model contradicts, pairs left out included."""
    disagreeing: float
    """Share of the matches that mapping used which are off their epipolar lines."""
    neighbours: float
    """Mean over the photos of their matches with the nearest view over those with the best partner; NaN without any,
    and of two photos, which are each other's."""
    rival_margin: float
    """Energy by which the search of doppelgangers preferred this reading of the pairs to one that keeps what it left
    out."""
    cut_matches: float
    """Smallest number of agreeing matches across a cut of the model into two parts of several photos each."""
    determined: float
    """Share of the pairs of photos that the covariance of the poses leaves within 5 degrees; NaN if not computed."""
    margin: float
    """Logarithm of the cost of the cheapest other hypothesis over that of the model."""
    unchanged: float
    """AUC at 5 degrees between the poses before and after refinement: what moves far had no hold."""
    photo_observations: float
    """Median number of observations of a photo."""
    photos: int
    """Number of photos in the model."""


@dataclass(frozen=True, eq=False)
class PhotoEvidence:
    """Evidence about each photo of a model (p,)."""

    observations: Index
    """Number of points that the photo observes."""
    agreeing: Array
    """Share of its matches that agree with the poses."""
    ties: Index
    """Number of other photos with which it has enough agreeing matches for a relative pose."""
    determined: Array
    """Share of its pairs that the covariance leaves within 5 degrees; NaN if not computed."""


MIN_TIE_MATCHES = 15
"""Agreeing matches that tie two photos: fewer give no relative pose."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A model, what it came from, and what is known of it."""

    photos: Index
    """(p,)."""
    bundle: Bundle
    """Poses and intrinsics of the collection, NaN outside the model; its points are not read."""
    draft: Array
    """(photos, 3, 4) poses before refinement."""
    observations: Index
    """(p,) points that each photo observes."""
    targets: Array
    """(p, 3) middle of the points that each photo observes; NaN without any."""
    sigma_deg: Array | None = None
    """(p,) standard deviation of each rotation."""
    sigma_centre: Array | None = None
    """(p,) standard deviation of each camera centre, in units of the world."""
    hypotheses: Sequence[tuple[float, float, float]] = ()
    """Cost, focal length over the chosen one, and turn in degrees of the hypotheses, the chosen one first."""
    rival_margin: float = float("inf")
    """How far the search of doppelgangers was ahead of its rivals."""


def gather_evidence(
    graph: ViewGraph, left_out: Mask, model: Candidate, options: EvidenceOptions | None = None
) -> tuple[ModelEvidence, PhotoEvidence]:
    """Evidence about a model and its photos; `left_out` (e,) marks edges of the graph that mapping did not use. Photos
    that a rig fixes to each other count as one."""
    options = options or EvidenceOptions()
    inside = np.zeros(graph.photo_count, bool)
    inside[model.photos] = True
    own = np.asarray(inside[graph.pairs].all(axis=1))
    graph, left_out = graph.select(own), left_out[own]
    agreeing = agreeing_matches(graph, model.bundle, options.agreeing_error * graph.keypoint_error_px)
    share = agreeing / np.maximum(graph.match_count, 1)
    contradicted = share < options.contradicted_share
    frame = _frames(model)
    number = frame[np.searchsorted(model.photos, graph.pairs)]
    nodes = int(frame.max(initial=-1)) + 1
    observations = np.bincount(frame, model.observations, minlength=nodes)
    determined = _determined(model, frame)
    used = graph.select(~left_out)
    neighbours = neighbour_matches(used, model.photos, model.bundle, model.targets, frame, options)
    evidence = ModelEvidence(
        agreement=_track_agreement(used, model.bundle, options),
        contradicted=float(graph.match_count[contradicted].sum()) / max(float(graph.match_count.sum()), 1.0),
        disagreeing=1.0 - float(agreeing[~left_out].sum()) / max(float(used.match_count.sum()), 1.0),
        neighbours=float(np.nanmean(neighbours)) if nodes > 2 and np.isfinite(neighbours).any() else float("nan"),
        rival_margin=model.rival_margin,
        cut_matches=smallest_cut(nodes, number, np.where(contradicted, 0, agreeing))
        if nodes <= options.max_photos
        else float("inf"),
        determined=float(np.mean(determined)) if determined is not None else float("nan"),
        margin=_margin(model.hypotheses, options),
        unchanged=_unchanged(model, options.max_photos),
        photo_observations=float(np.median(observations)),
        photos=len(model.photos),
    )
    tied = agreeing >= MIN_TIE_MATCHES
    matches, good = (
        np.bincount(number.ravel(), np.repeat(each, 2), minlength=nodes) for each in (graph.match_count, agreeing)
    )
    return evidence, PhotoEvidence(
        observations=observations[frame].astype(np.int64),
        agreeing=(good / np.maximum(matches, 1))[frame],
        ties=np.bincount(number[tied].ravel(), minlength=nodes)[frame],
        determined=np.full(len(frame), np.nan) if determined is None else determined,
    )


def _frames(model: Candidate) -> Index:
    """(p,) number of the frame of each photo of the model."""
    frame = frames_of(model.bundle.rigs, len(model.bundle.cam_from_world))[model.photos]
    return np.unique(frame, return_inverse=True)[1]


def _track_agreement(graph: ViewGraph, bundle: Bundle, options: EvidenceOptions) -> float:
    tracks = spread_subset(
        establish_tracks(graph.keypoints, *graph.matches()), graph.photo_count, options.tracks_per_photo
    )
    if not len(tracks.row):
        return 0.0
    error_px = graph.keypoint_error_px
    errors = track_errors_px(graph.keypoints, tracks, bundle, bound_px=options.bound_error * error_px)
    return float(np.mean(errors < options.agreeing_error * error_px))


def smallest_cut(nodes: int, pairs: Index, weight: Array | Index) -> float:
    """Least weight across a cut into two parts, each of at least a tenth of the nodes and of two.

    Of the cuts that the edges of a maximum spanning tree define: where a graph falls into parts that little holds
    together, one of these separates them. Infinite where no cut leaves parts that large.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree

    least = max(2, round(0.1 * nodes))
    dense = coo_array((np.asarray(weight, float), (pairs[:, 0], pairs[:, 1])), shape=(nodes, nodes)).tocsr()
    dense.eliminate_zeros()
    if connected_components(dense, directed=False)[0] > 1:
        return 0.0
    inverse = dense.copy()
    inverse.data = 1.0 / inverse.data
    tree = minimum_spanning_tree(inverse)
    order, parent = breadth_first_order(tree, 0, directed=False)
    below = np.eye(nodes, dtype=bool)  # below[i]: the nodes of the subtree at i
    for node in order[:0:-1].tolist():
        below[parent[node]] |= below[node]
    size = below.sum(axis=1)
    found = [
        float(np.asarray(weight)[below[node][pairs[:, 0]] != below[node][pairs[:, 1]]].sum())
        for node in order[1:].tolist()
        if least <= size[node] <= nodes - least
    ]
    return min(found, default=float("inf"))


def _determined(model: Candidate, frame: Index) -> Array | None:
    """(p,) mean over the photos of other frames of max(0, 1 - s / 5), s the larger standard deviation in degrees of the
    relative rotation and of the direction of the baseline."""
    if model.sigma_deg is None or model.sigma_centre is None:
        return None
    poses = model.bundle.cam_from_world[model.photos]
    centre = -np.einsum("pij,pi->pj", poses[:, :, :3], poses[:, :, 3])
    distance = np.linalg.norm(centre[:, None] - centre[None], axis=2)
    moved = np.hypot(model.sigma_centre[:, None], model.sigma_centre[None])
    turned = np.hypot(model.sigma_deg[:, None], model.sigma_deg[None])
    direction = np.degrees(moved / np.maximum(distance, 1e-12 * max(float(distance.max()), 1e-300)))
    share = np.clip(1.0 - np.maximum(direction, turned) / LIMIT_DEG, 0.0, 1.0)
    other = frame[:, None] != frame
    out: Array = (share * other).sum(axis=1) / np.maximum(other.sum(axis=1), 1)
    return out


def _margin(hypotheses: Sequence[tuple[float, float, float]], options: EvidenceOptions) -> float:
    if not hypotheses:
        return options.max_margin
    own = hypotheses[0][0]
    others = [
        cost
        for cost, focal_ratio, turned_deg in hypotheses[1:]
        if turned_deg > options.different_deg or not abs(np.log(focal_ratio)) < options.different_log_focal
    ]
    margins = [float(np.log(max(cost, 1e-9) / max(own, 1e-9))) for cost in others]
    return min([options.max_margin, *margins])


def _unchanged(model: Candidate, max_photos: int) -> float:
    photos = model.photos[:: -(-len(model.photos) // max_photos)]
    before, after = model.draft[photos], model.bundle.cam_from_world[photos]
    known = np.isfinite(before[:, 0, 0])
    if known.sum() < 2:
        return 0.0
    return evaluate_poses(before[known], after[known]).auc[LIMIT_DEG] or 0.0
