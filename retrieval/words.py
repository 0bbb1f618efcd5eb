"""Quantise descriptors exactly: find the nearest visual words (centroids) of each.

A candidate search finds a few words more than asked for, with a bound on the error of its scores; their distances are
then measured in float32, and rows in doubt are searched again more widely. So the result does not depend on how the
candidates were found: by faiss (IndexFlatL2, on GPUs where faiss has them), by products of bytes where the codebook
is large and the processor multiplies bytes several times faster than floats, or by torch on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unposed.optim.arrays import Array32, Index32
from unposed.optim.byte_products import bytes_are_fast

from .device_candidates import DEVIATIONS, FLOAT_ERROR, Candidates, CandidateSearch, row_lengths, search_on_device

SPARE, MOST_SPARE = 11, 100
"""Words measured in floats beyond those asked for: at first, and where more than these are in doubt, at most."""
WORTH_IMPORTING = 1 << 19
"""Numbers in a codebook with which comparing bytes saves more than the second that importing torch takes."""
BLOCK, TILE, WORDS_PER_GROUP = 256, 4096, 32
"""Rows and words that are compared at a time, so that the scores stay in the cache; see _best_of_all."""
DESCRIPTOR_CHUNK = 1 << 20
"""Numbers in the descriptors that are worked on at a time."""


@dataclass(frozen=True, eq=False)
class Codebook:
    """Visual words; `codebook_of` makes one."""

    centroids: Array32
    """(words, d)."""
    centre: Array32
    """(d,) mean of the centroids. Distances stay the same when everything is moved by it, and numbers get smaller."""
    look: CandidateSearch

    def __len__(self) -> int:
        return len(self.centroids)


def codebook_of(centroids: NDArray[np.generic], device: str = "cpu") -> Codebook:
    """Centroids (words, d), d > 0, ready to be searched. ValueError if they cannot be."""
    import faiss  # here: a collection of a few photos is ranked without it

    if centroids.ndim != 2 or not centroids.size:
        raise ValueError(f"a codebook is a table of words, one per row; this one has the shape {centroids.shape}")
    rows = np.ascontiguousarray(centroids, np.float32)
    if not np.isfinite(rows).all():
        raise ValueError("the codebook has words that are not finite numbers")
    centre = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    moved = rows - centre
    if device != "cpu" and not faiss.get_num_gpus():
        look = search_on_device(moved, device)
    elif device == "cpu" and rows.size >= WORTH_IMPORTING and bytes_are_fast():
        look = _by_bytes(moved)
    else:
        look = _by_faiss(moved, device)
    return Codebook(rows, centre, look)


def nearest_words(codebook: Codebook, rows: NDArray[np.generic], count: int) -> Index32:
    """(n, count) words by rising distance from rows (n, d); the smaller index first among equally near ones.

    With fewer words than asked for, all of them. ValueError if the rows do not fit the codebook or are not finite.
    """
    rows, count = checked_rows(codebook, rows), min(count, len(codebook))
    step = max(BLOCK, DESCRIPTOR_CHUNK // rows.shape[1])
    parts = [rows[start : start + step] for start in range(0, len(rows), step)]
    found = [_nearest(codebook, part, part - codebook.centre, count, SPARE) for part in parts]
    return np.concatenate([np.empty((0, count), np.int32), *found])


def _nearest(codebook: Codebook, rows: Array32, moved: Array32, count: int, spare: int) -> Index32:
    if not len(rows):
        return np.empty((0, count), np.int32)
    if spare > MOST_SPARE:
        return _exhaustively(codebook, rows, moved, count)
    rough = codebook.look(moved, min(count + spare, len(codebook)))
    distance = _distances(rows, codebook.centroids, rough.words)

    # In doubt are rows of which a word left out might have been among the nearest, and those that show a larger error
    # than they were thought to have.
    exact = 0.5 * (np.einsum("ij,ij->i", moved, moved)[:, None] - distance)
    doubt = (np.abs(exact - rough.score) > rough.error[:, None]).any(axis=1)
    if rough.words.shape[1] < len(codebook):
        ranked = np.partition(rough.score, (0, -count), axis=1)
        doubt |= ranked[:, 0] >= ranked[:, -count] - 2.0 * rough.error
    nearest = _by_distance(rough.words, distance, count)
    nearest[doubt] = _nearest(codebook, rows[doubt], moved[doubt], count, 8 * spare)
    return nearest


def checked_rows(codebook: Codebook, rows: NDArray[np.generic]) -> Array32:
    """The rows as float32; ValueError if they do not fit the codebook or are not finite."""
    if rows.ndim != 2 or rows.shape[1] != codebook.centroids.shape[1]:
        raise ValueError(
            f"the codebook is of {codebook.centroids.shape[1]} dimensions, the descriptors are of shape {rows.shape}"
        )
    floats: Array32 = np.ascontiguousarray(rows, np.float32)
    if not np.isfinite(floats).all():
        raise ValueError("descriptors that are not finite numbers have no visual word")
    return floats


def _distances(rows: Array32, centroids: Array32, words: NDArray[np.intp]) -> Array32:
    """(n, m) squared distances, from the differences: near words are told apart by them, not by products."""
    import faiss  # here: a collection of a few photos is ranked without it

    of_row = np.repeat(np.arange(len(rows)), words.shape[1])
    of_word = words.ravel().astype(np.int64)
    squared = np.empty(len(of_row), np.float32)
    arrays = [faiss.swig_ptr(array) for array in (rows, of_row, centroids, of_word, squared)]
    faiss.pairwise_indexed_L2sqr(rows.shape[1], len(of_row), *arrays)  # type: ignore[attr-defined]  # not in its stubs
    return squared.reshape(words.shape)


def _by_distance(words: NDArray[np.intp], distance: Array32, count: int) -> Index32:
    order = np.lexsort((words, distance), axis=1)[:, :count]
    return np.take_along_axis(words, order, axis=1).astype(np.int32)


def _exhaustively(codebook: Codebook, rows: Array32, moved: Array32, count: int) -> Index32:
    """The slow way: products in float64, and whatever is within their reach measured."""
    words = (codebook.centroids - codebook.centre).astype(np.float64)
    half = 0.5 * np.einsum("ij,ij->i", words, words)
    nearest = np.empty((len(rows), count), np.int32)
    for i in range(len(rows)):
        score = words @ moved[i] - half
        bound = np.partition(score, -count)[-count]
        near = np.flatnonzero(score >= bound - 1e-5 * np.abs(score).max())[None]
        nearest[i] = _by_distance(near, _distances(rows[i : i + 1], codebook.centroids, near), count)
    return nearest


def _by_faiss(moved: Array32, device: str = "cpu") -> CandidateSearch:
    import faiss  # here: a collection of a few photos is ranked without it

    index: faiss.Index = faiss.IndexFlatL2(moved.shape[1])
    index.add(moved)
    if device != "cpu" and faiss.get_num_gpus():
        index = faiss.index_cpu_to_all_gpus(index)
    longest = float(row_lengths(moved).max())

    def look(rows: Array32, count: int) -> Candidates:
        squared, words = index.search(rows, count)
        length = row_lengths(rows)
        score = 0.5 * (length[:, None] ** 2 - squared)
        return Candidates(words, score, DEVIATIONS * FLOAT_ERROR * (length + longest) ** 2)

    return look


def _by_bytes(moved: Array32) -> CandidateSearch:
    import torch  # costs a second and 250 MB: only where the codebook is large

    minus_half = torch.from_numpy(-0.5 * np.einsum("ij,ij->i", moved, moved))
    whole_words, unit, lost = _as_bytes(moved)
    columns, word_unit = torch.from_numpy(whole_words).T, torch.from_numpy(unit)
    longest, largest_loss = float(row_lengths(moved).max()), float(lost.max())

    def look(rows: Array32, count: int) -> Candidates:
        whole_rows, unit, lost = _as_bytes(rows)
        left, row_unit = torch.from_numpy(whole_rows), torch.from_numpy(unit)[:, None]
        buffer = torch.empty(BLOCK * TILE, dtype=torch.int32)

        def fill(own: slice, words: slice, table: Array32) -> None:
            score = torch.from_numpy(table)
            product = buffer[: score.numel()].view(score.shape)
            score.copy_(torch._int_mm(left[own], columns[:, words], out=product))
            torch.addcmul(minus_half[words], score.mul_(word_unit[words]), row_unit[own], out=score)

        def maxima(table: Array32) -> Array32:  # several times as fast as by numpy
            return np.asarray(torch.amax(torch.from_numpy(table), dim=1))

        words, scores = _best_of_all(len(rows), len(moved), count, fill, maxima)
        # What rounding takes from either side is no more parallel to the other than chance has it.
        error = np.hypot(lost * longest, row_lengths(rows) * largest_loss) * (DEVIATIONS / np.sqrt(rows.shape[1]))
        return Candidates(words, scores, error.astype(np.float32))

    return look


def _as_bytes(rows: Array32) -> tuple[NDArray[np.int8], Array32, Array32]:
    """Rows as whole numbers of -127 to 127, the unit of each, and how long what got lost is. Zeros fill the width
    up to a multiple of 16."""
    largest = np.maximum(rows.max(axis=1), -rows.min(axis=1))
    scale = (np.maximum(largest, np.float32(1e-30)) / np.float32(127.0)).astype(np.float32, copy=False)
    whole = rows / scale[:, None]
    np.rint(whole, out=whole)
    table = np.zeros((len(rows), -(-rows.shape[1] // 16) * 16), np.int8)
    table[:, : rows.shape[1]] = whole
    whole *= scale[:, None]
    whole -= rows
    return table, scale, row_lengths(whole)


def _best_of_all(
    rows: int,
    words: int,
    count: int,
    fill: Callable[[slice, slice, Array32], None],
    maxima: Callable[[Array32], Array32],
) -> tuple[NDArray[np.intp], Array32]:
    """The `count` words of largest score of each row, and these scores. `fill` puts the scores of some rows and some
    words into a table; `maxima` takes them along the axis 1 of three.

    They are within the groups of words whose largest members are the largest. So a tile of scores is reduced to the
    maxima of its groups while it is in the cache, and few scores are looked at again.
    """
    width = min(TILE, -(-words // WORDS_PER_GROUP) * WORDS_PER_GROUP)
    tiles, groups = -(-words // width), width // WORDS_PER_GROUP
    table = np.full((tiles, BLOCK, width), -np.inf, np.float32)
    parts = []
    for start in range(0, rows, BLOCK):
        block = slice(start, min(start + BLOCK, rows))
        height = block.stop - start
        largest = np.empty((height, tiles, groups), np.float32)
        for k in range(tiles):
            own = slice(k * width, min((k + 1) * width, words))
            scores = table[k, :height]
            fill(block, own, scores[:, : own.stop - own.start])
            largest[:, k] = maxima(scores.reshape(height, WORDS_PER_GROUP, groups))
        tile, group = np.divmod(_top(largest.reshape(height, -1), count), groups)
        place = (tile * BLOCK + np.arange(height)[:, None]) * width + group
        members = place[:, None] + groups * np.arange(WORDS_PER_GROUP)[:, None]
        inner = table.reshape(-1).take(members).reshape(height, -1)
        best = _top(inner, count)
        member, chosen = np.divmod(best, place.shape[1])
        word = np.take_along_axis(tile * width + group, chosen, axis=1) + member * groups
        parts.append((word, np.take_along_axis(inner, best, axis=1)))
    found, score = zip(*parts, strict=True)
    return np.concatenate(found), np.concatenate(score)


def _top(table: Array32, count: int) -> NDArray[np.intp]:
    """Columns of the `count` largest numbers of each row, or of all if there are fewer."""
    count = min(count, table.shape[1])
    return np.argpartition(table, table.shape[1] - count, axis=1)[:, table.shape[1] - count :]
