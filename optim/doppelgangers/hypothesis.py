"""One way to believe the pairs of a collection, where not all can be right, and how many coincidences it takes.

All pairs that relate the same two places by the same turn are one claim, however many they are: two equal fronts of a
building are joined by many strong pairs, and each of its corners by a few. A way to believe the pairs costs what it
contradicts, by claims.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..mapping.spanning_forest import ranks, rooted
from ..rotations import nearest_rotation, rotation_residuals_deg

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Mask = NDArray[np.bool_]

FLAT = 0.3
"""Weight of a match between photos that show a plane and nothing else: pictures, signs and fronts come twice more
often than things in relief do."""

STEP_DEG, SLACK_DEG, WIDEST_DEG = 4.0, 15.0, 120.0
"""A chain of n pairs may miss its beginning by n steps and the slack: rotations of pairs are that inexact as long as
focal lengths are hardly known, and a ring that does not quite close is no contradiction."""

FALSE_DEG = 30.0
"""Disagreement with the averaged rotations beyond which a pair is contradicted."""
FALSE_TRACE = 1.0 + 2.0 * float(np.cos(np.radians(FALSE_DEG)))

CERTAIN = 100.0
"""Matches with which a claim can hardly be an accident; fewer count in part."""

TIE = 0.05
"""What it costs to contradict all pairs: hardly anything, but it decides between ways that are alike otherwise."""

UNLIKE = 2.0
"""What it costs or saves to contradict pairs that look more or less right than the average one: so much if all of them
stood out by one standard deviation. Less than what a claim costs, since in a collection without look-alikes, too, half
of the pairs look worse than the average one."""

BEREFT, SPARED = 0.25, 1.0 / 3.0
"""What it costs to contradict all partners of a photo, and how many matches fewer than the best one the best that is
left may have at no cost. The double of a place may match a bit better than the place itself from nearby, not twice as
well."""

VETO, DOUBT = 0.4, 0.15
"""Suspicion beyond which a pair joins nothing, where that is tried, and beyond which it is no wonder that a pair is
contradicted."""

NEIGHBOURS = 4
"""Photos are in one place if one is among so many strongest partners of the other."""

MOST_CLAIMED = 1500
"""Contradicted pairs that are sorted into claims, the strongest first."""

BELIEVED, IGNORED = -1, -2


@dataclass(frozen=True, eq=False)
class RelativeRotations:
    """What verified pairs say of their photos."""

    photos: int
    pairs: Index
    """(e, 2)."""
    b_from_a: Array
    """(e, 3, 3) relative rotations."""
    matches: Array
    """(e,) how many agree."""
    share: Array
    """(e,) part of the real key points of a photo that they are, of the poorer photo."""
    flat: Mask
    """(e,) whether a plane explains them all."""
    suspicion: Array
    """(e,) in [0, 1], see optim.doppelgangers.missing_correspondences."""
    likeness: Array
    """(e,) in (0, 1], see optim.doppelgangers.missing_correspondences."""

    @property
    def strength(self) -> Array:
        return np.where(self.flat, FLAT, 1.0) * self.matches

    @property
    def standing(self) -> Array:
        """(e,) by how many standard deviations each pair looks more right than the average one, beside the best of its
        photos: doubles match fewer points than neighbours do, less completely, and more is missing around them."""
        weight = self.strength * self.likeness
        best = np.zeros(self.photos)
        for photo in self.pairs.T:
            np.maximum.at(best, photo, weight)
        share = weight / np.maximum(best[self.pairs].max(axis=1), 1e-9)
        standing: Array = (share - share.mean()) / max(float(share.std()), 1e-9)
        return standing


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """One way to believe the pairs."""

    rotations: Array
    """(photos, 3, 3) cam_from_world, each tree in a frame of its own."""
    residual_deg: Array
    """(e,) disagreement of each pair with the averaged rotations."""
    claim: Index
    """(e,) contradicted pairs of equal number make the same claim; BELIEVED or IGNORED, a suspect, for the others."""
    parent: Index
    """(photos,) the forest that this began with; roots are their own parents."""
    cost: float
    """How many coincidences it takes: contradicted claims; suspects that are believed, all together at most one, since
    in a scene full of things that hide each other many are harmless; best partners lost; and likely pairs."""


def evaluate_hypothesis(relations: RelativeRotations, order: Index, veto: float) -> Hypothesis:
    """Rotations along a tree of the pairs in this order, then averaged over all that agree with it."""
    pairs, b_from_a, strength = relations.pairs, relations.b_from_a, relations.strength
    rotations, parent, depth = _grown(relations, order, veto)
    bound = np.minimum(SLACK_DEG + STEP_DEG * _hops(pairs, parent, depth), WIDEST_DEG)
    closes = rotation_residuals_deg(pairs, b_from_a, rotations) <= bound
    rotations = _averaged(pairs[closes], b_from_a[closes], strength[closes], rotations)
    residual = rotation_residuals_deg(pairs, b_from_a, rotations)
    false = residual > FALSE_DEG
    claim = _claims(relations, rotations, false)
    total = np.bincount(claim[claim >= 0], weights=strength[claim >= 0])
    suspect = float((relations.suspicion * strength)[~false].sum())
    cost = (1.0 - np.exp(-((total / CERTAIN) ** 2))).sum() + 1.0 - np.exp(-suspect / CERTAIN)
    cost += TIE * strength[false].sum() / max(strength.sum(), 1e-9) + BEREFT * _bereft(relations, false).sum()
    cost += UNLIKE * relations.standing[false].sum() / max(len(pairs), 1)
    return Hypothesis(rotations, residual, claim, parent, float(cost))


def _bereft(relations: RelativeRotations, false: Mask) -> Array:
    """(photos,) from 0, a partner about as good as the best one is kept, to 1, all are lost; by plain matches, since
    the nearest views of a front are as flat as its double."""
    best, kept = np.zeros((2, relations.photos))
    for photo in relations.pairs.T:
        np.maximum.at(best, photo, relations.matches)
        np.maximum.at(kept, photo[~false], relations.matches[~false])
    lost: Array = 1.0 - kept / np.maximum(best, 1e-9)
    return np.where(best > 0.0, np.maximum(lost - SPARED, 0.0) / (1.0 - SPARED), 0.0)


def _grown(relations: RelativeRotations, order: Index, veto: float) -> tuple[Array, Index, Index]:
    """Rotations along a forest made of the pairs in this order, and each photo's parent (itself for roots) and depth.

    A pair joins two trees, as Kruskal has it, unless suspects between these two would then be believed.
    """
    pairs, b_from_a, suspect = relations.pairs, relations.b_from_a, relations.suspicion > veto
    rotations, label = np.tile(np.eye(3), (relations.photos, 1, 1)), np.arange(relations.photos)
    doubts, doubtful_turn = pairs[suspect], b_from_a[suspect]
    joined = []
    for row in order[~suspect[order]].tolist():
        a, b = pairs[row]
        if label[a] == label[b]:
            continue
        # Turns the frame of b's tree into that of a's. Projected onto SO(3): the rounding error of the turned tree
        # enters twice per join, so that without it rotations are wrong after about 60 joins and not finite after 120.
        turn = nearest_rotation(rotations[b].T @ b_from_a[row] @ rotations[a])
        moved = label == label[b]
        ends = label[doubts]
        between = np.isin(ends, (label[a], label[b])).all(axis=1) & (ends[:, 0] != ends[:, 1])
        if between.any():
            trial = np.where(moved[:, None, None], rotations @ turn, rotations)
            if (rotation_residuals_deg(doubts[between], doubtful_turn[between], trial) < FALSE_DEG).any():
                continue
        rotations[moved] = rotations[moved] @ turn
        label[moved] = label[a]
        joined.append(row)
    parent, depth, _ = rooted(relations.photos, pairs[joined])
    return rotations, parent, depth


def _hops(pairs: Index, parent: Index, depth: Index) -> Index:
    """(e,) length of the path that leads through the forest from one photo of the pair to the other."""
    a, b = pairs.T.copy()
    hops = np.zeros(len(pairs), np.int64)
    while True:
        apart = (a != b) & (depth[a] + depth[b] > 0)
        up_a, up_b = apart & (depth[a] >= depth[b]), apart & (depth[b] >= depth[a])
        if not apart.any():
            return hops
        a, b = np.where(up_a, parent[a], a), np.where(up_b, parent[b], b)
        hops += up_a.astype(np.int64) + up_b


def _averaged(pairs: Index, b_from_a: Array, strength: Array, rotations: Array, sweeps: int = 12) -> Array:
    """Every photo takes the mean of what its neighbours say, again and again: plain, and close enough for verdicts."""
    weight = np.minimum(strength, CERTAIN)[:, None, None]
    for _ in range(sweeps):
        total = 0.5 * CERTAIN * rotations
        np.add.at(total, pairs[:, 1], weight * (b_from_a @ rotations[pairs[:, 0]]))
        np.add.at(total, pairs[:, 0], weight * (b_from_a.transpose(0, 2, 1) @ rotations[pairs[:, 1]]))
        rotations = nearest_rotation(total)
    return rotations


def _claims(relations: RelativeRotations, rotations: Array, false: Mask) -> Index:
    """Contradicted pairs make the same claim if they join the same two places, up to a believed pair on either side,
    and turn the world by the same amount."""
    pairs, strength = relations.pairs, relations.strength
    claim = np.where(false, IGNORED, BELIEVED)
    rows = np.flatnonzero(false & (relations.suspicion <= DOUBT))
    rows = rows[np.argsort(-strength[rows], kind="stable")[:MOST_CLAIMED]]
    a, b = pairs[rows].T
    turn = rotations[b].transpose(0, 2, 1) @ relations.b_from_a[rows] @ rotations[a]
    near = np.eye(relations.photos, dtype=bool)
    close = pairs[~false & (ranks(pairs, strength).min(axis=0) < NEIGHBOURS)]
    near[close[:, 0], close[:, 1]] = near[close[:, 1], close[:, 0]] = True
    turned, turned_back = turn.reshape(-1, 9), turn.transpose(0, 2, 1).reshape(-1, 9)
    along = near[np.ix_(a, a)] & near[np.ix_(b, b)] & (turned @ turned.T > FALSE_TRACE)
    across = near[np.ix_(a, b)] & near[np.ix_(b, a)] & (turned @ turned_back.T > FALSE_TRACE)
    claim[rows] = connected_components(coo_array(along | across), directed=False)[1]
    return claim
