"""Similarity averaging: one similarity per photo from the similarities of pairs, some of which are wrong.

A maximum spanning tree initialises all photos. Rotations, log scales and translations are then averaged in turn, each
by reweighted least squares over the graph of pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree
from scipy.sparse.linalg import splu

from ..arrays import Array, Index
from ..option_ranges import Positive
from ..rotations import exp_so3, log_so3, rotation_angle_deg
from ..triangles import triangles_of
from ..weighted_median import weighted_median
from .pair_similarity import PairSimilarities


@dataclass(frozen=True)
class SimilarityAveragingOptions:
    """Options of `average_similarities`."""

    half_weight_angle_deg: Positive = 5.0
    """Rotation error of a triangle of pairs that halves its score. Rotations from predicted depths are good to a
    degree or two."""
    half_weight_log_scale: Positive = 0.2
    """Error of a triangle's log scale that halves its score."""


_DEFAULTS = SimilarityAveragingOptions()


@dataclass(frozen=True, eq=False)
class PhotoSimilarities:
    """World from camera, as a similarity per photo: X = scale R x + t."""

    scale: Array
    """(photos,)."""
    rotation: Array
    """(photos, 3, 3)."""
    translation: Array
    """(photos, 3)."""

    def __len__(self) -> int:
        return len(self.scale)


def average_similarities(
    photos: int,
    pairs: Index,
    similar: PairSimilarities,
    weight: Array,
    options: SimilarityAveragingOptions = _DEFAULTS,
) -> PhotoSimilarities:
    """Average the similarities of a connected graph of pairs (e, 2), a < b, with weights (e,).

    Pairs that are inconsistent with their triangles lose weight first. The world is the frame of the root of the
    spanning tree, up to its scale.
    """
    weight = weight * cycle_consistency(photos, pairs, similar, options) ** 2 + 1e-12 * weight
    placed = _along_tree(photos, pairs, similar, weight)
    a, b = pairs.T
    rotation = placed.rotation
    for _ in range(8):
        # To first order, in world axes: the rotation update of a minus that of b equals the residual of their pair.
        missed = log_so3(rotation[b] @ similar.rotation @ rotation[a].transpose(0, 2, 1))
        turn = robust_potentials(photos, pairs, missed, weight)
        rotation = exp_so3(turn) @ rotation
        if np.abs(turn).max(initial=0.0) < 1e-4:
            break
    size = placed.scale
    log_scale = (
        np.log(size)
        + robust_potentials(photos, pairs, (np.log(similar.scale) - np.log(size[a] / size[b]))[:, None], weight)[:, 0]
    )
    scale = np.exp(log_scale - log_scale.mean())
    offset = scale[b, None] * np.einsum("eij,ej->ei", rotation[b], similar.translation)
    start = placed.translation
    unit = np.median(np.linalg.norm(offset, axis=1))
    moved = robust_potentials(photos, pairs, (offset - (start[a] - start[b])) / max(unit, 1e-300), weight)
    return PhotoSimilarities(scale, rotation, start + unit * moved)


def cycle_consistency(
    photos: int, pairs: Index, similar: PairSimilarities, options: SimilarityAveragingOptions = _DEFAULTS
) -> Array:
    """(e,) mean score of each pair's triangles, in (0, 1); 0.5 for pairs in no triangle.

    A triangle whose rotations compose to an angle and whose scales compose to a factor s scores

        1 / (1 + (angle / half_weight_angle)^2 + (log s / half_weight_log_scale)^2).
    """
    ab, bc, ac = triangles_of(photos, pairs)
    loop = similar.rotation[ac].transpose(0, 2, 1) @ similar.rotation[bc] @ similar.rotation[ab]
    angle = rotation_angle_deg(loop)
    log_scale = np.log(similar.scale[ab] * similar.scale[bc] / similar.scale[ac])
    good = 1.0 / (1.0 + (angle / options.half_weight_angle_deg) ** 2 + (log_scale / options.half_weight_log_scale) ** 2)
    edges = np.concatenate([ab, bc, ac])
    total = np.bincount(edges, np.tile(good, 3), len(pairs))
    count = np.bincount(edges, minlength=len(pairs))
    return np.asarray((total + 0.5) / (count + 1.0))


def _along_tree(photos: int, pairs: Index, similar: PairSimilarities, weight: Array) -> PhotoSimilarities:
    """Similarities along the spanning tree of the heaviest pairs, from the photo with most weight around it."""
    a, b = pairs.T
    cost = 1.0 / np.maximum(weight, 1e-300)  # the tree of least cost is the one of heaviest pairs
    tree = minimum_spanning_tree(csr_matrix((cost, (a, b)), shape=(photos, photos)))
    total = np.bincount(a, weight, photos) + np.bincount(b, weight, photos)
    order, parent = breadth_first_order(tree, int(np.argmax(total)), directed=False)
    edge_of = csr_matrix((np.arange(1, len(pairs) + 1), (a, b)), shape=(photos, photos))
    scale, rotation, translation = np.ones(photos), np.tile(np.eye(3), (photos, 1, 1)), np.zeros((photos, 3))
    for photo in order[1:]:
        up = parent[photo]
        edge = int(edge_of[photo, up] or edge_of[up, photo]) - 1
        s, r, t = similar.scale[edge], similar.rotation[edge], similar.translation[edge]
        if a[edge] != photo:  # the pair leads from the parent to the photo: take it backwards
            s, r, t = 1.0 / s, r.T, -(r.T @ t) / s
        scale[photo] = scale[up] * s
        rotation[photo] = rotation[up] @ r
        translation[photo] = translation[up] + scale[up] * rotation[up] @ t
    return PhotoSimilarities(scale, rotation, translation)


def robust_potentials(photos: int, pairs: Index, difference: Array, weight: Array, iterations: int = 30) -> Array:
    """(photos, d) values x with x[a] - x[b] = difference (e, d) for the pairs (a, b), by robust least squares.

    Minimises a Geman-McClure loss by reweighting. Its scale starts at the largest error and shrinks to three times the
    median error, so that the result does not depend on the start. The mean of the values is zero.
    """
    a, b = pairs.T
    incidence = coo_matrix(
        (np.tile([1.0, -1.0], len(pairs)), (np.repeat(np.arange(len(pairs)), 2), pairs.ravel())),
        shape=(len(pairs), photos),
    ).tocsc()
    x = np.zeros((photos, difference.shape[1]))
    share, error, loss_scale = weight / weight.max(), np.zeros(len(pairs)), np.inf
    for _ in range(iterations):
        robust_weight = share / (1.0 + (error / loss_scale) ** 2) ** 2 + 1e-9 * share
        laplacian = (incidence.T @ incidence.multiply(robust_weight[:, None]).tocsc()).tocsc()
        x[1:] = splu(laplacian[1:, 1:]).solve((incidence.T @ (robust_weight[:, None] * difference))[1:])  # x[0] is held
        error = np.linalg.norm(x[a] - x[b] - difference, axis=1)
        narrower = max(0.5 * min(loss_scale, float(error.max())), 3.0 * weighted_median(error, share), 1e-9)
        if narrower > 0.9 * loss_scale:
            break
        loss_scale = narrower
    return np.asarray(x - x.mean(axis=0))
