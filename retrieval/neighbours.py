"""Rank pairs of photos without their pixels: by order, by position, or by merging rankings."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from .pairs import PairSimilarity, PhotoPairs, unique_pairs

EARTH_RADIUS_M = 6_371_000.0


def capture_order(names: Sequence[str]) -> list[int]:
    """Indices of the names in natural order, frame2 before frame10: that of capture, as cameras name their photos."""
    keys = [[(int(digits or -1), text) for digits, text in re.findall(r"(\d+)|(\D+)", name)] for name in names]
    return sorted(range(len(names)), key=keys.__getitem__)


def along_sequence(
    order: Sequence[int], window: int, *, doubling: bool, closed: bool
) -> tuple[PhotoPairs, PairSimilarity]:
    """Pairs at most `window` places apart in the order of capture, with similarity 1 / distance.

    With `doubling` the distances are 1, 2, 4 ..., `window` of them. A closed sequence continues at its start.
    """
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
    """Pairs of the nearest `partners` of each photo within `reach_m`, by positions (n, d), with similarity reach /
    (reach + distance)."""
    if len(photos) < 2:
        return unique_pairs(np.empty((0, 2), int), np.empty(0, np.float32))
    reach = np.nextafter(reach_m, np.inf)  # the bound itself is excluded
    found = cKDTree(position_m).query(position_m, min(partners + 1, len(photos)), distance_upper_bound=reach)
    distance, other = np.asarray(found[0]), np.asarray(found[1])
    near = np.isfinite(distance) & (other != np.arange(len(photos))[:, None])
    row, _ = np.nonzero(near)
    pairs = np.asarray(photos, np.int64)[np.column_stack([row, other[near]])]
    return unique_pairs(pairs, (reach_m / (reach_m + distance[near])).astype(np.float32))


def near_views(
    photos: Sequence[int],
    position: NDArray[np.float64],
    axis: NDArray[np.float64],
    partners: int,
    max_angle_deg: float,
) -> tuple[PhotoPairs, PairSimilarity]:
    """Pairs of the nearest `partners` of each photo whose optical axes (n, 3) are at most so many degrees apart, with
    similarity 1 / place: distances (n, 3) have no scale that says what is near."""
    bound = np.cos(np.radians(max_angle_deg))
    found = [np.empty((0, 3))]
    for row, (own, direction) in enumerate(zip(position, axis, strict=True)):
        turned = axis @ direction
        turned[row] = -np.inf
        alike = np.flatnonzero(turned >= bound)
        order = alike[np.argsort(np.linalg.norm(position[alike] - own, axis=1), kind="stable")[:partners]]
        found.append(np.column_stack([np.full(len(order), row), order, 1.0 / np.arange(1, len(order) + 1)]))
    table = np.concatenate(found)
    pairs = np.asarray(photos, np.int64)[table[:, :2].astype(np.int64)]
    return unique_pairs(pairs, table[:, 2].astype(np.float32))


def metres(latitude_deg: NDArray[np.float64], longitude_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 3) positions on a sphere of the Earth's radius; distances of kilometres are exact to half a per cent."""
    latitude, longitude = np.radians(latitude_deg), np.radians(longitude_deg)
    ring = np.cos(latitude)
    return EARTH_RADIUS_M * np.stack([ring * np.cos(longitude), ring * np.sin(longitude), np.sin(latitude)], axis=1)


def interleaved(
    rankings: Sequence[tuple[NDArray[np.integer], NDArray[np.floating]]],
) -> tuple[PhotoPairs, PairSimilarity]:
    """Merge rankings whose similarities cannot be compared: a pair has the similarity 1 / place, its best place among
    the partners of either photo in any ranking."""
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
