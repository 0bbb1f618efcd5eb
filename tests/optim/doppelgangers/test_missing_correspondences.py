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


def random_collection(rng: np.random.Generator) -> ViewGraph:
    """Five photos of different sizes of the same points, turned; a pair matches some of them in one half, or a few all
    over, a tenth of them wrongly."""
    n, size = 600, rng.integers(200, 900, (5, 2))
    points, angles = rng.random((n, 2)) - 0.5, rng.uniform(0, 2 * np.pi, 5)
    turns = np.array([[[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]] for t in angles])
    xy = (np.clip(points @ turn.T, -0.5, 0.499) * side + side / 2 for turn, side in zip(turns, size, strict=True))
    pairs = [(a, b) for a in range(5) for b in range(a + 1, 5)]
    rows = []
    for few in rng.permutation([1, 4, 7, 8, 40, 200, 200, 200, 300, 300]):
        half = np.flatnonzero(points @ rng.normal(size=2) > 0.0) if few > 8 else np.arange(n)
        mine = rng.permutation(half)[:few]
        other = mine.copy()
        wrong = rng.permutation(len(mine))[: len(mine) // 10]
        other[wrong] = rng.permutation(other[wrong])
        rows.append((mine, other))
    return build_view_graph(
        Keypoints(np.concatenate(list(xy)), np.arange(6) * n, size),
        np.array(pairs),
        np.array([len(mine) for mine, _ in rows]),
        np.concatenate([mine + a * n for (a, _), (mine, _) in zip(pairs, rows, strict=True)]),
        np.concatenate([other + b * n for (_, b), (_, other) in zip(pairs, rows, strict=True)]),
    )


def _cell(position: np.ndarray, cell_px: float) -> tuple[int, int]:
    return int(position[1] // cell_px), int(position[0] // cell_px)


def plain_missing_ratio(graph: ViewGraph, edge: int, here: int) -> float:
    """Of one pair as one of its photos sees it, cell by cell."""
    photo, partner = graph.pairs[edge, here], graph.pairs[edge, 1 - here]
    rows = graph.match_rows(edge)
    row, row_there = (graph.row_a[rows], graph.row_b[rows]) if here == 0 else (graph.row_b[rows], graph.row_a[rows])
    real = np.zeros(len(graph.keypoints.xy), bool)
    real[np.concatenate(graph.matches())] = True
    points: list[dict[tuple[int, int], list[int]]] = []
    sides = []
    for p in (photo, partner):
        mine = [k for k in range(graph.keypoints.start[p], graph.keypoints.start[p + 1]) if real[k]]
        side, cells = graph.keypoints.size[p].max(), dict[tuple[int, int], list[int]]()
        low, high = np.quantile(graph.keypoints.xy[mine] / side, (0.05, 0.95), axis=0)
        sides.append(side / round(OPTIONS.grid_cells / np.clip((high - low).max() / 0.9, 0.1, 1.0)))
        for k in mine:
            cells.setdefault(_cell(graph.keypoints.xy[k], sides[-1]), []).append(k)
        points.append(cells)
    xy, xy_there = graph.keypoints.xy[row], graph.keypoints.xy[row_there]
    z, z_there = (c @ (1, 1j) for c in (xy - xy.mean(axis=0), xy_there - xy_there.mean(axis=0)))
    turn = (z.conj() @ z_there) / max((z.conj() @ z).real, 1e-9)
    hit, hit_there = ({_cell(p, s) for p in q} for q, s in ((xy, sides[0]), (xy_there, sides[1])))
    shown = missing = 0
    for cell, inside in points[0].items():
        if len(inside) < OPTIONS.min_cell_keypoints:
            continue
        centre = graph.keypoints.xy[inside].mean(axis=0)
        distance = np.linalg.norm(xy - centre, axis=1)
        near = np.argsort(distance)[: OPTIONS.extrapolation_neighbours]
        away = turn * ((centre - xy[near].mean(axis=0)) @ (1, 1j))
        seen_at = xy_there[near].mean(axis=0) + np.array([away.real, away.imag])
        if distance.min() >= OPTIONS.max_extrapolation * OPTIONS.grid_cells * sides[0]:
            continue
        if (seen_at <= 0).any() or (seen_at >= graph.keypoints.size[partner]).any():
            continue
        shown += 1
        line, column = _cell(seen_at, sides[1])
        around = [(line + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        few = sum(len(points[1].get(each, ())) for each in around) < OPTIONS.min_cell_keypoints
        missing += cell not in hit and not few and not any(each in hit_there for each in around)
    return missing / max(shown, 1)


@pytest.mark.parametrize("seed", range(4))
def test_all_pairs_at_once_are_as_cell_by_cell(seed: int) -> None:
    graph = random_collection(np.random.default_rng(seed))
    found, completeness = score_pairs(graph, replace(OPTIONS, missing_ratio_start=0.0, missing_ratio_full=100.0))
    slow = np.array([min(plain_missing_ratio(graph, edge, here) for here in (0, 1)) for edge in range(len(graph))])
    match_ratio = completeness * np.exp(slow / OPTIONS.missing_ratio_decay)
    np.testing.assert_allclose(found, slow * match_ratio / 100.0, atol=1e-12)
    assert np.count_nonzero(slow) > 3
