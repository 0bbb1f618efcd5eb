"""A hypothesis about which edges of the view graph are correct, and its energy.

Absolute rotations say which pairs are consistent. Inconsistent pairs that join the same two places by the same rotation
form one edge cluster and cost about the same however many they are: two equal facades are joined by many strong pairs,
and each corner of the building by a few, so that counting pairs would favour the doppelgangers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..arrays import Array, Index, Mask
from ..mapping.spanning_forest import ranks
from ..rotations import rotation_residuals_deg
from .edges import RelativeRotations, edge_z_scores, weighted_matches
from .forest_rotations import Forest, averaged_rotations, closing_edges, rotations_along_forest
from .options import DoppelgangerOptions

CONSISTENT, UNCLUSTERED = -1, -2
"""Cluster of a consistent pair, and of an inconsistent one whose rejection needs no explanation."""


@dataclass(frozen=True)
class Energy:
    """The terms of the energy of a hypothesis, see docs/doppelgangers.md."""

    inconsistent_clusters: float
    """sum over clusters c of 1 - exp(-(w_c / w_0)^2), with w_c its weighted matches and w_0 the significant ones; those
    that cut the walk count 1 + `walk_cost` times."""
    missing_correspondences: float
    """1 - exp(-sum over consistent pairs of score * weight / w_0): at most 1 for all of them together, since in scenes
    full of occlusions many pairs lack correspondences and are correct."""
    inconsistent_weight: float
    """Weighted matches of inconsistent pairs as a share of all, times `inconsistent_weight_cost`."""
    lost_neighbours: float
    """Sum over photos of the penalty for best pairs that are inconsistent, times `lost_neighbour_cost`."""
    edge_prior: float
    """Sum of the z-scores of inconsistent pairs per pair, times `edge_prior_cost`; negative where they are unlikely."""

    @property
    def total(self) -> float:
        """Their sum."""
        clusters = self.inconsistent_clusters + self.missing_correspondences
        return clusters + self.inconsistent_weight + self.lost_neighbours + self.edge_prior


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """Absolute rotations, the edges that are inconsistent with them, and what that costs."""

    rotations: Array
    """(photos, 3, 3) cam_from_world, each tree of the forest in a frame of its own."""
    residual_deg: Array
    """(e,) angle between each relative rotation and the one that the absolute rotations imply."""
    cluster: Index
    """(e,) number of the inconsistent cluster of each pair; CONSISTENT or UNCLUSTERED."""
    parent: Index
    """(photos,) parents in the spanning forest that the rotations started from; roots are their own parents."""
    energy: Energy

    @property
    def cost(self) -> float:
        """Total energy; of two hypotheses the one that costs less is better."""
        return self.energy.total


def evaluate_hypothesis(
    edges: RelativeRotations, order: Index, max_missing_score: float, options: DoppelgangerOptions
) -> Hypothesis:
    """The hypothesis that the spanning forest of the pairs in this order is correct; `max_missing_score` is that of
    pairs in the forest."""
    return evaluate_forest(edges, rotations_along_forest(edges, order, max_missing_score, options), options)


def evaluate_forest(edges: RelativeRotations, forest: Forest, options: DoppelgangerOptions) -> Hypothesis:
    """The hypothesis that a spanning forest is correct.

    Rotations along the forest are averaged over all pairs whose cycles close; pairs inconsistent with the result form
    clusters.
    """
    consistent = closing_edges(edges, forest, options)
    rotations = averaged_rotations(edges, consistent, forest.rotations, options)
    residual_deg = rotation_residuals_deg(edges.pairs, edges.b_from_a, rotations)
    inconsistent = residual_deg > options.max_rotation_error_deg
    cluster = _clusters(edges, rotations, inconsistent, options)
    return Hypothesis(rotations, residual_deg, cluster, forest.parent, _energy(edges, cluster, options))


def _energy(edges: RelativeRotations, cluster: Index, options: DoppelgangerOptions) -> Energy:
    weight, inconsistent, w_0 = weighted_matches(edges, options), cluster != CONSISTENT, options.significant_matches
    clustered = cluster >= 0
    w_cluster = np.bincount(cluster[clustered], weights=weight[clustered])
    cuts = np.bincount(cluster[clustered], weights=edges.walked[clustered]) > 0.0
    w_missing = float((edges.missing_score * weight)[~inconsistent].sum())
    z_scores = edge_z_scores(edges, options)
    penalty = lost_neighbour_penalty(edges, inconsistent, options)
    cluster_cost = (1.0 - np.exp(-((w_cluster / w_0) ** 2))) * (1.0 + options.walk_cost * cuts)
    return Energy(
        inconsistent_clusters=float(cluster_cost.sum()),
        missing_correspondences=float(1.0 - np.exp(-w_missing / w_0)),
        inconsistent_weight=float(
            options.inconsistent_weight_cost * weight[inconsistent].sum() / max(weight.sum(), 1e-9)
        ),
        lost_neighbours=float(options.lost_neighbour_cost * penalty.sum()),
        edge_prior=float(options.edge_prior_cost * z_scores[inconsistent].sum() / max(len(edges.pairs), 1)),
    )


def lost_neighbour_penalty(edges: RelativeRotations, inconsistent: Mask, options: DoppelgangerOptions) -> Array:
    """(photos,) from 0, a pair about as good as the best one is consistent, to 1, none is.

    By plain matches, since the nearest views of a facade are as planar as those of its doppelganger.
    """
    best, kept = np.zeros((2, edges.photos))
    for photo in edges.pairs.T:
        np.maximum.at(best, photo, edges.matches)
        np.maximum.at(kept, photo[~inconsistent], edges.matches[~inconsistent])
    lost: Array = 1.0 - kept / np.maximum(best, 1e-9)
    tolerance = options.lost_neighbour_tolerance
    return np.where(best > 0.0, np.maximum(lost - tolerance, 0.0) / (1.0 - tolerance), 0.0)


def left_out_pairs(edges: RelativeRotations, hypothesis: Hypothesis, options: DoppelgangerOptions) -> Mask:
    """(e,) pairs of large inconsistent clusters, and those that lack too many correspondences."""
    inconsistent = hypothesis.cluster != CONSISTENT
    left_out: Mask = edges.missing_score > np.where(
        inconsistent, options.max_missing_score_inconsistent, options.max_missing_score
    )
    clustered = np.flatnonzero(hypothesis.cluster >= 0)
    matches = np.bincount(hypothesis.cluster[clustered], weighted_matches(edges, options)[clustered])
    left_out[clustered] |= matches[hypothesis.cluster[clustered]] >= options.min_cluster_matches
    return left_out


def min_trace(max_rotation_error_deg: float) -> float:
    """Trace of a rotation by this angle; smaller angles have larger traces."""
    return 1.0 + 2.0 * float(np.cos(np.radians(max_rotation_error_deg)))


def _clusters(edges: RelativeRotations, rotations: Array, inconsistent: Mask, options: DoppelgangerOptions) -> Index:
    """(e,) cluster of each pair: inconsistent pairs are in one if they join the same two places, up to one consistent
    pair on either side, and turn the world by the same rotation."""
    weight = weighted_matches(edges, options)
    cluster = np.where(inconsistent, UNCLUSTERED, CONSISTENT)
    rows = np.flatnonzero(inconsistent & (edges.missing_score <= options.max_missing_score_inconsistent))
    rows = rows[np.argsort(-weight[rows], kind="stable")[: options.max_clustered_edges]]
    a, b = edges.pairs[rows].T
    turn = rotations[b].transpose(0, 2, 1) @ edges.b_from_a[rows] @ rotations[a]
    close = edges.pairs[~inconsistent & (ranks(edges.pairs, weight).min(axis=0) < options.cluster_neighbours)]
    # Among the photos of clustered pairs only, whose number is limited: a matrix of all would outgrow the memory.
    photos, ends = np.unique(np.concatenate([a, b]), return_inverse=True)
    a, b = ends.reshape(2, -1)
    first, second = np.searchsorted(photos, close[np.isin(close, photos).all(axis=1)]).T
    near = np.eye(len(photos), dtype=bool)
    near[first, second] = near[second, first] = True
    turned, turned_back = turn.reshape(-1, 9), turn.transpose(0, 2, 1).reshape(-1, 9)
    same = min_trace(options.max_rotation_error_deg)
    along = near[np.ix_(a, a)] & near[np.ix_(b, b)] & (turned @ turned.T > same)
    across = near[np.ix_(a, b)] & near[np.ix_(b, a)] & (turned @ turned_back.T > same)
    cluster[rows] = connected_components(coo_array(along | across), directed=False)[1]
    return cluster
