"""Coarse matching of all pairs of photos: how many of their few largest key points match."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray

from unposed.optim.pair.matching import DescriptorRows, mutual_nearest
from unposed.optim.progress import Report, no_report

from .known_counts import KnownCounts


def largest_rows(scale: NDArray[np.floating], count: int) -> NDArray[np.intp]:
    """Rows of the largest key points. Unlike those of strongest response they are found again at other distances, and
    few of them cover the photo."""
    return np.argsort(-scale, kind="stable")[:count]


def coarse_similarity(
    load: Callable[[int], DescriptorRows],
    photos: Sequence[int],
    *,
    rows: int,
    max_ratio: float,
    block: int,
    threads: int = 1,
    device: str = "cpu",
    shortlist: NDArray[np.integer] | None = None,
    known: KnownCounts | None = None,
    report: Report = no_report,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Match all pairs of photos (ascending indices), or those of the shortlist (n, 2, smaller index first): pairs (n,
    2) and their similarity, the number of mutual matches over `rows` compared key points.

    `load` returns the descriptors of a photo, at most `rows` of them. At most three blocks of photos are in memory.
    Counts that are `known` are not made again, and new ones are added to it.
    """

    chosen = None if shortlist is None else _partners_of(shortlist)

    def compare(a: int, left: dict[int, DescriptorRows], right: dict[int, DescriptorRows]) -> NDArray[np.int32]:
        later = [b for b in right if b > a] if chosen is None else [b for b in chosen.get(a, ()) if b in right]
        counts = np.full(len(later), -1) if known is None else known.of(a, later)
        new = np.flatnonzero(counts < 0)
        for k in new:
            counts[k] = len(mutual_nearest(left[a], right[later[k]], max_ratio=max_ratio, device=device).index_a)
        if known is not None:
            known.add(a, [later[k] for k in new], counts[new])
        return np.column_stack([np.full(len(later), a), later, counts]).astype(np.int32)

    total = len(photos) * (len(photos) - 1) // 2 if shortlist is None else len(shortlist)
    done, tables = 0, [np.empty((0, 3), np.int32)]
    with ThreadPoolExecutor(threads) as pool:
        for left, right in _block_pairs(load, photos, block):
            if known is not None:
                for photo, held in right.items():
                    known.tell(photo, held)
            for table in pool.map(partial(compare, left=left, right=right), left):
                tables.append(table)
                done += len(table)
                report(done, total, "compare photos")
    table = np.concatenate(tables)
    table = table[np.lexsort((table[:, 1], table[:, 0]))]
    return table[:, :2], (table[:, 2] / rows).astype(np.float32)


def _partners_of(pairs: NDArray[np.integer]) -> dict[int, list[int]]:
    """The second photos of the pairs (n, 2) by their first."""
    partners: dict[int, list[int]] = {}
    for a, b in sorted(pairs.tolist()):
        partners.setdefault(a, []).append(b)
    return partners


def _block_pairs(
    load: Callable[[int], DescriptorRows], photos: Sequence[int], block: int
) -> Iterator[tuple[dict[int, DescriptorRows], dict[int, DescriptorRows]]]:
    starts = range(0, len(photos), block)
    for i in starts:
        left = {photo: load(photo) for photo in photos[i : i + block]}
        yield left, left
        for j in starts[i // block + 1 :]:
            yield left, {photo: load(photo) for photo in photos[j : j + block]}
