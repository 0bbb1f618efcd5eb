"""Inverted index: for every visual word the photos in which it occurs, with their ASMK signatures."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unposed.optim.arrays import Index32

from .asmk import Codes, CodeSimilarity, Kernel, Signatures
from .spool import table_for


@dataclass(frozen=True, eq=False)
class InvertedIndex:
    """Signatures of all photos, sorted by word; made by `index_of`."""

    photos: int
    start: NDArray[np.int64]
    """(words + 1,): rows start[w]:start[w + 1] belong to word w, sorted by photo."""
    photo: Index32
    code: Codes
    words_of_photo: NDArray[np.int64]
    """(photos,) number of signatures of each photo."""
    similarity: CodeSimilarity


def index_of(
    signatures: Signatures, photos: int, words: int, dims: int, kernel: Kernel, *, limit_bytes: int, folder: Path
) -> InvertedIndex:
    """Sort signatures by word. Codes that exceed the memory limit are written to a file in the folder."""
    order = np.argsort(signatures.word, kind="stable")
    code = table_for(signatures.code.shape, signatures.code.dtype, limit_bytes, folder, "codes-by-word")
    step = max(1, limit_bytes // 4 // max(1, code.shape[1] * code.itemsize))
    for part in range(0, len(order), step):
        code[part : part + step] = signatures.code[order[part : part + step]]
    return InvertedIndex(
        photos=photos,
        start=np.concatenate([[0], np.cumsum(np.bincount(signatures.word, minlength=words))]).astype(np.int64),
        photo=signatures.photo[order],
        code=code,
        words_of_photo=np.bincount(signatures.photo, minlength=photos),
        similarity=CodeSimilarity(kernel, dims),
    )


def scores(index: InvertedIndex, queries: Signatures, count: int) -> NDArray[np.float64]:
    """(count, photos) scores of the query photos 0 to count against all photos of the index.

    Zero without common words. The score of a photo against itself is below 1 where its descriptors are assigned to
    several words as a query, but to one in the index.
    """
    total = np.zeros((count, index.photos))
    flat = total.reshape(-1)
    order = np.argsort(queries.word, kind="stable")
    word, row, code = queries.word[order], queries.photo[order].astype(np.int64), queries.code[order]
    first = np.flatnonzero(np.diff(word, prepend=-1))
    offset = row * index.photos
    for begin, end in pairwise([*first.tolist(), len(word)]):
        low, high = index.start[word[begin]], index.start[word[begin] + 1]
        if low < high:
            alike = index.similarity(code[begin:end], index.code[low:high])
            flat[offset[begin:end, None] + index.photo[low:high]] += alike  # no photo has a word twice
    own = np.bincount(queries.photo, minlength=count)
    total /= np.sqrt(np.maximum(own, 1))[:, None]
    total /= np.sqrt(np.maximum(index.words_of_photo, 1))
    return total
