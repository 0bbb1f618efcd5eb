"""Bipartitions of the view graph, to test whether one part is turned by the rotation of an inconsistent cluster.

Where two equal facades lie on one another, every photo shows one or the other. Pairs that are likely correct want their
photos in one part, and those of the cluster want them in different parts. No single pair decides, but all of them
together mostly do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product

import numpy as np
from scipy.linalg import eigh
from scipy.sparse import coo_array, csr_array, diags_array
from scipy.sparse.linalg import eigsh, splu

from ..arrays import Array, Index, Mask
from .edges import RelativeRotations, edge_z_scores, weighted_matches
from .hypothesis import min_trace
from .options import DoppelgangerOptions

LEAK = 1e-9
"""Conductance from every photo to the outside, so that the Laplacian is regular."""


def consistent_under_bipartitions(
    edges: RelativeRotations, rotations: Array, cluster: Sequence[int], options: DoppelgangerOptions
) -> Iterator[Mask]:
    """(e,) consistent pairs if one part of the photos is turned as the cluster of these rows says, per bipartition."""
    consistent = _consistent_by_sides(edges, rotations, cluster[0], options)
    a, b = edges.pairs.T
    row = np.arange(len(a))
    z_scores = edge_z_scores(edges, options)
    votes = [(z_scores + bias)[:, None, None] * consistent for bias in options.consistency_bias_sigmas]
    like_cluster = np.flatnonzero((consistent[:, 0, 1] | consistent[:, 1, 0]) & ~consistent[:, 0, 0])
    like_cluster = like_cluster[np.argsort(-weighted_matches(edges, options)[like_cluster], kind="stable")]
    diffused = [
        part
        for rows in (cluster, like_cluster.tolist())
        for start in _diffused(edges, consistent[:, 0, 0], rows, options)
        for part in (start, *(_refined(start, edges.pairs, vote) for vote in votes))
    ]
    spectral = [
        _refined(start, edges.pairs, vote)
        for vote in votes
        for start in _spectral(vote, edges.pairs, edges.photos, options)
    ]
    for part in (*diffused, *spectral):
        if 0 < part.sum() < edges.photos:
            yield consistent[row, part[a], part[b]]


def _consistent_by_sides(edges: RelativeRotations, rotations: Array, row: int, options: DoppelgangerOptions) -> Mask:
    """(e, 2, 2) whether each pair is consistent with its first photo in this part and its second in that."""
    a, b = edges.pairs.T
    turn = rotations[b].transpose(0, 2, 1) @ edges.b_from_a @ rotations[a]
    of_cluster, same = turn[row], min_trace(options.max_rotation_error_deg)
    consistent = np.zeros((len(a), 2, 2), bool)
    consistent[:, 0, 0] = consistent[:, 1, 1] = np.trace(turn, axis1=1, axis2=2) > same
    consistent[:, 0, 1] = np.einsum("eij,ij->e", turn, of_cluster) > same
    consistent[:, 1, 0] = np.einsum("eij,ji->e", turn, of_cluster) > same  # the same if the turn is half a circle
    return consistent


def _diffused(
    edges: RelativeRotations, consistent: Mask, cluster: Sequence[int], options: DoppelgangerOptions
) -> Iterator[Index]:
    """(photos,) parts by heat diffusion: the photos of the cluster, on whose two sides temperatures are 0 and 1, heat
    all others through consistent pairs (harmonic labels, Zhu et al. 2003)."""
    photos, rows = edges.photos, list(cluster)
    weight = weighted_matches(edges, options)
    a, b = edges.pairs.T
    laplacian = _laplacian(photos, a, b, weight * edges.match_completeness * consistent)
    group, side = _two_colouring(photos, edges.pairs[rows])
    size = np.bincount(group[edges.pairs[rows, 0]], weight[rows], photos)
    groups = np.argsort(-size, kind="stable")[: min(options.max_split_groups, np.count_nonzero(size))]
    known = np.isin(group, groups)
    rest = ~known
    solve = _solver(laplacian[rest][:, rest], options) if rest.any() else None
    for swapped in product((0, 1), repeat=len(groups) - 1):
        heat = side.astype(np.float64)
        for other, swap in zip(groups[1:], swapped, strict=True):
            heat[group == other] = side[group == other] ^ swap
        if solve is not None:
            heat[rest] = solve(-(laplacian[rest][:, known] @ heat[known]))
        yield np.where(heat > (heat[rest].mean() if rest.any() else 0.5), 1, 0)


def _laplacian(photos: int, a: Index, b: Index, weight: Array) -> csr_array:
    adjacency = coo_array((weight, (a, b)), shape=(photos, photos)).tocsr()
    adjacency = adjacency + adjacency.T
    return (diags_array(LEAK + np.asarray(adjacency.sum(axis=1)).ravel()) - adjacency).tocsr()


def _solver(matrix: csr_array, options: DoppelgangerOptions) -> Callable[[Array], Array]:
    """Right-hand sides to solutions of this positive definite system."""
    if matrix.shape[0] <= options.max_dense_photos:
        return partial(np.linalg.solve, matrix.toarray())
    factor = splu(matrix.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    return lambda b: np.asarray(factor.solve(b))


def _two_colouring(photos: int, pairs: Index) -> tuple[Index, Index]:
    """(photos,) each photo's group, connected by these pairs, and its side, 0 or 1: pairs join different sides, except
    later ones in conflict with earlier ones."""
    group, side = np.arange(photos), np.zeros(photos, np.int64)
    for a, b in pairs.tolist():
        if group[a] != group[b]:
            moved = group == group[b]
            side[moved] ^= side[a] ^ side[b] ^ 1
            group[moved] = group[a]
    return group, side


def _spectral(vote: Array, pairs: Index, photos: int, options: DoppelgangerOptions) -> Iterator[Index]:
    """(photos,) parts by the signs of the leading eigenvectors of the normalised matrix of votes for one part."""
    together = vote[:, 0, 0] + vote[:, 1, 1] - vote[:, 0, 1] - vote[:, 1, 0]
    matrix = coo_array((together, tuple(pairs.T)), shape=(photos, photos)).tocsr()
    matrix = matrix + matrix.T
    scale = diags_array(1.0 / np.sqrt(np.asarray(abs(matrix).sum(axis=1)).ravel() + 1e-9))
    normalised = scale @ matrix @ scale
    count = min(options.max_eigenvectors, photos)
    if photos <= options.max_dense_photos or count >= photos - 1:
        _, vectors = eigh(normalised.toarray(), subset_by_index=(photos - count, photos - 1))
    else:
        values, vectors = eigsh(normalised, k=count, which="LA", v0=np.random.default_rng(options.seed).random(photos))
        vectors = vectors[:, np.argsort(values)]
    for vector in vectors.T[::-1]:
        yield np.where(vector > 0.0, 1, 0)


def _refined(part: Index, pairs: Index, vote: Array) -> Index:
    """Let the photo that gains most votes change sides, until none gains any more."""
    photos, part = len(part), part.copy()
    incident = _incident_rows(photos, pairs)
    gain = _gains(part, pairs, vote)
    for _ in range(4 * photos):
        best = int(gain.argmax())
        if gain[best] <= 1e-9:
            break
        rows = incident[best]
        a, b = pairs[rows].T
        other = np.where(a == best, b, a)
        before = _side_gain(part, a, b, vote[rows], other)
        part[best] = 1 - part[best]
        # Its own gain becomes the opposite, and only those of its neighbours change besides.
        gain[best] = -gain[best]
        gain[other] += _side_gain(part, a, b, vote[rows], other) - before
    return part


def _incident_rows(photos: int, pairs: Index) -> list[Index]:
    """The rows of each photo's pairs."""
    order = np.argsort(pairs.T.ravel(), kind="stable")
    count = np.bincount(pairs.ravel(), minlength=photos)
    return np.split(order % max(len(pairs), 1), np.cumsum(count)[:-1])


def _gains(part: Index, pairs: Index, vote: Array) -> Array:
    """(photos,) votes that each photo gains by changing sides."""
    a, b = pairs.T
    photos = len(part)
    gain: Array = np.bincount(a, _side_gain(part, a, b, vote, a), photos).astype(np.float64)
    gain += np.bincount(b, _side_gain(part, a, b, vote, b), photos)
    return gain


def _side_gain(part: Index, a: Index, b: Index, vote: Array, photo: Index) -> Array:
    """(n,) votes that each of these pairs gains if this one of its photos changes sides."""
    row = np.arange(len(a))
    new_a, new_b = np.where(photo == a, 1 - part[a], part[a]), np.where(photo == b, 1 - part[b], part[b])
    gained: Array = vote[row, new_a, new_b] - vote[row, part[a], part[b]]
    return gained
