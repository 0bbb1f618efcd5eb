"""Edges of the view graph: relative rotations of verified pairs, and how likely each pair is correct by itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu

from ..arrays import Array, Index, Mask
from .options import DoppelgangerOptions

MIN_CONDUCTANCE = 1e-6
"""Keeps pairs of weight zero in the graph Laplacian."""


@dataclass(frozen=True, eq=False)
class RelativeRotations:
    """Verified pairs with their relative rotations and scores."""

    photos: int
    """Number of photos, those without a pair included."""
    pairs: Index
    """(e, 2) photos a < b."""
    b_from_a: Array
    """(e, 3, 3) relative rotations."""
    matches: Array
    """(e,) number of inliers."""
    match_ratio: Array
    """(e,) inliers per key point that matches in any photo; of the photo that has fewer of these."""
    planar: Mask
    """(e,) whether one plane explains all matches."""
    missing_score: Array
    """(e,) in [0, 1], see missing_correspondences.score_pairs."""
    match_completeness: Array
    """(e,) in (0, 1], see missing_correspondences.score_pairs."""
    walked: Mask
    """(e,) whether the photos were taken one after the other, see capture_order.walked_pairs."""


def weighted_matches(edges: RelativeRotations, options: DoppelgangerOptions) -> Array:
    """(e,) matches, those of planar pairs discounted."""
    return np.where(edges.planar, options.planar_match_weight, 1.0) * edges.matches


def edge_z_scores(edges: RelativeRotations, options: DoppelgangerOptions) -> Array:
    """(e,) by how many standard deviations a pair is more likely correct than the average pair.

    Compared is weighted matches times match completeness, relative to the best pair of either photo: doppelgangers
    match fewer points than neighbours do, less completely, and with more correspondences missing around them.
    """
    weight = weighted_matches(edges, options) * edges.match_completeness
    best = np.zeros(edges.photos)
    for photo in edges.pairs.T:
        np.maximum.at(best, photo, weight)
    relative = weight / np.maximum(best[edges.pairs].max(axis=1), 1e-9)
    z_score: Array = (relative - relative.mean()) / max(float(relative.std()), 1e-9)
    return z_score


def effective_resistance_weights(edges: RelativeRotations, options: DoppelgangerOptions) -> Array:
    """(e,) weight times effective resistance: the probability that a random spanning tree contains the edge.

    It is 1 for a pair without which the graph falls apart, and small where many other paths join the same photos. The
    few pairs around the corner of a building come before the many between two equal facades.
    """
    likely = edges.match_completeness * (1.0 - edges.missing_score)
    weight = weighted_matches(edges, options) * likely + MIN_CONDUCTANCE
    estimate = _exact_resistances if edges.photos <= options.max_dense_photos else _estimated_resistances
    return weight * estimate(edges, weight, options)


def _exact_resistances(edges: RelativeRotations, weight: Array, options: DoppelgangerOptions) -> Array:
    a, b = edges.pairs.T
    laplacian = np.zeros((edges.photos, edges.photos))
    np.add.at(laplacian, (a, b), -weight)
    laplacian += laplacian.T
    laplacian[np.diag_indices(edges.photos)] = -laplacian.sum(axis=1)
    inverse = np.linalg.pinv(laplacian, hermitian=True)
    resistance: Array = inverse[a, a] + inverse[b, b] - 2.0 * inverse[a, b]
    return resistance


def _estimated_resistances(edges: RelativeRotations, weight: Array, options: DoppelgangerOptions) -> Array:
    """By random projections (Spielman and Srivastava 2011): with B the signed incidence matrix, W the weights and L the
    Laplacian, r_ab = |W^(1/2) B L^+ (e_a - e_b)|^2, and random signs keep lengths of vectors on average."""
    a, b = edges.pairs.T
    photos, rows = edges.photos, np.arange(len(weight))
    ones = np.ones(len(weight))
    incidence = coo_array((np.r_[ones, -ones], (np.r_[rows, rows], np.r_[a, b])), shape=(len(weight), photos)).tocsc()
    scaled = incidence.multiply(np.sqrt(weight)[:, None]).tocsc()
    _, component = connected_components(abs(scaled).T @ abs(scaled), directed=False)
    ground = np.zeros(photos)
    ground[np.unique(component, return_index=True)[1]] = float(weight.mean())  # fixes one potential per component
    laplacian = (scaled.T @ scaled + coo_array((ground, (np.arange(photos),) * 2))).tocsc()
    factor = splu(laplacian, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    rng = np.random.default_rng(options.seed)
    resistance = np.zeros(len(weight))
    for _ in range(options.resistance_projections):
        potential = factor.solve(scaled.T @ rng.choice((-1.0, 1.0), len(weight)))
        resistance += (potential[a] - potential[b]) ** 2
    # The product with the weight is a probability; a bridge has exactly 1.
    return np.minimum(resistance / options.resistance_projections, 1.0 / weight)
