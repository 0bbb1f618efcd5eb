"""Scene graphs by place and by key frames: equal to those of the published pipeline, but for order and repetition."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

from unposed.retrieval.patterns import (
    farthest_points,
    key_frame_pairs,
    star_pairs,
    symmetric,
    window_pairs,
)
from unposed.retrieval.scene_graph import all_pairs

Reference = Callable[[str], Any]


def undirected(pairs: list[list[int]]) -> list[tuple[int, int]]:
    return sorted({(min(p), max(p)) for p in pairs if p[0] != p[1]})


def by_name(photos: int, name: str) -> np.ndarray:
    kind, *fields = name.split("-")
    cyclic = "noncyclic" not in fields
    number = int(fields[0]) if fields and fields[0].isdigit() else None
    if kind == "complete":
        return all_pairs(photos)
    if kind == "oneref":
        return star_pairs(photos, number or 0)
    return window_pairs(photos, 3 if number is None else number, cyclic=cyclic, powers=kind == "logwin")


def test_pairs_by_place(reference: Reference) -> None:
    cases = reference("fixtures/graphs.json")["pairs"]
    for case in cases:
        found = by_name(case["n"], case["graph"]).tolist()
        assert list(map(tuple, found)) == undirected(case["pairs"]), (case["n"], case["graph"])


@pytest.fixture
def similarities(reference: Reference) -> dict[int, csr_array]:
    cases = reference("fixtures/graphs.json")["retrieval"]
    return {case["n"]: csr_array(np.array(case["sim"])) for case in cases if case["sim"]}


def test_key_frames_and_their_pairs(reference: Reference, similarities: dict[int, csr_array]) -> None:
    for case in reference("fixtures/graphs.json")["retrieval"]:
        pairs, keys = key_frame_pairs(similarities[case["n"]], case["Na"], case["k"], case["start"])
        assert keys.tolist() == case["key"]
        assert list(map(tuple, pairs.tolist())) == undirected(case["pairs"])


def test_farthest_points(reference: Reference, similarities: dict[int, csr_array]) -> None:
    for case in reference("fixtures/graphs.json")["fps"]:
        stop = case["dist_thresh"] or 0.0
        chosen, distance = farthest_points(similarities[case["n"]], case["N"], case["start"], stop)
        assert chosen.tolist() == case["idx"], json.dumps(case)
        np.testing.assert_allclose(distance, case["dist"], rtol=1e-6)


@pytest.mark.parametrize("photos", [0, 1, 2])
def test_hardly_any_photos(photos: int) -> None:
    expected = all_pairs(photos).tolist()
    empty = symmetric(photos, np.zeros((0, 2), int), np.zeros(0))
    assert window_pairs(photos, 5).tolist() == expected
    assert window_pairs(photos, 5, powers=True, cyclic=False).tolist() == expected
    assert key_frame_pairs(empty, 20, 10)[0].tolist() == expected


def test_photos_that_are_like_nothing_are_still_tied_to_a_key_frame_only_if_they_are_one() -> None:
    similarity = symmetric(5, np.array([[0, 1], [1, 2]]), np.array([0.9, 0.5]))
    pairs, keys = key_frame_pairs(similarity, 2, 1)
    assert keys.tolist() == [0, 2]
    assert pairs.tolist() == [[0, 1], [0, 2], [1, 2]]
