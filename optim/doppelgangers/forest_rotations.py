"""Absolute rotations from relative ones: along a spanning forest first, then averaged over the consistent pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import Array, Index, Mask
from ..rotations import nearest_rotation, orthonormalised, rotation_residuals_deg
from .edges import RelativeRotations, weighted_matches
from .options import DoppelgangerOptions


@dataclass(frozen=True, eq=False)
class Forest:
    """A spanning forest of the view graph."""

    rotations: Array
    """(photos, 3, 3) cam_from_world along the forest, each tree in a frame of its own."""
    parent: Index
    """(photos,) parents; the first photo of a tree is its root, and its own parent: equal forests have equal ones."""
    depth: Index
    """(photos,) edges up to the root."""


def rotations_along_forest(
    edges: RelativeRotations, order: Index, max_missing_score: float, options: DoppelgangerOptions
) -> Forest:
    """A spanning forest, and rotations along it.

    Kruskal's algorithm over the pairs in this order, so that the forest is maximal for the weight they are sorted by.
    Pairs above `max_missing_score` join nothing, and a pair that would make one of them consistent is skipped. Of two
    trees the smaller one is turned, so that every photo is turned at most log2(photos) times.
    """
    pairs, b_from_a, unlikely = edges.pairs, edges.b_from_a, edges.missing_score > max_missing_score
    rotations = np.tile(np.eye(3), (edges.photos, 1, 1))
    members = [[photo] for photo in range(edges.photos)]
    tree, anchor = np.arange(edges.photos), list(range(edges.photos))
    unlikely_at = _incident_rows(edges.photos, pairs, np.flatnonzero(unlikely))
    joined = []
    for row in order[~unlikely[order]].tolist():
        a, b = pairs[row].tolist()
        if tree[a] == tree[b]:
            continue
        fixed, moved = int(tree[a]), int(tree[b])
        first = anchor[fixed]
        # Turns the frame of b's tree into that of a's. The rounding errors of both trees enter, and left in they triple
        # wherever two trees of about the same size are joined.
        turn = orthonormalised(rotations[b].T @ b_from_a[row] @ rotations[a])
        if len(members[moved]) > len(members[fixed]):
            fixed, moved, turn = moved, fixed, turn.T
        photos = members[moved]
        between = [at for photo in photos for at in unlikely_at.get(photo, ()) if fixed in tree[pairs[at]]]
        if between and _any_consistent(edges, between, photos, rotations, turn, options):
            continue
        rotations[photos] = rotations[photos] @ turn
        tree[photos], anchor[fixed] = fixed, first
        members[fixed] += photos
        members[moved] = []
        joined.append(row)
    # Residuals between trees depend on their frames: that of a tree is its anchor's, whichever tree was turned.
    rotations = rotations @ rotations[np.array(anchor)[tree]].transpose(0, 2, 1)
    return Forest(rotations, *_rooted(edges.photos, pairs[joined]))


def _rooted(photos: int, pairs: Index) -> tuple[Index, Index]:
    """Parent and depth of each photo in the forest of these pairs; the first photo of a tree is its root.

    Like `mapping.spanning_forest.rooted`, for pairs without cycles. Plain lists: the search asks for hundreds of small
    forests, and the sparse matrices of a search of any graph take twenty times longer to be made.
    """
    joined: list[list[int]] = [[] for _ in range(photos)]
    for a, b in pairs.tolist():
        joined[a].append(b)
        joined[b].append(a)
    parent, depth = [-1] * photos, [0] * photos
    for root in range(photos):
        if parent[root] >= 0:
            continue
        parent[root], reached = root, [root]
        for photo in reached:  # grows meanwhile
            for other in joined[photo]:
                if parent[other] < 0:
                    parent[other], depth[other] = photo, depth[photo] + 1
                    reached.append(other)
    return np.array(parent, np.int64), np.array(depth, np.int64)


def _incident_rows(photos: int, pairs: Index, rows: Index) -> dict[int, list[int]]:
    """These rows of pairs by each of their two photos."""
    incident: dict[int, list[int]] = {}
    for row in rows.tolist():
        for photo in pairs[row].tolist():
            incident.setdefault(photo, []).append(row)
    return incident


def _any_consistent(
    edges: RelativeRotations,
    rows: list[int],
    moved: list[int],
    rotations: Array,
    turn: Array,
    options: DoppelgangerOptions,
) -> bool:
    """Whether any of these pairs would be consistent if the moved photos were turned."""
    pairs = edges.pairs[rows]
    ends = rotations[pairs]
    ends = np.where(np.isin(pairs, moved)[..., None, None], ends @ turn, ends).reshape(-1, 3, 3)
    local = np.arange(len(ends)).reshape(-1, 2)
    residual_deg = rotation_residuals_deg(local, edges.b_from_a[rows], ends)
    return bool((residual_deg < options.max_rotation_error_deg).any())


def cycle_lengths(pairs: Index, parent: Index, depth: Index, longest: int) -> Index:
    """(e,) edges of the path through the forest from one photo of each pair to the other; counted up to `longest`."""
    a, b = pairs.T.copy()
    length = np.zeros(len(pairs), np.int64)
    for _ in range(longest):  # both ends climb, so that every pass counts one edge at least
        apart = (a != b) & (depth[a] + depth[b] > 0)
        if not apart.any():
            break
        up_a, up_b = apart & (depth[a] >= depth[b]), apart & (depth[b] >= depth[a])
        a, b = np.where(up_a, parent[a], a), np.where(up_b, parent[b], b)
        length += up_a.astype(np.int64) + up_b
    return length


def closing_edges(edges: RelativeRotations, forest: Forest, options: DoppelgangerOptions) -> Mask:
    """(e,) whether the cycle of a pair and its path through the forest closes; long cycles may miss by more."""
    slack_deg = max(options.max_cycle_error_deg - options.cycle_error_deg, 0.0)
    longest = int(np.ceil(slack_deg / max(options.cycle_error_per_edge_deg, 1e-9)))
    length = cycle_lengths(edges.pairs, forest.parent, forest.depth, min(longest, edges.photos))
    bound_deg = options.cycle_error_deg + options.cycle_error_per_edge_deg * length
    residual_deg = rotation_residuals_deg(edges.pairs, edges.b_from_a, forest.rotations)
    closes: Mask = residual_deg <= np.minimum(bound_deg, options.max_cycle_error_deg)
    return closes


def averaged_rotations(
    edges: RelativeRotations, consistent: Mask, start_rotations: Array, options: DoppelgangerOptions
) -> Array:
    """Rotations (photos, 3, 3) averaged over the consistent pairs, from `start_rotations`.

    In each sweep every photo takes the weighted mean of the rotations that its neighbours and its pairs with them imply
    (Hartley et al. 2013): simple, and exact enough to tell consistent pairs from inconsistent ones.
    """
    pairs, b_from_a = edges.pairs[consistent], edges.b_from_a[consistent]
    weight = np.minimum(weighted_matches(edges, options)[consistent], options.significant_matches)[:, None, None]
    # Both directions of each pair, sorted by the photo that they say something about.
    photo, other = np.concatenate([pairs[:, ::-1], pairs]).T
    order = np.argsort(photo, kind="stable")
    photo, other = photo[order], other[order]
    turn = np.concatenate([weight * b_from_a, weight * b_from_a.transpose(0, 2, 1)])[order]
    start = np.flatnonzero(np.diff(photo, prepend=-1))
    rotations = start_rotations
    for _ in range(options.averaging_sweeps if len(start) else 0):
        total = 0.5 * options.significant_matches * rotations
        total[photo[start]] += np.add.reduceat(turn @ rotations[other], start)
        rotations = nearest_rotation(total)
    return rotations
