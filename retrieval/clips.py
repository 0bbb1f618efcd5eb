"""Pairs of frames of one clip, by their places in it, beside pairs that were chosen by what photos look like.

Neighbours in time overlap, whatever retrieval finds: where rooms or facades repeat, or little is to be seen, that is
what it does not know. A clip comes back to where it was without any hint in time: loops are closed by appearance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unposed.optim.arrays import Index, Mask

from .neighbours import along_sequence, capture_order
from .pairs import PhotoPairs, unique_pairs


@dataclass(frozen=True, eq=False)
class ClipPlaces:
    """Of every photo: the clip that it is a frame of, and where in that."""

    clip: Index
    """(n,) number of the clip; -1: the photo is of none."""
    place: Index
    """(n,) among the frames of the clip that are photos, in the order of time."""

    def of_one_clip(self, pairs: NDArray[np.integer]) -> Mask:
        """Pairs (n, 2) of two frames of one clip."""
        first, second = self.clip[pairs].T
        return np.asarray((first == second) & (first >= 0))

    def distance(self, pairs: NDArray[np.integer]) -> Index:
        """(n,) places between the photos of pairs (n, 2) that are of one clip."""
        first, second = self.place[pairs].T
        return np.asarray(np.abs(first - second), np.int64)


def clip_places(names: Sequence[str], clip_of: Sequence[str | None]) -> ClipPlaces:
    """Places by the names of photos, whose natural order is that of time, and by the name of the clip of each."""
    number = {clip: k for k, clip in enumerate(sorted({clip for clip in clip_of if clip is not None}))}
    clip = np.array([-1 if each is None else number[each] for each in clip_of], np.int64)
    place, taken = np.zeros(len(names), np.int64), [0] * len(number)
    for row in capture_order(names):
        if clip[row] >= 0:
            place[row] = taken[clip[row]]
            taken[clip[row]] += 1
    return ClipPlaces(clip, place)


def along_clips(places: ClipPlaces, steps: int) -> PhotoPairs:
    """Pairs (n, 2), sorted, of frames of one clip that are 1, 2, 4 ... places apart, `steps` of these distances."""
    parts = [np.zeros((0, 2), np.int32)]
    for number in range(int(places.clip.max(initial=-1)) + 1):
        frames = np.flatnonzero(places.clip == number)
        order = frames[np.argsort(places.place[frames])].tolist()
        parts.append(along_sequence(order, steps, doubling=True, closed=False)[0])
    return _sorted(np.concatenate(parts))


def with_pairs_along(
    chosen: NDArray[np.integer],
    similarity: NDArray[np.floating],
    along: NDArray[np.integer],
    places: ClipPlaces,
    near: int,
) -> PhotoPairs:
    """Chosen pairs (n, 2) with those along clips (m, 2) that are not among them, sorted; no more pairs than before, but
    for frames that follow each other, which all are pairs.

    What gives way are chosen pairs of frames of one clip up to `near` places apart, the least similar first: their
    frames are tied along the clip. Pairs further apart, which close loops, and those with other photos all stay. Where
    few can give way, the nearest frames come first.
    """
    base = int(max(chosen.max(initial=0), along.max(initial=0))) + 1
    key, along_key = (pairs[:, 0].astype(np.int64) * base + pairs[:, 1] for pairs in (chosen, along))
    may_go = places.of_one_clip(chosen) & (places.distance(chosen) <= near) & ~np.isin(key, along_key)
    spare = np.flatnonzero(may_go)
    missing = along[~np.isin(along_key, key)]
    distance = places.distance(missing)
    new = np.argsort(distance, kind="stable")[: max(len(spare), int((distance == 1).sum()))]
    gone = spare[np.argsort(similarity[spare], kind="stable")[: len(new)]]
    return _sorted(np.concatenate([np.delete(chosen, gone, axis=0), missing[new]]))


def _sorted(pairs: NDArray[np.integer]) -> PhotoPairs:
    return unique_pairs(pairs, np.zeros(len(pairs), np.float32))[0]
