"""Made-up walks around a building, of rotations alone: true pairs of neighbours, false ones between equal fronts."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import networkx
import numpy as np
import pytest
from hypothesis import given, strategies as st

from unposed.optim.doppelgangers.capture_order import walked_pairs
from unposed.optim.doppelgangers.duplicates import is_duplicate
from unposed.optim.doppelgangers.edges import RelativeRotations, effective_resistance_weights
from unposed.optim.doppelgangers.forest_rotations import Forest, averaged_rotations, rotations_along_forest
from unposed.optim.doppelgangers.hypothesis import (
    CONSISTENT,
    Hypothesis,
    evaluate_forest,
    evaluate_hypothesis,
    lost_neighbour_penalty,
)
from unposed.optim.doppelgangers.options import DoppelgangerOptions
from unposed.optim.doppelgangers.search import has_inconsistent_cluster, initial_hypotheses, search_hypotheses
from unposed.optim.mapping.spanning_forest import joined_otherwise, ranks, rooted
from unposed.optim.rotations import exp_so3, nearest_rotation, rotation_residuals_deg

OPTIONS = DoppelgangerOptions()


def walk(
    photos: int = 24, false_matches: float = 150.0, noise_deg: float = 0.5, focal_error: float = 0.0, seed: int = 0
) -> tuple[RelativeRotations, np.ndarray]:
    """Once around, with pairs of up to two places apart; and which pairs are true. Every photo of the front is also
    matched with those of the back that see it alike."""
    rng = np.random.default_rng(seed)
    step = 360.0 / photos
    heading = np.arange(photos) * step
    rows = [(i, (i + k) % photos, k * step * (1.0 + focal_error), 100.0 / k) for i in range(photos) for k in (1, 2)]
    true = len(rows)
    fronts = [np.flatnonzero(np.abs((heading - middle + 180) % 360 - 180) < 50) for middle in (90.0, 270.0)]
    for a, b in product(*fronts) if false_matches else ():
        apart = float(heading[b] - heading[a]) - 180.0
        if abs(apart) < 3.5 * step:
            rows.append((int(a), int(b), apart, false_matches / (1 + abs(apart) / step)))
    pairs = np.array([(a, b) for a, b, _, _ in rows])
    turn = np.radians([angle for _, _, angle, _ in rows])[:, None] * np.array([0.0, 1.0, 0.0])
    b_from_a = exp_so3(turn + np.radians(noise_deg) * rng.normal(size=(len(rows), 3)))
    swapped = pairs[:, 0] > pairs[:, 1]
    pairs[swapped] = pairs[swapped, ::-1]
    b_from_a[swapped] = b_from_a[swapped].transpose(0, 2, 1)
    matches = np.array([strength for *_, strength in rows])
    nothing = np.zeros(len(rows))
    return (
        RelativeRotations(
            photos, pairs, b_from_a, matches, matches / 1000.0, nothing > 0, nothing, nothing + 0.5, nothing > 0
        ),
        np.arange(len(rows)) < true,
    )


def searched(edges: RelativeRotations) -> Hypothesis:
    return search_hypotheses(edges, initial_hypotheses(edges, OPTIONS), OPTIONS).best


def consistent(hypothesis: Hypothesis) -> np.ndarray:
    return np.asarray(hypothesis.cluster == CONSISTENT)


def test_a_rival_comes_closer_the_more_matches_the_doppelgangers_have() -> None:
    """Until it wins; then the right reading, which keeps what was left out, is as likely as the wrong one."""
    margins = []
    for false_matches in (0.0, 40.0, 60.0, 100.0, 150.0):
        edges, true = walk(false_matches=false_matches)
        found = search_hypotheses(edges, initial_hypotheses(edges, OPTIONS), OPTIONS)
        assert (consistent(found.best) == true).all() == (false_matches < 120.0)
        margins.append(found.rival_margin)
    assert margins[0] == np.inf
    assert margins == sorted(margins, reverse=True)
    assert margins[2] > 0.3 > margins[3] > 0.1 > margins[4]
    single = replace(OPTIONS, rival_share=1.0)
    edges, _ = walk(false_matches=100.0)
    assert search_hypotheses(edges, initial_hypotheses(edges, single), single).rival_margin == np.inf


@pytest.mark.parametrize("shuffled", [False, True])
def test_the_order_of_capture_outvotes_doppelgangers_of_more_matches(shuffled: bool) -> None:
    """Up to half more matches than neighbours have; and names in any other order change nothing."""
    order = np.random.default_rng(0).permutation(24) if shuffled else np.arange(24)
    for false_matches in (100.0, 150.0):
        edges, true = walk(false_matches=false_matches)
        walked = walked_pairs(24, edges.pairs, edges.matches, order, OPTIONS)
        assert walked.sum() == (0 if shuffled else 23)
        ordered = replace(edges, walked=walked)
        found, without = (
            search_hypotheses(each, initial_hypotheses(each, OPTIONS), OPTIONS) for each in (ordered, edges)
        )
        if shuffled:
            np.testing.assert_array_equal(found.best.cluster, without.best.cluster)
            assert found.rival_margin == without.rival_margin
        else:
            np.testing.assert_array_equal(consistent(found.best), true)
            assert found.rival_margin > without.rival_margin + 0.5


@pytest.mark.parametrize(
    ("photos", "pairs"), [(2, [[0, 1]]), (4, [[0, 1], [1, 2], [2, 3]]), (5, np.zeros((0, 2), int))]
)
def test_few_photos_have_no_order_that_tells(photos: int, pairs: list[list[int]]) -> None:
    edges = np.array(pairs)
    assert not walked_pairs(photos, edges, np.full(len(edges), 100.0), np.arange(photos), OPTIONS).any()


@pytest.mark.parametrize("ends", [1, 2])
def test_rotations_stay_rotations_when_400_photos_are_joined_in_the_worst_order(ends: int) -> None:
    """With one end all photos are joined with the last one, with two ends the tree is a chain that grows at both."""
    photos, rng = 400, np.random.default_rng(0)
    pairs = np.array([(i, min(i + ends, photos - 1) if ends > 1 else photos - 1) for i in range(photos - 1)])
    true = exp_so3(rng.normal(size=(photos, 3)))
    b_from_a = true[pairs[:, 1]] @ true[pairs[:, 0]].transpose(0, 2, 1)
    matches, nothing = np.full(photos - 1, 100.0), np.zeros(photos - 1)
    edges = RelativeRotations(
        photos, pairs, b_from_a, matches, matches / 500.0, nothing > 0, nothing, nothing + 0.5, nothing > 0
    )
    order = np.arange(photos - 1)[::-1]
    rotations = rotations_along_forest(edges, order, 1.0, OPTIONS).rotations
    assert np.abs(rotations @ rotations.transpose(0, 2, 1) - np.eye(3)).max() < 1e-12
    assert rotation_residuals_deg(pairs, b_from_a, rotations).max() < 1e-9
    assert not has_inconsistent_cluster(evaluate_hypothesis(edges, order, 1.0, OPTIONS), edges, OPTIONS)


def test_rotations_stay_rotations_when_trees_of_equal_size_are_joined() -> None:
    """Rounding errors of both trees enter at every join, and triple with every level."""
    levels, rng = 12, np.random.default_rng(0)
    photos = 2**levels
    ends = [np.arange(0, photos, 2 ** (level + 1)) for level in range(levels)]
    rows = [
        np.stack([end, end + 2**level], 1) + rng.integers(0, 2**level, (len(end), 2)) for level, end in enumerate(ends)
    ]
    pairs = np.concatenate(rows)
    true = exp_so3(rng.normal(size=(photos, 3)))
    b_from_a = true[pairs[:, 1]] @ true[pairs[:, 0]].transpose(0, 2, 1)
    matches, nothing = np.full(photos - 1, 100.0), np.zeros(photos - 1)
    edges = RelativeRotations(
        photos, pairs, b_from_a, matches, matches / 500.0, nothing > 0, nothing, nothing + 0.5, nothing > 0
    )
    rotations = rotations_along_forest(edges, np.arange(photos - 1), 1.0, OPTIONS).rotations
    assert np.abs(rotations @ rotations.transpose(0, 2, 1) - np.eye(3)).max() < 1e-13


@pytest.mark.parametrize("false_matches", [40.0, 60.0])
@pytest.mark.parametrize("seed", range(2))
def test_many_pairs_between_two_fronts_do_not_outvote_the_corners(false_matches: float, seed: int) -> None:
    edges, true = walk(false_matches=false_matches, seed=seed)
    corner = edges.matches[(edges.pairs < 12).any(axis=1) & (edges.pairs >= 12).any(axis=1) & true]
    assert edges.matches[~true].sum() > 1.5 * corner.sum()
    hypothesis = searched(edges)
    np.testing.assert_array_equal(consistent(hypothesis), true)
    assert len(np.unique(hypothesis.cluster[~true])) == 1  # however many pairs, they form one cluster


@pytest.mark.parametrize("false_matches", [150.0, 310.0])
def test_look_alikes_are_one_cluster_where_five_are_stronger_than_any_neighbour(false_matches: float) -> None:
    edges, true = walk(false_matches=false_matches)
    right = evaluate_hypothesis(edges, np.lexsort((-edges.matches, ~true)), 1.0, OPTIONS)
    assert np.unique(right.cluster[~true]).tolist() == [0]
    assert (right.cluster[true] == CONSISTENT).all()


def test_a_flat_look_alike_that_is_stronger_than_anything_true() -> None:
    edges, true = walk(false_matches=150.0)
    edges.planar[~true] = True
    np.testing.assert_array_equal(consistent(searched(edges)), true)


def test_of_ways_that_turn_equally_well_the_one_that_keeps_likely_pairs() -> None:
    """A triangle of three pairs, of which one is turned: any of them could be the one."""
    pairs, nothing = np.array([[0, 1], [1, 2], [0, 2]]), np.zeros(3)
    b_from_a = exp_so3(np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 2.0, 0.0]]))
    matches, completeness = np.full(3, 120.0), np.array([0.5, 0.2, 0.6])
    edges = RelativeRotations(
        3, pairs, b_from_a, matches, matches / 500.0, nothing > 0, nothing, completeness, nothing > 0
    )
    ways = [evaluate_hypothesis(edges, np.roll(np.arange(3), -1 - left_out), 1.0, OPTIONS) for left_out in range(3)]
    assert [np.flatnonzero(~consistent(way)).tolist() for way in ways] == [[0], [1], [2]]
    assert np.argsort([way.cost for way in ways]).tolist() == np.argsort(completeness).tolist() == [1, 0, 2]
    np.testing.assert_array_equal(consistent(searched(edges)), [True, False, True])


def test_best_partners_are_not_given_up_lightly() -> None:
    pairs, matches = np.array([[0, 1], [0, 2], [1, 2]]), np.array([100.0, 80.0, 30.0])
    same, nothing = np.tile(np.eye(3), (3, 1, 1)), np.zeros(3)
    edges = RelativeRotations(
        4, pairs, same, matches, matches / 200.0, nothing > 0, nothing, nothing + 0.5, nothing > 0
    )
    no_pair, first, every = np.zeros(3, bool), np.arange(3) == 0, np.ones(3, bool)
    np.testing.assert_allclose(lost_neighbour_penalty(edges, no_pair, OPTIONS), 0.0)
    # Photo 0 has one that is nearly as good, photo 1 keeps 30 matches of 100, photo 2 its best, photo 3 never had any.
    np.testing.assert_allclose(lost_neighbour_penalty(edges, first, OPTIONS), [0.0, (0.7 - 1 / 3) / (2 / 3), 0.0, 0.0])
    np.testing.assert_allclose(lost_neighbour_penalty(edges, every, OPTIONS), [1.0, 1.0, 1.0, 0.0])


def test_nothing_is_amiss_with_an_ordinary_walk() -> None:
    edges, _ = walk(false_matches=0.0)
    hypothesis = searched(edges)
    assert consistent(hypothesis).all()
    assert hypothesis.cost == 0.0
    assert not has_inconsistent_cluster(hypothesis, edges, OPTIONS)
    assert has_inconsistent_cluster(searched(walk()[0]), walk()[0], OPTIONS)


def test_a_ring_that_does_not_quite_close_is_no_contradiction() -> None:
    """A focal length that is wrong by a fifth turns every pair too far."""
    edges, _ = walk(false_matches=0.0, focal_error=0.2)
    assert consistent(searched(edges)).all()


def test_single_false_pairs_are_contradicted_and_cost_little() -> None:
    edges, _ = walk(false_matches=0.0)
    far = RelativeRotations(
        edges.photos,
        np.vstack([edges.pairs, [[3, 15], [5, 20]]]),
        np.concatenate([edges.b_from_a, exp_so3(np.array([[1.0, 0.2, 0.0], [0.0, 0.3, 1.9]]))]),
        np.append(edges.matches, [20.0, 25.0]),
        np.append(edges.match_ratio, [0.02, 0.02]),
        np.append(edges.planar, [False, False]),
        np.append(edges.missing_score, [0.0, 0.0]),
        np.append(edges.match_completeness, [0.5, 0.5]),
        np.append(edges.walked, [False, False]),
    )
    hypothesis = searched(far)
    assert np.flatnonzero(~consistent(hypothesis)).tolist() == [len(far.pairs) - 2, len(far.pairs) - 1]
    assert hypothesis.cost < 0.2


@given(st.integers(2, 12), st.data())
def test_rooted_forests(photos: int, data: st.DataObject) -> None:
    possible = [(i, j) for i in range(photos) for j in range(i + 1, photos)]
    pairs = np.array(data.draw(st.lists(st.sampled_from(possible), unique=True)), int).reshape(-1, 2)
    parent, depth, tree = rooted(photos, pairs)
    graph = networkx.Graph(map(tuple, pairs.tolist()))
    graph.add_nodes_from(range(photos))
    for photo in range(photos):
        assert photo == parent[photo] or graph.has_edge(photo, int(parent[photo]))
        assert depth[photo] == (0 if parent[photo] == photo else depth[parent[photo]] + 1)
    parts = {frozenset(part) for part in networkx.connected_components(graph)}
    assert {frozenset(np.flatnonzero(tree == t).tolist()) for t in np.unique(tree)} == parts


def test_a_forest_has_the_parents_of_the_general_search() -> None:
    edges, _ = walk()
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(edges.pairs))[: 10 + 8 * seed]  # some leave several trees
        forest = rotations_along_forest(edges, order, 1.0, OPTIONS)
        joined = np.array(
            [
                pair
                for pair in edges.pairs.tolist()
                if forest.parent[pair[0]] == pair[1] or forest.parent[pair[1]] == pair[0]
            ]
        )
        parent, depth, _ = rooted(edges.photos, joined)
        np.testing.assert_array_equal(forest.parent, parent)
        np.testing.assert_array_equal(forest.depth, depth)


def test_averaging_is_the_weighted_mean_of_what_neighbours_say() -> None:
    edges, true = walk(noise_deg=3.0)
    edges.matches[:] *= np.random.default_rng(0).uniform(0.2, 2.0, len(edges.matches))
    start = exp_so3(0.1 * np.random.default_rng(1).normal(size=(edges.photos, 3)))
    expected = start
    for _ in range(OPTIONS.averaging_sweeps):
        total = 0.5 * OPTIONS.significant_matches * expected
        for row in np.flatnonzero(true).tolist():
            (a, b), turn = edges.pairs[row].tolist(), edges.b_from_a[row]
            weight = min(edges.matches[row], OPTIONS.significant_matches)
            total[b] += weight * turn @ expected[a]
            total[a] += weight * turn.T @ expected[b]
        expected = nearest_rotation(total)
    np.testing.assert_allclose(averaged_rotations(edges, true, start, OPTIONS), expected, atol=1e-12)
    np.testing.assert_array_equal(averaged_rotations(edges, true & False, start, OPTIONS), start)


def test_no_forest_is_evaluated_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless it is taken: half of the moves lead to a forest that another one led to."""
    edges, _ = walk(false_matches=100.0)
    seen: list[bytes] = []

    def watched(edges: RelativeRotations, forest: Forest, options: DoppelgangerOptions) -> Hypothesis:
        seen.append(forest.parent.tobytes())
        return evaluate_forest(edges, forest, options)

    monkeypatch.setattr("unposed.optim.doppelgangers.search.evaluate_forest", watched)
    searched(edges)
    assert len(seen) > 20
    assert len(set(seen)) == len(seen)


def test_pairs_that_others_join() -> None:
    kept = np.array([[0, 1], [1, 2], [0, 2], [4, 5]])  # a cycle, and a part of two
    pairs = np.array([[0, 1], [0, 2], [2, 4], [5, 4], [3, 0]])
    assert joined_otherwise(6, kept, pairs).tolist() == [True, True, False, True, False]
    assert not joined_otherwise(6, kept[:0], pairs).any()


def test_ranks_count_the_stronger_pairs_of_either_photo() -> None:
    found = ranks(np.array([[0, 1], [0, 2], [1, 2]]), np.array([5.0, 7.0, 6.0]))
    assert found.tolist() == [[1, 0, 0], [1, 0, 1]]


def test_one_image_twice_whatever_its_size() -> None:
    rng = np.random.default_rng(0)
    xy = rng.uniform(0, (800, 600), (60, 2))
    half = xy / 2 + rng.normal(0, 0.2, xy.shape)
    assert is_duplicate(xy, xy, (800, 600), (800, 600), OPTIONS)
    assert is_duplicate(xy, half, (800, 600), (400, 300), OPTIONS)
    assert not is_duplicate(xy, xy + 3.0, (800, 600), (800, 600), OPTIONS)  # another photo, from the same tripod
    assert not is_duplicate(xy[:10], xy[:10], (800, 600), (800, 600), OPTIONS)
    strip = xy * (1.0, 0.3) + (0.0, 420.0)  # the bonnet of a car
    assert not is_duplicate(strip, strip, (800, 600), (800, 600), OPTIONS)


@pytest.mark.parametrize("false_matches", [40.0, 60.0, 150.0])
def test_large_collections_are_searched_by_sparse_matrices(false_matches: float) -> None:
    """Resistances are estimated there, and parts found by sparse solvers; the result is the same."""
    edges, true = walk(false_matches=false_matches)
    edges.planar[~true] = false_matches > 100.0
    sparse = DoppelgangerOptions(max_dense_photos=0)
    best = search_hypotheses(edges, initial_hypotheses(edges, sparse), sparse).best
    np.testing.assert_array_equal(consistent(best), true)


def test_estimated_effective_resistances() -> None:
    """A bridge is certain to be in a spanning tree; a second component changes nothing."""
    ring, _ = walk(false_matches=0.0)
    edges = RelativeRotations(
        30,
        np.vstack([ring.pairs, [[0, 24], [26, 27]]]),
        np.concatenate([ring.b_from_a, np.tile(np.eye(3), (2, 1, 1))]),
        *(np.append(x, x[:2]) for x in (ring.matches, ring.match_ratio, ring.planar)),
        *(np.append(x, x[:2]) for x in (ring.missing_score, ring.match_completeness, ring.walked)),
    )
    exact = effective_resistance_weights(edges, OPTIONS)
    many = DoppelgangerOptions(max_dense_photos=0, resistance_projections=4000)
    np.testing.assert_allclose(exact[-2:], 1.0, rtol=1e-5)
    np.testing.assert_allclose(effective_resistance_weights(edges, many), exact, rtol=0.12)


def test_unlikely_pairs_stay_out_of_the_forest_and_no_trials_means_no_search() -> None:
    """`max_missing_score_forest` keeps pairs out of the spanning forest, and `max_trials` ends the search."""
    edges, true = walk(false_matches=60.0)
    first = initial_hypotheses(edges, DoppelgangerOptions(planar_powers=()))[0]
    unsearched = search_hypotheses(edges, [first], DoppelgangerOptions(max_trials=0))
    assert unsearched.best is first
    assert unsearched.rival_margin == np.inf
    suspicious = replace(edges, missing_score=np.where(true, 0.0, 0.5))
    order = np.argsort(-edges.matches * np.where(true, 1.0, 100.0), kind="stable")
    kept_out = evaluate_hypothesis(suspicious, order, 0.4, OPTIONS)
    np.testing.assert_array_equal(consistent(kept_out), true)
    assert not consistent(evaluate_hypothesis(suspicious, order, 1.0, OPTIONS))[true].all()
