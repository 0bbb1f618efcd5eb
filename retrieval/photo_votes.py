"""Retrieval of one photo among many by votes of its largest key points: a single product of matrices.

A key point votes for the photos in which its nearest descriptor is clearly nearer than usual for it:

    votes(photo) = sum_i max(0, 1 - d_i(photo) / d_i)^2

with d_i(photo) the distance of descriptor i to the nearest one of the photo, and d_i a low quantile of that over all
photos. Coarse matching (`retrieval.coarse`) is a little more reliable, and takes ten times as long for one photo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unposed.optim.arrays import Array32, Index

BLOCK_ROWS = 1 << 14
"""Rows of the table that are compared together; bounds memory."""


@dataclass(frozen=True, eq=False)
class VoteTable:
    """Descriptors of the largest key points of all photos."""

    rows: Array32
    """(n, d) unit rows, photo after photo."""
    start: Index
    """(photos + 1,): photo i owns rows start[i]:start[i + 1]."""


def vote_table(rows_of_photos: Sequence[Array32]) -> VoteTable:
    """Stack the unit rows of each photo."""
    start = np.concatenate([[0], np.cumsum([len(rows) for rows in rows_of_photos])]).astype(np.int64)
    return VoteTable(np.concatenate(rows_of_photos), start)


def photo_votes(table: VoteTable, rows: Array32, *, background: float) -> NDArray[np.float32]:
    """(photos,) votes of the unit rows (q, d) of one photo; `background` is the quantile of the usual distance."""
    photos = len(table.start) - 1
    nearest = np.full((photos, len(rows)), -1.0, np.float32)
    first = 0
    while first < photos and len(rows):
        last = max(first + 1, int(np.searchsorted(table.start, table.start[first] + BLOCK_ROWS, side="right")) - 1)
        begin, end = table.start[first], table.start[last]
        cosine = table.rows[begin:end] @ rows.T
        for photo in range(first, last):  # np.maximum.reduceat takes ten times as long
            own = cosine[table.start[photo] - begin : table.start[photo + 1] - begin]
            if len(own):
                own.max(axis=0, out=nearest[photo])
        first = last
    distance = np.sqrt(np.maximum(2.0 - 2.0 * nearest, 0.0))
    usual = np.maximum(np.quantile(distance, background, axis=0), np.float32(1e-6))
    votes: NDArray[np.float32] = (np.maximum(0.0, 1.0 - distance / usual) ** 2).sum(axis=1)
    return votes
