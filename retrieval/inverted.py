"""An inverted index: for every visual word the photos in which it occurs, with their signatures of it."""

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
    """The signatures of all photos, sorted by word; `index_of` makes one."""

    photos: int
    start: NDArray[np.int64]
    """(words + 1,): rows start[w] to start[w + 1] are those of word w, by photo."""
    photo: Index32
    code: Codes
    words_of_photo: NDArray[np.int64]
    """(photos,) how many signatures each has."""
    similarity: CodeSimilarity


def index_of(
    signatures: Signatures, photos: int, words: int, dims: int, kernel: Kernel, *, limit_bytes: int, folder: Path
) -> InvertedIndex:
    """Signatures by word. Codes that do not fit into the limit are in a file of the folder."""
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
    """(count, photos) scores of the photos 0 to count of the queries against all of the index.

    Zero where no word is common. The score of a photo against itself is not 1 where its descriptors belong to several
    words in the queries, but to one in the index.
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
