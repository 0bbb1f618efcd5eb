"""Photos in two parts, of which one is to be turned against the other as a contradicted claim says.

Where two equal fronts of a building lie on one another, every photo shows one or the other, and the pairs tell which:
those that look right want their photos in one part, and those of the claim want them in different ones. No single pair
decides it, all of them together mostly do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from .hypothesis import FALSE_TRACE, RelativeRotations

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Mask = NDArray[np.bool_]

TRUST = (0.5, 1.0)
"""How right the average pair is taken to be, in standard deviations: more trust makes smaller parts."""

VECTORS = 3
"""Eigenvectors of the votes by whose signs photos are parted."""

MOST_GROUPS = 3
"""Groups of photos that a claim joins within and not between; each doubles the ways to read the claim."""


def bipartitions(relations: RelativeRotations, rotations: Array, claimed: Sequence[int]) -> Iterator[Mask]:
    """(e,) which pairs hold if one part of the photos is turned as the claim of these rows says, for many partings."""
    holds = _holds(relations, rotations, claimed[0])
    a, b = relations.pairs.T
    row = np.arange(len(a))
    votes = [(relations.standing + trust)[:, None, None] * holds for trust in TRUST]
    alike = np.flatnonzero((holds[:, 0, 1] | holds[:, 1, 0]) & ~holds[:, 0, 0])
    alike = alike[np.argsort(-relations.strength[alike], kind="stable")]
    spread = [
        part
        for rows in (claimed, alike.tolist())
        for start in _spread(relations, holds[:, 0, 0], rows)
        for part in (start, *(_refined(start, relations.pairs, vote) for vote in votes))
    ]
    split = [
        _refined(start, relations.pairs, vote)
        for vote in votes
        for start in _split(vote, relations.pairs, relations.photos)
    ]
    for part in (*spread, *split):
        if 0 < part.sum() < relations.photos:
            yield holds[row, part[a], part[b]]


def _holds(relations: RelativeRotations, rotations: Array, claimed: int) -> Mask:
    """(e, 2, 2) whether each pair holds with its first photo in this part and its second in that."""
    a, b = relations.pairs.T
    turn = rotations[b].transpose(0, 2, 1) @ relations.b_from_a @ rotations[a]
    claim = turn[claimed]
    holds = np.zeros((len(a), 2, 2), bool)
    holds[:, 0, 0] = holds[:, 1, 1] = np.trace(turn, axis1=1, axis2=2) > FALSE_TRACE
    holds[:, 0, 1] = np.einsum("eij,ij->e", turn, claim) > FALSE_TRACE
    holds[:, 1, 0] = np.einsum("eij,ji->e", turn, claim) > FALSE_TRACE  # where the turn is half a circle, the same
    return holds


def _spread(relations: RelativeRotations, believed: Mask, claimed: Sequence[int]) -> Iterator[Index]:
    """From the photos of the claim, which it parts, to all others by the believed pairs, like heat."""
    photos = relations.photos
    a, b = relations.pairs.T
    conducts = relations.strength * relations.likeness * believed
    laplacian = np.zeros((photos, photos))
    np.add.at(laplacian, (a, b), -conducts)
    laplacian += laplacian.T
    laplacian[np.diag_indices(photos)] = 1e-9 - laplacian.sum(axis=1)
    group, side = _sides(photos, relations.pairs[list(claimed)])
    weight = np.bincount(group[relations.pairs[list(claimed), 0]], relations.strength[list(claimed)], photos)
    groups = np.argsort(-weight, kind="stable")[: min(MOST_GROUPS, np.count_nonzero(weight))]
    known = np.isin(group, groups)
    rest = ~known
    for swapped in product((0, 1), repeat=len(groups) - 1):
        heat = side.astype(np.float64)
        for other, swap in zip(groups[1:], swapped, strict=True):
            heat[group == other] = side[group == other] ^ swap
        if rest.any():
            flow = laplacian[np.ix_(rest, known)] @ heat[known]
            heat[rest] = np.linalg.solve(laplacian[np.ix_(rest, rest)], -flow)
        yield np.where(heat > (heat[rest].mean() if rest.any() else 0.5), 1, 0)


def _sides(photos: int, pairs: Index) -> tuple[Index, Index]:
    """Each photo's group, of those that these pairs connect, and its side there: pairs join different sides, but for
    later ones that contradict earlier ones."""
    group, side = np.arange(photos), np.zeros(photos, np.int64)
    for a, b in pairs.tolist():
        if group[a] != group[b]:
            moved = group == group[b]
            side[moved] ^= side[a] ^ side[b] ^ 1
            group[moved] = group[a]
    return group, side


def _split(vote: Array, pairs: Index, photos: int) -> Iterator[Index]:
    """By the signs of the leading eigenvectors of all votes for being together."""
    matrix = np.zeros((photos, photos))
    np.add.at(matrix, (pairs[:, 0], pairs[:, 1]), vote[:, 0, 0] + vote[:, 1, 1] - vote[:, 0, 1] - vote[:, 1, 0])
    matrix += matrix.T
    scale = np.sqrt(np.abs(matrix).sum(axis=1) + 1e-9)
    _, vectors = eigh(matrix / np.outer(scale, scale), subset_by_index=(max(photos - VECTORS, 0), photos - 1))
    for vector in vectors.T[::-1]:
        yield np.where(vector > 0.0, 1, 0)


def _refined(part: Index, pairs: Index, vote: Array) -> Index:
    """The photo that gains most changes sides, until none gains any more."""
    a, b = pairs.T
    row, photos = np.arange(len(pairs)), len(part)
    part = part.copy()
    for _ in range(4 * photos):
        now = vote[row, part[a], part[b]]
        gain = np.bincount(a, vote[row, 1 - part[a], part[b]] - now, photos)
        gain += np.bincount(b, vote[row, part[a], 1 - part[b]] - now, photos)
        most = int(gain.argmax())
        if gain[most] <= 1e-9:
            break
        part[most] = 1 - part[most]
    return part
