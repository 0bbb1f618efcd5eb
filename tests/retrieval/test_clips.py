"""Pairs along clips, beside pairs chosen by appearance."""

from __future__ import annotations

import numpy as np
from hypothesis import given, strategies as st

from unposed.retrieval.clips import ClipPlaces, along_clips, clip_places, with_pairs_along


def two_clips_and_stills(rng: np.random.Generator, frames: int) -> ClipPlaces:
    """Photos of two clips and three stills, in any order."""
    rows = [(0, k) for k in range(frames)] + [(1, k) for k in range(5)] + [(-1, 0)] * 3
    clip, place = np.array(rows)[rng.permutation(len(rows))].T
    return ClipPlaces(clip, place)


def random_pairs(rng: np.random.Generator, photos: int) -> np.ndarray:
    first, second = np.triu_indices(photos, 1)
    kept = rng.random(len(first)) < rng.uniform(0.1, 0.9)
    return np.column_stack([first, second])[kept].astype(np.int32)


def as_set(pairs: np.ndarray) -> set[tuple[int, ...]]:
    found = {tuple(pair) for pair in pairs.tolist()}
    assert len(found) == len(pairs)
    return found


def test_places_are_in_the_order_of_time_whatever_the_order_of_names() -> None:
    names = ["b.mp4/000000700.jpg", "still.jpg", "a.mp4/2.jpg", "a.mp4/10.jpg", "b.mp4/000000030.jpg"]
    places = clip_places(names, ["b.mp4", None, "a.mp4", "a.mp4", "b.mp4"])
    assert places.clip.tolist() == [1, -1, 0, 0, 1]
    assert places.place.tolist() == [1, 0, 0, 1, 0]


@given(st.integers(0, 20), st.integers(1, 6))
def test_frames_are_paired_at_growing_steps_within_their_clip(frames: int, steps: int) -> None:
    places = two_clips_and_stills(np.random.default_rng(frames), frames)
    clip, place = places.clip.tolist(), places.place.tolist()
    distances = {2**k for k in range(steps)}
    expected = {
        (a, b)
        for b in range(len(clip))
        for a in range(b)
        if clip[a] == clip[b] >= 0 and abs(place[a] - place[b]) in distances
    }
    assert as_set(along_clips(places, steps)) == expected


@given(st.integers(0, 25), st.integers(1, 12), st.integers(0, 1000))
def test_pairs_along_clips_take_the_place_of_others_of_neighbours(frames: int, reach: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    places = two_clips_and_stills(rng, frames)
    chosen = random_pairs(rng, len(places.clip))
    similarity = rng.random(len(chosen)).astype(np.float32)
    along = along_clips(places, 3)
    mixed = as_set(with_pairs_along(chosen, similarity, along, places, reach))
    before, wanted = as_set(chosen), as_set(along)
    gone, new, missing = before - mixed, mixed - before, wanted - before
    near = {
        (a, b)
        for a, b in before - wanted
        if places.clip[a] == places.clip[b] >= 0 and abs(places.place[a] - places.place[b]) <= reach
    }
    assert gone <= near and new <= missing  # loops, other clips and stills stay
    alike = {tuple(pair): value for pair, value in zip(chosen.tolist(), similarity.tolist(), strict=True)}
    assert max((alike[pair] for pair in gone), default=0.0) <= min((alike[p] for p in near - gone), default=1.0)
    far = {pair: abs(places.place[pair[0]] - places.place[pair[1]]) for pair in missing}
    following = sum(distance == 1 for distance in far.values())
    assert len(new) == min(len(missing), max(following, len(near)))
    assert len(gone) == min(len(new), len(near))
    assert max((far[pair] for pair in new), default=0) <= min((far[p] for p in missing - new), default=9)


def test_without_clips_pairs_stay() -> None:
    places = ClipPlaces(np.full(4, -1), np.zeros(4, np.int64))
    along = along_clips(places, 4)
    assert len(along) == 0
    chosen = np.array([[0, 2], [1, 3]], np.int32)
    assert with_pairs_along(chosen, np.ones(2, np.float32), along, places, 8).tolist() == chosen.tolist()
