"""Groups cover pairs of similar photos, see every photo two or three times, and hold together without any of them."""

from __future__ import annotations

import gc
import itertools
import time

import networkx
import numpy as np
import pytest

from unposed.retrieval.groups import CoverOptions, PhotoGroup, cover_groups


def ring(photos: int, reach: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Photos on a circle, each similar to those near it."""
    rng = np.random.default_rng(seed)
    near = itertools.product(range(photos), range(1, reach + 1))
    pairs = {tuple(sorted((a, (a + d) % photos))): 1 / (d + 0.3 * rng.random()) for a, d in near}
    ordered = sorted(pair for pair in pairs if pair[0] != pair[1])
    return np.array(ordered), np.array([pairs[pair] for pair in ordered])


def times_seen(groups: list[PhotoGroup], photos: int) -> np.ndarray:
    return np.bincount(np.concatenate([group.photos for group in groups]), minlength=photos)


def links(groups: list[PhotoGroup], shared: int) -> networkx.Graph:
    graph = networkx.Graph()
    graph.add_nodes_from(range(len(groups)))
    for a, b in itertools.combinations(range(len(groups)), 2):
        if len(set(groups[a].photos) & set(groups[b].photos)) >= shared:
            graph.add_edge(a, b)
    return graph


@pytest.mark.parametrize("photos", [20, 100, 400])
def test_every_photo_is_seen_twice_and_no_more_than_thrice_in_the_mean(photos: int) -> None:
    groups = cover_groups(photos, *ring(photos, 8), [0] * photos)
    seen = times_seen(groups, photos)
    assert seen.min() >= 2
    assert seen.mean() <= 3.0
    assert all(2 <= len(group.photos) <= 8 and len(set(group.photos)) == len(group.photos) for group in groups)
    assert all(group.reason for group in groups)


def test_groups_hold_together_by_three_photos_and_without_any_one_of_them() -> None:
    groups = cover_groups(200, *ring(200, 8), [0] * 200)
    assert networkx.is_connected(links(groups, 3))
    assert not list(networkx.articulation_points(links(groups, 2)))


def test_best_partners_are_in_one_group() -> None:
    pairs, similarity = ring(100, 8)
    groups = cover_groups(100, pairs, similarity, [0] * 100)
    together = {pair for group in groups for pair in itertools.combinations(sorted(group.photos), 2)}
    best = {tuple(pair) for pair in pairs[similarity > 0.7].tolist()}
    assert len(best & together) > 0.95 * len(best)


def test_few_photos_are_seen_together_twice_with_other_centres() -> None:
    groups = cover_groups(6, *ring(6, 3), [0] * 6)
    assert [sorted(group.photos) for group in groups] == [list(range(6))] * 2
    assert groups[0].photos[0] != groups[1].photos[0]


def test_two_photos_are_one_group_and_a_photo_alone_is_in_none_with_others() -> None:
    assert [group.photos for group in cover_groups(2, np.array([[0, 1]]), np.ones(1), [0, 0])] == [(0, 1)]
    lonely = cover_groups(21, *ring(20, 4), [0] * 21)
    assert all(20 not in group.photos for group in lonely)


def test_portraits_are_not_mixed_with_landscapes_except_to_join_them() -> None:
    pairs, similarity = ring(60, 6)
    shapes = [photo < 30 for photo in range(60)]
    groups = cover_groups(60, pairs, similarity, shapes)
    mixed = [group for group in groups if len({shapes[photo] for photo in group.photos}) > 1]
    assert 0 < len(mixed) < len(groups) / 3
    assert networkx.is_connected(links(groups, 2))


def test_the_cost_is_linear_in_the_photos() -> None:
    spent = []
    for photos in (1000, 4000):
        pairs, similarity = ring(photos, 8)
        gc.disable()  # what other tests left behind would be searched
        start = time.process_time()
        cover_groups(photos, pairs, similarity, [0] * photos)
        spent.append(time.process_time() - start)
        gc.enable()
    assert spent[1] < 10 * spent[0]  # four times as many photos


def test_the_size_of_groups_is_an_option() -> None:
    groups = cover_groups(100, *ring(100, 12), [0] * 100, CoverOptions(size=12))
    assert max(len(group.photos) for group in groups) == 12
