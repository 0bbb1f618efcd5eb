"""Aggregated selective match kernel (Tolias, Avrithis and Jégou): what a photo shows at each of its visual words.

All descriptors of a photo that belong to a word are summed up as one signature: how they deviate from the word, as the
signs of the sum (binary) or as its direction. Two photos are alike as far as their signatures at common words are; the
kernel is selective: a power of the similarity lets many faint resemblances count less than few clear ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unposed.optim.arrays import Array32, Index32

from .words import DESCRIPTOR_CHUNK, Codebook, checked_rows

Codes = NDArray[Any]
"""(n, width): signs as bits, in uint8 columns that fill whole words of 64 bits; or float32 rows of unit length."""


@dataclass(frozen=True)
class Kernel:
    """How alike two signatures of one word are."""

    binary: bool = True
    """Signs of the sums, 1 bit for each dimension; otherwise their directions, 32 bits."""
    alpha: float = 3.0
    """The power."""
    threshold: float = 0.0
    """Similarities below it count as nothing, those above keep their value; in [0, 1]."""


class Signatures(NamedTuple):
    """One row per photo and word that occurs in it, sorted by photo, then word."""

    photo: Index32
    word: Index32
    code: Codes


def aggregate(
    codebook: Codebook, rows: NDArray[np.generic], photo: NDArray[np.integer], words: Index32, *, binary: bool
) -> Signatures:
    """Signatures from descriptors (n, d), the photo of each and its words (n, k): it counts at each of them."""
    rows = checked_rows(codebook, rows)
    key = (photo.astype(np.int64)[:, None] * len(codebook) + words).ravel()
    order = np.argsort(key, kind="stable")
    first = np.flatnonzero(np.diff(key[order], prepend=-1))
    bounds = np.append(first, len(key))
    camera_of_photo, word = np.divmod(key[order[first]], len(codebook))
    descriptor = (order // max(1, words.shape[1])).astype(np.int32)

    code = np.zeros((len(first), code_width(rows.shape[1], binary)), np.uint8 if binary else np.float32)
    step = max(1, DESCRIPTOR_CHUNK // 2 // rows.shape[1])
    for start in range(0, len(first), step):
        part = slice(start, min(start + step, len(first)))
        edge = bounds[part.start : part.stop + 1]
        ones = np.ones(edge[-1] - edge[0], np.float32)
        from scipy.sparse import csr_array  # here: see optim.mapping.spanning_forest

        members = csr_array(
            (ones, descriptor[edge[0] : edge[-1]], edge - edge[0]), shape=(part.stop - part.start, len(rows))
        )
        total: Array32 = members @ rows
        word_total = codebook.centroids[
            word[part]
        ]  # of as many words as there are descriptors: the sums deviate from it
        several = np.flatnonzero(np.diff(edge) > 1)
        word_total[several] *= np.diff(edge)[several, None].astype(np.float32)
        if binary:
            bits = np.packbits(total > word_total, axis=1)
            code[part, : bits.shape[1]] = bits
        else:
            total -= word_total
            code[part] = total / (np.linalg.norm(total, axis=1, keepdims=True) + 1e-6)
    return Signatures(camera_of_photo.astype(np.int32), word.astype(np.int32), code)


def code_width(dims: int, binary: bool) -> int:
    """Columns of the codes of such descriptors."""
    return -(-dims // 64) * 8 if binary else dims


class CodeSimilarity:
    """Similarities of codes under a kernel. Signs are compared by counting bits: the published measure counts them in
    words of 32, where those beyond the last dimension always agree."""

    def __init__(self, kernel: Kernel, dims: int) -> None:
        self._kernel = kernel
        bits = -(-dims // 32) * 32
        self._of_distance = self._select(1.0 - 2.0 * np.arange(bits + 1) / bits)

    def __call__(self, a: Codes, b: Codes) -> NDArray[np.float64]:
        """(na, nb) similarities of codes (na, width) and (nb, width), both contiguous."""
        if not self._kernel.binary:
            return self._select((a @ b.T).astype(np.float64))
        import faiss  # here: a collection of a few photos is ranked without it

        distance = np.empty((len(a), len(b)), np.int32)
        codes_a, codes_b, out = map(faiss.swig_ptr, (a, b, distance))
        faiss.hammings(codes_a, codes_b, len(a), len(b), a.shape[1], out)  # type: ignore[attr-defined]
        return self._of_distance.take(distance)

    def _select(self, cosine: NDArray[np.float64]) -> NDArray[np.float64]:
        kept = np.where(cosine >= self._kernel.threshold, cosine, 0.0)
        return np.asarray(np.maximum(kept, 0.0) ** self._kernel.alpha)
