"""Tracks against a slow reference made of dictionaries and networkx."""

import networkx as nx
import numpy as np
from hypothesis import given, strategies as st

from unposed.optim.mapping.tracks import Tracks, establish_tracks, spread_subset
from unposed.optim.view_graph import Keypoints

PHOTOS, EACH = 5, 4
MATCH = st.tuples(st.integers(0, PHOTOS * EACH - 1), st.integers(0, PHOTOS * EACH - 1))


def keypoints(photos: int = PHOTOS, each: int = EACH) -> Keypoints:
    return Keypoints(
        xy=np.arange(2.0 * photos * each).reshape(-1, 2),
        start=np.arange(photos + 1) * each,
        size=np.full((photos, 2), 100),
    )


def rows(matches: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.array(matches, np.int64).reshape(-1, 2).T
    return a, b


def groups(tracks: Tracks) -> list[frozenset[int]]:
    return [frozenset(tracks.row[tracks.track == t].tolist()) for t in range(tracks.count)]


def assert_sound(tracks: Tracks, min_length: int = 2) -> None:
    """What every consumer relies on."""
    length = np.bincount(tracks.track, minlength=tracks.count)
    assert (np.diff(tracks.track) >= 0).all()
    assert (length >= min_length).all()  # numbered without gaps, too
    assert len(set(zip(tracks.track.tolist(), tracks.photo.tolist(), strict=True))) == len(tracks.row)
    assert len(np.unique(tracks.row)) == len(tracks.row)


@given(st.lists(MATCH, max_size=40))
def test_joining_is_that_of_the_reference(matches: list[tuple[int, int]]) -> None:
    matches = [(a, b) for a, b in matches if a // EACH != b // EACH]
    graph = nx.Graph(matches)
    for component in list(nx.connected_components(graph)):
        if len({row // EACH for row in component}) < len(component):
            lonely = [(a, b) for a, b in graph.subgraph(component).edges if not set(graph[a]) & set(graph[b])]
            graph.remove_edges_from(lonely)
    expected = set()
    for component in nx.connected_components(graph):
        photos = [row // EACH for row in component]
        clear = frozenset(row for row in component if photos.count(row // EACH) == 1)
        if len(clear) >= 2:
            expected.add(clear)
    tracks = establish_tracks(keypoints(), *rows(matches))
    assert set(groups(tracks)) == expected
    assert tracks.count == len(expected)
    np.testing.assert_array_equal(tracks.photo, tracks.row // EACH)
    assert_sound(tracks)


def test_photos_seen_twice_leave_the_track() -> None:
    """Two triangles on one edge, 0-4-8 and 0-5-8: photo 1 contradicts itself, photos 0 and 2 remain."""
    tracks = establish_tracks(keypoints(), *rows([(0, 4), (4, 8), (0, 8), (0, 5), (8, 5), (12, 16)]))
    assert groups(tracks) == [frozenset({0, 8}), frozenset({12, 16})]


def test_one_wrong_match_does_not_merge_two_points() -> None:
    """0-4-8 and 1-5-9 are two points seen by the same three photos; 8-5 would make them one."""
    right = [(0, 4), (4, 8), (0, 8), (1, 5), (5, 9), (1, 9)]
    assert groups(establish_tracks(keypoints(), *rows([*right, (8, 5)]))) == [
        frozenset({0, 4, 8}),
        frozenset({1, 5, 9}),
    ]


def test_no_matches_make_no_tracks() -> None:
    for some in (keypoints(), keypoints(photos=3, each=0)):
        tracks = establish_tracks(some, *rows([]))
        assert tracks.count == 0
        assert spread_subset(tracks, len(some), 10).count == 0


@given(st.lists(MATCH, max_size=40), st.integers(2, 4), st.randoms(use_true_random=False))
def test_selecting_keeps_tracks_sound(matches: list[tuple[int, int]], shortest: int, random: object) -> None:
    tracks = establish_tracks(keypoints(), *rows([(a, b) for a, b in matches if a // EACH != b // EACH]))
    keep = np.array([random.random() < 0.7 for _ in tracks.row], bool)  # type: ignore[attr-defined]
    kept = tracks.select(keep, shortest)
    assert_sound(kept, shortest)
    expected = [g & frozenset(tracks.row[keep].tolist()) for g in groups(tracks)]
    assert groups(kept) == [g for g in expected if len(g) >= shortest]


def long_and_short(seed: int = 0) -> Tracks:
    """A thousand tracks of two to eight photos out of thirty."""
    rng = np.random.default_rng(seed)
    seen = [np.sort(rng.choice(30, rng.integers(2, 9), replace=False)) for _ in range(1000)]
    photo = np.concatenate(seen)
    track = np.repeat(np.arange(1000), [len(s) for s in seen])
    return Tracks(np.arange(len(photo)), photo, track)


def test_a_subset_gives_every_photo_its_share() -> None:
    tracks = long_and_short()
    subset = spread_subset(tracks, 30, 40)
    assert_sound(subset)
    share = np.bincount(subset.photo, minlength=30)
    assert share.min() >= 40
    assert share.max() < 90
    length = len(subset.row) / subset.count
    assert length > 1.5 * len(tracks.row) / tracks.count  # long ones first
    assert set(groups(subset)) <= set(groups(tracks))  # whole tracks


def test_a_photo_with_few_tracks_gives_all_it_has() -> None:
    tracks = long_and_short()
    poor = np.flatnonzero(tracks.photo == 7)[25:]
    tracks = tracks.select(~np.isin(np.arange(len(tracks.row)), poor))
    available = np.bincount(tracks.photo, minlength=30)
    share = np.bincount(spread_subset(tracks, 30, 40).photo, minlength=30)
    assert available[7] <= 25
    assert share[7] == available[7]
    assert np.delete(share, 7).min() >= 40


def test_more_than_there_is_is_everything() -> None:
    tracks = long_and_short()
    assert groups(spread_subset(tracks, 30, 10**6)) == groups(tracks)
