"""Rank pairs of photos by what is known without looking at pixels: order, position, or a list of rankings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from .pairs import PairSimilarity, PhotoPairs, unique_pairs

EARTH_RADIUS_M = 6_371_000.0


def along_sequence(
    order: Sequence[int], window: int, *, doubling: bool, closed: bool
) -> tuple[PhotoPairs, PairSimilarity]:
    """Photos at most `window` places apart, in the order in which they were taken, the similarity being one over the
    distance; with `doubling` the distances are 1, 2, 4 ..., `window` of them. A closed sequence begins again after
    its end."""
    count = len(order)
    offsets = [2**k for k in range(window)] if doubling else list(range(1, window + 1))
    found = []
    for offset in (offset for offset in offsets if offset < count):
        a = np.arange(count if closed else count - offset)
        b = (a + offset) % count
        distance = np.full(len(a), min(offset, count - offset) if closed else offset)
        found.append(np.column_stack([a, b, distance]))
    table = np.concatenate([np.empty((0, 3), int), *found])
    places = np.asarray(order, np.int64)
    return unique_pairs(places[table[:, :2]], (1.0 / table[:, 2]).astype(np.float32))


def near_positions(
    photos: Sequence[int], position_m: NDArray[np.float64], partners: int, reach_m: float
) -> tuple[PhotoPairs, PairSimilarity]:
    """The nearest `partners` of each photo within reach; positions (n, d). The similarity falls from 1 where photos
    are in one place to 1/2 at the reach."""
    if len(photos) < 2:
        return unique_pairs(np.empty((0, 2), int), np.empty(0, np.float32))
    reach = np.nextafter(reach_m, np.inf)  # the bound itself is excluded
    found = cKDTree(position_m).query(position_m, min(partners + 1, len(photos)), distance_upper_bound=reach)
    distance, other = np.asarray(found[0]), np.asarray(found[1])
    near = np.isfinite(distance) & (other != np.arange(len(photos))[:, None])
    row, _ = np.nonzero(near)
    pairs = np.asarray(photos, np.int64)[np.column_stack([row, other[near]])]
    return unique_pairs(pairs, (reach_m / (reach_m + distance[near])).astype(np.float32))


def metres(latitude_deg: NDArray[np.float64], longitude_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 3) positions on a sphere of the Earth's size; distances of kilometres come out right to half a per cent."""
    latitude, longitude = np.radians(latitude_deg), np.radians(longitude_deg)
    ring = np.cos(latitude)
    return EARTH_RADIUS_M * np.stack([ring * np.cos(longitude), ring * np.sin(longitude), np.sin(latitude)], axis=1)


def interleaved(
    rankings: Sequence[tuple[NDArray[np.integer], NDArray[np.floating]]],
) -> tuple[PhotoPairs, PairSimilarity]:
    """Rankings whose similarities cannot be compared as one: the similarity of a pair is one over the best place that
    it has among the partners of either of its photos in any ranking. So the first choices of all come first."""
    parts = [unique_pairs(pairs, _by_place(pairs, similarity)) for pairs, similarity in rankings]
    return unique_pairs(
        np.concatenate([np.empty((0, 2), int), *(pairs for pairs, _ in parts)]),
        np.concatenate([np.empty(0, np.float32), *(similarity for _, similarity in parts)]),
    )


def _by_place(pairs: NDArray[np.integer], similarity: NDArray[np.floating]) -> PairSimilarity:
    photo = pairs.T.ravel()
    order = np.lexsort((-np.tile(similarity, 2), photo))
    place = np.empty(len(photo), np.int64)
    place[order] = np.arange(len(photo)) - np.searchsorted(photo[order], photo[order])
    return np.asarray(1.0 / (1.0 + place.reshape(2, -1).min(axis=0)), np.float32)
