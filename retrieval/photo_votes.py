"""Retrieval of one photo among many by votes of its largest key points: a single product of matrices.

A key point votes for the photos in which its nearest descriptor is clearly nearer than usual for it:

    votes(photo) = sum_i max(0, 1 - d_i(photo) / d_i)^2

with d_i(photo) the distance of descriptor i to the nearest one of the photo, and d_i a low quantile of that over all
photos. Coarse matching (`retrieval.coarse`) is a little more reliable, and takes ten times as long for one photo.

Distances are those along the principal axes of the descriptors, which hold nearly all of their variation: of the twenty
photos of most votes 99 % stay the same, for a third of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unposed.optim.arrays import Array32, Index

BLOCK_ROWS = 1 << 11
"""Rows of the table that are compared together: their products stay in the cache."""

AXES = 32
"""Principal axes of the descriptors that are compared: of SIFT's 128 dimensions they hold 94 %."""

ROWS_OF_AXES = 1 << 13
"""Rows of the table that the axes are found from, evenly picked."""

FAR_AWAY = -1.5
"""Product that stands for photos without descriptors: unit rows opposite to each other have it."""


@dataclass(frozen=True, eq=False)
class VoteTable:
    """Descriptors of the largest key points of all photos."""

    rows: Array32
    """(n, AXES + 1 at most) along the principal axes, photo after photo; the last column is minus half of the squared
    length, so that the largest product with (row, 1) is that of the nearest row."""
    start: Index
    """(photos + 1,): photo i owns rows start[i]:start[i + 1]."""
    axes: Array32
    """(d, AXES at most) orthonormal columns."""


def vote_table(rows_of_photos: Sequence[Array32]) -> VoteTable:
    """Stack the unit rows of each photo."""
    start = np.concatenate([[0], np.cumsum([len(rows) for rows in rows_of_photos])]).astype(np.int64)
    rows = np.concatenate(rows_of_photos)
    some = rows[:: max(1, len(rows) // ROWS_OF_AXES)].astype(np.float64)
    axes = np.linalg.eigh(some.T @ some)[1][:, ::-1][:, :AXES].astype(np.float32)
    along = rows @ axes
    half = -0.5 * np.square(along).sum(axis=1, keepdims=True)
    return VoteTable(np.concatenate([along, half], axis=1), start, axes)


def photo_votes(table: VoteTable, rows: Array32, *, background: float) -> NDArray[np.float32]:
    """(photos,) votes of the unit rows (q, d) of one photo; `background` is the quantile of the usual distance."""
    photos = len(table.start) - 1
    along = rows @ table.axes
    square = np.square(along).sum(axis=1)
    query = np.concatenate([along, np.ones((len(rows), 1), np.float32)], axis=1)
    nearest = np.full((photos, len(rows)), FAR_AWAY, np.float32)
    first = 0
    while first < photos and len(rows):
        last = max(first + 1, int(np.searchsorted(table.start, table.start[first] + BLOCK_ROWS, side="right")) - 1)
        begin, end = table.start[first], table.start[last]
        product = table.rows[begin:end] @ query.T
        for photo in range(first, last):  # np.maximum.reduceat takes ten times as long
            own = product[table.start[photo] - begin : table.start[photo + 1] - begin]
            if len(own):
                own.max(axis=0, out=nearest[photo])
        first = last
    distance = np.sqrt(np.maximum(square - 2.0 * nearest, 0.0))
    usual = np.maximum(np.quantile(distance, background, axis=0), np.float32(1e-6))
    votes: NDArray[np.float32] = (np.maximum(0.0, 1.0 - distance / usual) ** 2).sum(axis=1)
    return votes
