"""Photos whose matches fill the frame, and photos that agree in the middle and show different things around it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from unposed.optim.doppelgangers.missing_correspondences import score_pairs
from unposed.optim.doppelgangers.options import DoppelgangerOptions
from unposed.optim.view_graph import Keypoints, ViewGraph, build_view_graph

OPTIONS = DoppelgangerOptions()
SIZE = (640, 480)


def _missing_scores(graph: ViewGraph) -> np.ndarray:
    return score_pairs(graph, OPTIONS)[0]


def lattice() -> np.ndarray:
    """A key point every 10 pixels."""
    return np.stack(np.meshgrid(np.arange(5, SIZE[0], 10), np.arange(5, SIZE[1], 10)), axis=-1).reshape(-1, 2) * 1.0


def collection(missing: np.ndarray, rate: float) -> ViewGraph:
    """Four photos of the same key points: 0 matches 2, and 1 matches 3, all over; between 0 and 1 nothing matches where
    `missing`, and elsewhere so many."""
    xy, n = lattice(), len(lattice())
    keypoints = Keypoints(np.tile(xy, (4, 1)), np.arange(5) * n, np.array([SIZE] * 4))
    rng = np.random.default_rng(0)
    between = np.flatnonzero(~missing & (rng.random(n) < rate))
    everything = np.arange(n)
    rows = [(0, 1, between), (0, 2, everything), (1, 3, everything)]
    return build_view_graph(
        keypoints,
        np.array([(a, b) for a, b, _ in rows]),
        np.array([len(r) for *_, r in rows]),
        np.concatenate([r + a * n for a, _, r in rows]),
        np.concatenate([r + b * n for _, b, r in rows]),
    )


def around_the_middle() -> np.ndarray:
    return np.asarray(np.abs(lattice() - np.array(SIZE) / 2).max(axis=1) > 150)


@pytest.mark.parametrize("rate", [0.1, 0.4, 0.9])
def test_matches_all_over_are_above_missing_scores_however_thin(rate: float) -> None:
    np.testing.assert_array_equal(_missing_scores(collection(around_the_middle() & False, rate)), 0.0)


def test_different_things_around_what_matches() -> None:
    found = _missing_scores(collection(around_the_middle(), 0.8))
    assert found[0] > 0.9
    np.testing.assert_array_equal(found[1:], 0.0)


def test_an_object_before_nothing_is_compared_as_if_it_filled_the_photo() -> None:
    """A carton whose logo is printed on two sides; with cells of the photo it would be five of them high."""
    filling = collection(around_the_middle(), 0.8)
    small = replace(filling.keypoints, xy=filling.keypoints.xy * 0.3 + (200.0, 90.0))
    np.testing.assert_allclose(_missing_scores(replace(filling, keypoints=small)), _missing_scores(filling), atol=0.1)


def test_photos_whose_key_points_match_nowhere_are_not_compared() -> None:
    empty = Keypoints(np.zeros((0, 2)), np.zeros(3, np.int64), np.array([SIZE] * 2))
    nothing = np.zeros(0, np.int64)
    graph = build_view_graph(empty, np.array([(0, 1)]), np.zeros(1, np.int64), nothing, nothing)
    assert _missing_scores(graph).tolist() == [0.0]


def test_thin_matches_prove_nothing() -> None:
    """With a wide baseline most patches find no match by themselves."""
    assert _missing_scores(collection(around_the_middle(), 0.08))[0] == 0.0


def test_a_few_odd_patches_are_an_occlusion() -> None:
    assert _missing_scores(collection(np.asarray(lattice()[:, 0] < 60), 0.8))[0] == 0.0


def test_what_one_photo_alone_shows_contradicts_nothing() -> None:
    """Key points that match in no photo at all may be noise."""
    only = collection(around_the_middle(), 0.8).select(np.array([True, False, False]))
    assert _missing_scores(only)[0] == 0.0


def test_match_completeness_is_how_completely_photos_match_less_what_is_missing() -> None:
    thin, thick = (score_pairs(collection(around_the_middle() & False, rate), OPTIONS)[1] for rate in (0.3, 0.6))
    assert thin[0] == pytest.approx(0.3, abs=0.05)
    assert thick[0] == pytest.approx(0.6, abs=0.05)
    np.testing.assert_allclose(thick[1:], 1.0)
    assert score_pairs(collection(around_the_middle(), 0.6), OPTIONS)[1][0] < 0.1 * thick[0]


@pytest.mark.parametrize("quarters", [1, 2, 3])
@pytest.mark.parametrize("missing_px", [120, 200, 280])
def test_a_camera_that_was_turned_changes_nothing(quarters: int, missing_px: int) -> None:
    """Upright, sideways or, on the way back of a drone, upside down."""
    graph = collection(np.asarray(lattice()[:, 0] < missing_px), 0.8)
    xy, size = graph.keypoints.xy.copy(), graph.keypoints.size.copy()
    for _ in range(quarters):
        for photo in (1, 3):
            rows = graph.keypoints.rows_of(photo)
            xy[rows] = np.column_stack([size[photo, 1] - xy[rows, 1], xy[rows, 0]])
            size[photo] = size[photo, ::-1]
    upright = score_pairs(graph, OPTIONS)
    turned = score_pairs(replace(graph, keypoints=Keypoints(xy, graph.keypoints.start, size)), OPTIONS)
    np.testing.assert_allclose(turned[0], upright[0], atol=0.02)
    np.testing.assert_allclose(turned[1], upright[1], rtol=0.1)
