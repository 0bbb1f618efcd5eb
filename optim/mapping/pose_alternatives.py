"""Alternative relative poses of planar and weak pairs, which a whole model decides between.

A plane seen in two photos has two poses that explain it (Faugeras and Lustman 1988), and with few points beside the
plane the wrong one may fit better. Where only such pairs join two parts of a collection, the whole part hangs on the
choice: each part pair is a proposal to take the other pose of all its pairs, and a draft under it competes with the
first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Annotated

import numpy as np

from ..arrays import Array, Index, Mask
from ..bundle.problem import Bundle
from ..option_ranges import Angle, Count, Positive, Within
from ..rigs import frames_of
from ..rotations import rotation_angle_deg
from ..view_graph import KINDS, ViewGraph
from .plane_poses import plane_poses


@dataclass(frozen=True)
class PoseAlternativeOptions:
    """Which pairs have alternatives, and when these are proposed."""

    certain_matches: Count = 50
    """General pairs with so many matches have one pose; parts are what these pairs connect."""
    max_error: Positive = 4.0
    """Transfer error of the homography's inliers, in key point errors: matches near a plane, not exactly on it."""
    min_inliers: Annotated[int, Within("[4, inf)")] = 10
    """Matches near the plane, at least."""
    different_deg: Angle = 10.0
    """An alternative differs from the rotation of the draft by more; what is nearer, adjustment reaches by itself."""
    agreement_deg: Angle = 20.0
    """Alternatives of several pairs between the same parts agree if they turn these by angles that differ by less:
    poses of planar pairs are good to some degrees."""
    min_share: Annotated[float, Within("[0, 1]")] = 0.5
    """Least share of the matches between two parts whose pairs agree on an alternative for it to be proposed."""
    min_part_share: Annotated[float, Within("[0, 1]")] = 0.04
    """Least share of the photos that the smaller part has: a draft of many photos is not worth a single one."""
    max_proposals: Annotated[int, Within("[0, inf)")] = 6
    """Proposals, those that turn most photos first; each costs a draft."""


@dataclass(frozen=True, eq=False)
class Proposal:
    """Relative poses to take instead of those that were estimated."""

    poses: Mapping[int, Array]
    """By edge: (3, 4) b_from_a with a baseline of unit length."""
    photos: int
    """Number of photos of the smaller part, which it turns."""


def propose_alternatives(
    graph: ViewGraph, draft: Bundle, keypoint_error_px: float, options: PoseAlternativeOptions | None = None
) -> list[Proposal]:
    """Alternatives of the pairs that alone join two parts, under the intrinsics and rotations of a draft."""
    options = options or PoseAlternativeOptions()
    posed = np.isfinite(draft.cam_from_world[:, 0, 0])
    inside = posed[graph.pairs].all(axis=1)
    certain = inside & (graph.kind == KINDS.index("general")) & (graph.match_count >= options.certain_matches)
    part = _parts(graph, certain)
    between = np.flatnonzero(inside & (part[graph.pairs[:, 0]] != part[graph.pairs[:, 1]]))
    size = np.bincount(part[posed])
    found = [
        proposal
        for low, high in combinations(
            np.flatnonzero(size >= max(1.0, options.min_part_share * posed.sum())).tolist(), 2
        )
        if len(edges := between[_joins(part[graph.pairs[between]], low, high)])
        and (proposal := _proposal(graph, draft, part, edges, keypoint_error_px, options)) is not None
    ]
    return sorted(found, key=lambda each: -each.photos)[: options.max_proposals]


def _parts(graph: ViewGraph, certain: Mask) -> Index:
    """(photos,) label of the part that certain pairs and rigs connect."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    frame = np.unique(frames_of(graph.rigs, graph.photo_count), return_inverse=True)[1]
    a, b = frame[graph.pairs[certain]].T
    joined = coo_matrix((np.ones(len(a)), (a, b)), shape=(int(frame.max(initial=-1)) + 1,) * 2)
    return np.asarray(connected_components(joined, directed=False)[1], np.int64)[frame]


def _joins(parts: Index, low: int, high: int) -> Mask:
    return np.asarray((parts.min(axis=1) == low) & (parts.max(axis=1) == high))


def _proposal(
    graph: ViewGraph,
    draft: Bundle,
    part: Index,
    edges: Index,
    keypoint_error_px: float,
    options: PoseAlternativeOptions,
) -> Proposal | None:
    """The alternative that most matches of these edges agree on, if they are enough."""
    rotation = draft.cam_from_world[:, :, :3]
    poses_of = partial(
        plane_poses,
        graph,
        draft.models,
        draft.intrinsics,
        draft.camera_of_photo,
        keypoint_error_px=keypoint_error_px,
        max_error=options.max_error,
        min_inliers=options.min_inliers,
    )
    low = part[graph.pairs[edges]].min()
    listed: list[tuple[int, Array, Array]] = []
    for edge in edges.tolist():
        a, b = graph.pairs[edge].tolist()
        for pose, _ in poses_of(edge):
            # How the world of b's part is turned against that of a's part, from the lower part to the higher one.
            turn = rotation[b].T @ pose[:, :3] @ rotation[a]
            if rotation_angle_deg(turn) > options.different_deg:
                listed.append((edge, pose, turn if part[a] == low else turn.T))
    if not listed:
        return None
    turns = np.array([turn for _, _, turn in listed])
    weight = graph.match_count[[edge for edge, _, _ in listed]]
    apart_deg = rotation_angle_deg(turns[:, None] @ turns.transpose(0, 2, 1)[None])
    agree = apart_deg < options.agreement_deg
    best = int(np.argmax(agree @ weight))
    chosen: dict[int, Array] = {}
    for row in np.flatnonzero(agree[best])[np.argsort(apart_deg[best, agree[best]], kind="stable")].tolist():
        chosen.setdefault(listed[row][0], listed[row][1])
    if graph.match_count[list(chosen)].sum() < options.min_share * graph.match_count[edges].sum():
        return None
    sizes = np.bincount(part)[np.unique(part[graph.pairs[edges]])]
    return Proposal(chosen, int(sizes.min()))
