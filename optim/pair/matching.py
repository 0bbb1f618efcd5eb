"""Descriptor matching: mutual nearest neighbours that are clearly better than the second best of either side.

Similarities are cosines of unit rows, found by exact matrix products, block by block: the full similarity matrix of
two photos never exists. Rows of bytes are multiplied as whole numbers, with the same result on every processor and
device; those of floats on the CPU by numpy (its products are faster there than torch's), on other devices by torch,
with the same matches up to rounding.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array32, Index32
from ..byte_products import ByteProduct, Bytes8

SIFT_CELLS, SIFT_ORIENTATIONS = 4, 8
SIFT_LENGTH = SIFT_CELLS * SIFT_CELLS * SIFT_ORIENTATIONS

# A block that stays in the cache makes the reductions after the product nearly free; a GPU wants large ones.
_CPU_BLOCK_BYTES = 1 << 20
_DEVICE_BLOCK_BYTES = 64 << 20

BYTE_UNIT = 127
"""Length of rows of bytes: the largest with which no coefficient of a unit row can overflow."""

DescriptorRows = NDArray[np.float32] | NDArray[np.int8]
"""(n, d), a descriptor per key point: unit rows, as floats or as bytes (`unit_rows`, `byte_rows`)."""


class DescriptorMatches(NamedTuple):
    """Rows of a matched with rows of b, by ascending index_a. Every row occurs at most once."""

    index_a: Index32
    index_b: Index32
    similarity: Array32
    """Cosine of the two descriptors."""
    ratio: Array32
    """Distance over the distance of the next best candidate, of whichever side is closer to it; in [0, max_ratio)."""


class _Nearest(NamedTuple):
    """What one pass over the similarity matrix of a and b leaves behind."""

    best_b: NDArray[np.intp]
    """(na,) most similar row of b."""
    best: Array32
    """(na,) its similarity."""
    second: Array32
    """(na,) the next best similarity of the row; -inf if b has one row only."""
    others: Array32
    """(nb,) best similarity of each row of b with those rows of a that prefer another; -inf if there is none."""


def unit_rows(descriptors: NDArray[np.generic], dims: int = 0) -> Array32:
    """Descriptors (n, d) of any numeric type as float32 rows of unit length; rows that are zero or not finite become
    zero, which matches nothing. `dims` > 0 keeps that many coefficients of SIFT's spectrum (d must be 128 then)."""
    rows: Array32 = descriptors.astype(np.float32)
    rows[~np.isfinite(rows).all(axis=1)] = 0.0
    if dims:
        rows = rows @ sift_spectrum(dims)
    length = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
    np.divide(rows, length, out=rows, where=length > 0.0)
    return rows


def byte_rows(descriptors: NDArray[np.generic], dims: int = 0) -> Bytes8:
    """The rows of `unit_rows` times BYTE_UNIT, rounded, and two columns more: bytes multiply in a third of the time.

    Rounding changes lengths, and a product would tell of these as much as of the small angle between descriptors of one
    point. So a row q is followed by (1, (BYTE_UNIT^2 - |q|^2) / 2), the row that it meets by the same two exchanged,
    and their product is BYTE_UNIT^2 - |q_a - q_b|^2 / 2, a distance. Rows that match nothing are all zero.
    """
    rounded = np.rint(BYTE_UNIT * unit_rows(descriptors, dims))
    squared = np.einsum("ij,ij->i", rounded, rounded)
    rows = np.zeros((len(rounded), rounded.shape[1] + 2), np.int8)
    rows[:, :-2] = rounded
    rows[:, -2] = squared > 0.0
    rows[:, -1] = np.where(squared > 0.0, np.clip(np.rint((BYTE_UNIT**2 - squared) / 2.0), -127, 127), 0.0)
    return rows


def mutual_nearest(
    a: DescriptorRows,
    b: DescriptorRows,
    *,
    max_ratio: float = 0.85,
    min_similarity: float = 0.0,
    device: str = "cpu",
) -> DescriptorMatches:
    """Pairs of rows (na, d), (nb, d) that are each other's nearest neighbour, where the distance is less than
    `max_ratio` times the distance to the second best of the row and of the column, and the cosine is larger than
    `min_similarity`. Ties are ambiguous and never match."""
    if not len(a) or not len(b):
        none = np.empty(0, np.float32)
        return DescriptorMatches(np.empty(0, np.int32), np.empty(0, np.int32), none, none)
    in_bytes = a.dtype == np.int8
    if in_bytes:
        b = np.concatenate([b[:, :-2], b[:, -1:], b[:, -2:-1]], axis=1)
    near = _nearest_numpy(a, b) if device == "cpu" else _nearest_torch(a, b, device)
    if in_bytes:
        near = _as_cosines(near)

    # Of the rows that prefer the same column only the best can win it; the runner-up competes with `others`.
    order = np.lexsort((near.best, near.best_b))
    column = near.best_b[order]
    wins = np.append(column[1:] != column[:-1], True)
    has_rival = np.append(False, ~wins[:-1])
    rival = np.where(has_rival, np.roll(near.best[order], 1), np.float32(-np.inf))

    winner, column = order[wins], column[wins]
    best = near.best[winner]
    second = np.maximum(np.maximum(near.second[winner], near.others[column]), rival[wins])
    ratio = np.sqrt(_squared_distance(best) / _squared_distance(second))
    keep = np.flatnonzero((ratio < max_ratio) & (best > min_similarity))
    keep = keep[np.argsort(winner[keep])]
    return DescriptorMatches(winner[keep].astype(np.int32), column[keep].astype(np.int32), best[keep], ratio[keep])


def _squared_distance(cosine: Array32) -> Array32:
    # Cosines carry rounding of about 1e-6. Below that all are equal, or copies of a descriptor would not be ties.
    return np.asarray(np.maximum(2.0 - 2.0 * cosine, np.float32(1e-5)))


def _as_cosines(near: _Nearest) -> _Nearest:
    """From products of rows of bytes. What there is none of is the smallest number of its type until here."""

    def cosines(products: NDArray[Any]) -> Array32:
        scaled = products.astype(np.float32) / np.float32(BYTE_UNIT**2)
        return np.where(products == _least(products.dtype), np.float32(-np.inf), scaled)

    return _Nearest(near.best_b, *map(cosines, near[1:]))


def _least(dtype: np.dtype[Any]) -> float:
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min


class _FloatProduct:
    """What ByteProduct is to bytes."""

    def __init__(self, a: NDArray[Any], b: NDArray[Any]) -> None:
        self._left, self._right = a, b.T

    def buffer(self, rows: int) -> Array32:
        return np.empty((rows, self._right.shape[1]), np.float32)

    def fill(self, rows: slice, out: Array32) -> None:
        np.matmul(self._left[rows], self._right, out=out)


def _nearest_numpy(a: DescriptorRows, b: DescriptorRows, block_bytes: int = 0) -> _Nearest:
    rows = max(1, (block_bytes or _CPU_BLOCK_BYTES) // (4 * len(b)))
    product = (ByteProduct if a.dtype == np.int8 else _FloatProduct)(a, b)
    buffer = product.buffer(min(rows, len(a)))
    least = _least(buffer.dtype)
    best_b = np.empty(len(a), np.intp)
    best, second = np.empty(len(a), buffer.dtype), np.empty(len(a), buffer.dtype)
    others = np.full(len(b), least, buffer.dtype)
    for start in range(0, len(a), rows):
        part = slice(start, min(start + rows, len(a)))
        block = buffer[: part.stop - start]
        product.fill(part, block)
        row = np.arange(len(block))
        best_b[part] = block.argmax(axis=1)
        best[part] = block[row, best_b[part]]
        block[row, best_b[part]] = least  # what is left is the competition of rows and columns alike
        block.max(axis=1, out=second[part])
        np.maximum(others, block.max(axis=0), out=others)
    return _Nearest(best_b, best, second, others)


def _nearest_torch(
    a: DescriptorRows, b: DescriptorRows, device: str, block_bytes: int = _DEVICE_BLOCK_BYTES
) -> _Nearest:
    import torch  # costs seconds and hundreds of megabytes: only where a device asks for it

    rows = max(1, block_bytes // (4 * len(b)))
    left, right = (torch.from_numpy(side).to(device).float() for side in (a, b))  # whole numbers stay exact
    others = torch.full((len(b),), -torch.inf, device=device)
    parts = []
    for start in range(0, len(a), rows):
        block = left[start : start + rows] @ right.T
        best, best_b = block.max(dim=1)
        block.scatter_(1, best_b[:, None], -torch.inf)
        parts.append((best_b, best, block.amax(dim=1)))
        others = torch.maximum(others, block.amax(dim=0))
    rows_of_a = [torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True)]
    return _Nearest(rows_of_a[0], rows_of_a[1], rows_of_a[2], others.cpu().numpy())


@lru_cache
def sift_spectrum(dims: int) -> Array32:
    """(128, dims) orthonormal basis of the smoothest patterns of SIFT's 4 x 4 cells x 8 orientations: cosine
    transform over the cells, Fourier transform over the orientations, slowest variations first.

    Neighbouring bins of SIFT correlate, so these few coefficients hold nearly all of the distance between two
    descriptors, as a learnt projection would, but the basis is the same for every collection: what was computed for
    a pair stays valid when photos are added.
    """
    cell = np.arange(SIFT_CELLS)
    cosine = np.cos(np.pi * np.outer(cell, cell + 0.5) / SIFT_CELLS) * np.sqrt(2.0 / SIFT_CELLS)
    cosine[0] /= np.sqrt(2.0)

    turn = 2.0 * np.pi * np.arange(SIFT_ORIENTATIONS) / SIFT_ORIENTATIONS
    frequency = np.array([0, 1, 1, 2, 2, 3, 3, 4])
    phase = np.array([0, 0, 1, 0, 1, 0, 1, 0]) * (np.pi / 2.0)
    fourier = np.cos(np.outer(frequency, turn) - phase[:, None])
    fourier /= np.linalg.norm(fourier, axis=1, keepdims=True)

    patterns = np.einsum("ui,vj,wk->uvwijk", cosine, cosine, fourier).reshape(SIFT_LENGTH, SIFT_LENGTH)
    variation = (cell[:, None, None] + cell[:, None] + frequency).ravel()
    smoothest = np.argsort(variation, kind="stable")[:dims]
    return np.ascontiguousarray(patterns[smoothest].T, dtype=np.float32)
