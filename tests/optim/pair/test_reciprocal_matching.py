"""Reciprocal matching against the published outputs, against the obvious way, and on tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from unposed.optim.pair.reciprocal_matching import (
    PixelMatches,
    cycle_consistent_matches,
    merge_matches,
    most_similar,
    neighbours_by_descriptor,
    neighbours_by_position,
    reciprocal_both_ways,
    reciprocal_matches,
    round_trips,
    seed_grid,
)

Arrays = dict[str, NDArray[Any]]
SIZE_A, SIZE_B = (48, 64), (40, 56)


@pytest.fixture(scope="module")
def published(reference: Callable[[str], Arrays]) -> Arrays:
    return reference("fixtures/matching.safetensors")


def assert_pairs(found: PixelMatches, published: Arrays, case: str) -> None:
    for rows, side, width in ((found.a, "xy1", SIZE_A[1]), (found.b, "xy2", SIZE_B[1])):
        np.testing.assert_array_equal(np.stack([rows % width, rows // width], axis=1), published[f"{case}.{side}"])


def made_up(seed: int, *shape: int) -> NDArray[np.float32]:
    raw = np.random.default_rng(seed).standard_normal(shape)
    return (raw / np.linalg.norm(raw, axis=-1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("step", [8, 4, 2])
def test_published_pairs(published: Arrays, step: int) -> None:
    found = reciprocal_matches(neighbours_by_descriptor(published["A"], published["B"]), seed_grid(*SIZE_A, step))
    assert_pairs(found, published, f"S{step}")


def test_published_basins(published: Arrays) -> None:
    neighbours = neighbours_by_descriptor(published["A"], published["B"])
    assert_pairs(reciprocal_matches(neighbours, seed_grid(*SIZE_A, 8)), published, "basin8")
    np.testing.assert_array_equal(round_trips(neighbours), published["basin8.map"][:-1])


@pytest.mark.parametrize("tolerance", [0, 2, 5])
def test_published_returns_to_given_pixels(published: Arrays, tolerance: int) -> None:
    starts = published["init.y"] * SIZE_A[1] + published["init.x"]
    found = cycle_consistent_matches(
        neighbours_by_descriptor(published["A"], published["B"]), starts, SIZE_A[1], tolerance
    )
    assert_pairs(found, published, f"init_tol{tolerance}")


@pytest.mark.parametrize("step", [8, 4])
def test_published_merging_of_two_decodings(published: Arrays, step: int) -> None:
    seeds = seed_grid(*SIZE_A, step), seed_grid(*SIZE_B, step)
    runs, confidences = [], []
    for a, b, trust_a, trust_b in (("A", "B", "q11", "q21"), ("A2", "B2", "q12", "q22")):
        for run in reciprocal_both_ways(neighbours_by_descriptor(published[a], published[b]), *seeds):
            runs.append(run)
            confidences.append(np.sqrt(published[trust_a].ravel()[run.a] * published[trust_b].ravel()[run.b]))
    found, first = merge_matches(runs)
    assert_pairs(found, published, f"pair_S{step}")
    np.testing.assert_array_equal(np.concatenate(confidences)[first], published[f"pair_S{step}.conf"])


def test_published_pairs_of_one_decoding(published: Arrays) -> None:
    neighbours = neighbours_by_descriptor(published["A"], published["B"])
    seeds = seed_grid(*SIZE_A, 8), seed_grid(*SIZE_B, 8)
    back = cycle_consistent_matches(neighbours.swapped(), seeds[1], SIZE_B[1], 3)
    cases = {
        "nonsym_tol0": reciprocal_both_ways(neighbours, *seeds),
        "nonsym_tol3": [cycle_consistent_matches(neighbours, seeds[0], SIZE_A[1], 3), PixelMatches(back.b, back.a)],
    }
    for case, runs in cases.items():
        found, _ = merge_matches(runs)
        assert_pairs(found, published, case)
        least = np.minimum(published["q11"].ravel()[found.a], published["q21"].ravel()[found.b])
        np.testing.assert_array_equal(least, published[f"{case}.conf"])


def test_blocks_do_not_show() -> None:
    queries, targets = made_up(0, 300, 24), made_up(1, 5000, 24)
    np.testing.assert_array_equal(most_similar(queries, targets), (queries @ targets.T).argmax(axis=1))


def test_all_that_rest_are_mutual_and_no_pixel_is_asked_twice() -> None:
    a, b = made_up(0, 24, 32, 8), made_up(1, 20, 28, 8)
    similarity = a.reshape(-1, 8) @ b.reshape(-1, 8).T
    asked: list[int] = []
    neighbours = neighbours_by_descriptor(a, b)
    inner = neighbours.forward._search

    def counting(rows: NDArray[np.int64]) -> NDArray[np.int64]:
        asked.extend(rows.tolist())
        return inner(rows)

    neighbours.forward._search = counting
    for found in reciprocal_both_ways(neighbours, seed_grid(24, 32, 2), seed_grid(20, 28, 2)):
        assert len(found.a) > 20
        np.testing.assert_array_equal(similarity[found.a].argmax(axis=1), found.b)
        np.testing.assert_array_equal(similarity[:, found.b].argmax(axis=0), found.a)
    assert len(asked) == len(set(asked))


def test_what_is_not_a_number_is_nobodys_neighbour() -> None:
    a, b = made_up(0, 16, 16, 6), made_up(1, 16, 16, 6)
    b[3, 4, 2] = np.nan
    found = reciprocal_matches(neighbours_by_descriptor(a, b), np.arange(256))
    assert len(found.a) > 30
    assert 3 * 16 + 4 not in found.b


def test_points_that_fall_on_each_other_are_pairs() -> None:
    rng = np.random.default_rng(0)
    a = rng.uniform((-1, -1, 49), (1, 1, 51), (20, 30, 3)).astype(np.float32)
    order = rng.permutation(600)
    b = a.reshape(-1, 3)[order].reshape(30, 20, 3) + rng.normal(0, 1e-4, (30, 20, 3)).astype(np.float32)
    found = reciprocal_matches(neighbours_by_position(a, b), np.arange(600))
    assert len(found.a) > 590
    assert np.mean(order[found.b] == found.a) > 0.99
