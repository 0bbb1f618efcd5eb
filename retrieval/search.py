"""The best partners of every photo by the match kernel, in memory that does not grow with their number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from .asmk import Kernel, Signatures, aggregate, code_width
from .inverted import InvertedIndex, index_of, scores
from .known_signatures import KnownSignatures
from .pairs import unique_pairs
from .spool import Spool
from .words import Codebook, nearest_words

PHOTOS_AT_ONCE = 16
"""Photos that are quantised together: enough rows for a product to be efficient."""
INDEX_SHARE, QUERY_SHARE, SCORE_SHARE = 4, 4, 8
"""Parts of the memory for the codes of the index, for those of the queries and for a block of scores."""
SCORES_PER_GROUP = 16
"""Scores of which only the largest is looked at first."""


@dataclass(frozen=True)
class SearchOptions:
    """Options of the search for the best partners of every photo."""

    kernel: Kernel = field(default_factory=Kernel)
    assigned: int = 5
    """Words at which a descriptor of a query counts; in the index it counts at the nearest."""
    partners: int = 100
    """Best partners of each photo that are given."""


def best_partners_by_words(
    load: Callable[[int], NDArray[np.generic]],
    photos: Sequence[int],
    codebook: Codebook,
    search: SearchOptions,
    *,
    limit_bytes: int,
    threads: int = 1,
    known: KnownSignatures | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Pairs (n, 2) of photos with the smaller index first, sorted, and their similarity: the larger of the two scores,
    of either as the query. Photos must be ascending; those without descriptors or without common words get no pair.

    Descriptors are loaded once and quantised once. What does not fit into `limit_bytes` waits on the disk. Where
    descriptors count at one word each, signatures that are `known` are not made again, and new ones are added to it.
    """
    with TemporaryDirectory(prefix="unposed-") as name:
        folder = Path(name)
        database, queries = _all_signatures(load, photos, codebook, search, limit_bytes, threads, folder, known)
        dims = codebook.centroids.shape[1]
        limit = limit_bytes // INDEX_SHARE
        index = index_of(database, len(photos), len(codebook), dims, search.kernel, limit_bytes=limit, folder=folder)
        del database
        block = max(1, limit_bytes // SCORE_SHARE // (8 * max(1, len(photos))) // threads)
        parts = [(np.empty((0, 2), np.int64), np.empty(0))]
        with ThreadPoolExecutor(threads) as pool:
            best = partial(_best_of_block, index, queries, block=block, partners=search.partners)
            parts += pool.map(best, range(0, len(photos), block))
        del best, index, queries  # before their files are removed
    pairs, similarity = unique_pairs(np.concatenate([p for p, _ in parts]), np.concatenate([s for _, s in parts]))
    return np.asarray(photos, np.int32)[pairs], similarity


def _all_signatures(
    load: Callable[[int], NDArray[np.generic]],
    photos: Sequence[int],
    codebook: Codebook,
    search: SearchOptions,
    limit_bytes: int,
    threads: int,
    folder: Path,
    known: KnownSignatures | None,
) -> tuple[Signatures, Signatures]:
    """Of all photos, as the index and as the queries have them."""
    width = code_width(codebook.centroids.shape[1], search.kernel.binary)
    none = Signatures(
        np.empty(0, np.int32), np.empty(0, np.int32), np.empty((0, width), np.uint8 if search.kernel.binary else "f4")
    )

    def quantised(rows: list[NDArray[np.generic]], photos: list[int]) -> tuple[Signatures, Signatures]:
        photo = np.repeat(photos, [len(part) for part in rows])
        filled = [part for part in rows if len(part)]
        if not filled:
            return none, none
        table = np.concatenate(filled)
        words = nearest_words(codebook, table, search.assigned)
        binary = search.kernel.binary
        database = aggregate(codebook, table, photo, words[:, :1], binary=binary)
        return database, database if search.assigned == 1 else aggregate(codebook, table, photo, words, binary=binary)

    def describe(start: int) -> tuple[Signatures, Signatures]:
        rows = [load(photo) for photo in photos[start : start + PHOTOS_AT_ONCE]]
        numbers = list(range(start, start + len(rows)))
        if known is None or search.assigned > 1:
            return quantised(rows, numbers)
        found = [known.of(own, number) for own, number in zip(rows, numbers, strict=True)]
        new = [k for k, signatures in enumerate(found) if signatures is None]
        made, _ = quantised([rows[k] for k in new], [numbers[k] for k in new])
        for k in new:
            own = slice(*np.searchsorted(made.photo, [numbers[k], numbers[k] + 1]))
            found[k] = signatures = Signatures(made.photo[own], made.word[own], made.code[own])
            known.add(rows[k], signatures)
        columns = zip(*(each for each in found if each is not None), strict=True)
        both = Signatures(*map(np.concatenate, columns))
        return both, both

    spools = [
        [Spool(limit_bytes // QUERY_SHARE, folder, f"{role}-{field}") for field in Signatures._fields]
        for role in ("index", "query")
    ]
    with ThreadPoolExecutor(threads) as pool:
        described: Iterator[tuple[Signatures, Signatures]] = pool.map(describe, range(0, len(photos), PHOTOS_AT_ONCE))
        for both in ((none, none), *described):
            for spool, signatures in zip(spools, both, strict=True):
                for column, values in zip(spool, signatures, strict=True):
                    column.append(values)
    database, queries = (Signatures(*(column.table() for column in spool)) for spool in spools)
    return database, queries


def _best_of_block(
    index: InvertedIndex, queries: Signatures, start: int, block: int, partners: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(query, partner) and their score, for a block of photos against all."""
    count = min(block, index.photos - start)
    rows = slice(*np.searchsorted(queries.photo, [start, start + count]))
    own = Signatures(queries.photo[rows] - start, queries.word[rows], queries.code[rows])
    table = scores(index, own, count)
    here = np.arange(count)
    table[here, start + here] = 0.0  # nobody is his own partner
    row, column = largest(table, partners)
    return np.column_stack([start + row, column]), table[row, column]


def largest(table: NDArray[np.float64], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column of the `count` largest positive entries of each row, the largest first; of equal ones those
    further to the left."""
    rows, columns = table.shape
    least = np.zeros(rows)
    if columns > count:
        # As many groups as are asked for reach the least of the maxima taken: nothing below it can be among the
        # largest. Sorting out the maxima alone is many times as fast as all entries.
        size = max(1, min(SCORES_PER_GROUP, columns // (count + 1)))
        groups = columns // size
        maxima = table[:, : size * groups].reshape(rows, size, groups).max(axis=1)
        least = np.partition(maxima, groups - count, axis=1)[:, groups - count]
    row, column = np.nonzero(table >= np.maximum(least, np.finfo(float).tiny)[:, None])
    order = np.lexsort((column, -table[row, column], row))
    row, column = row[order], column[order]
    kept = np.arange(len(row)) - np.searchsorted(row, row) < count
    return row[kept], column[kept]
