"""Made-up walks around a building, of rotations alone: true pairs of neighbours, false ones between equal fronts."""

from __future__ import annotations

from itertools import product

import networkx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unposed.optim.doppelgangers.duplicates import same_picture
from unposed.optim.doppelgangers.hypothesis import (
    BELIEVED,
    SPARED,
    Hypothesis,
    RelativeRotations,
    _bereft,
    _grown,
    evaluate_hypothesis,
)
from unposed.optim.doppelgangers.search import has_inconsistent_cluster, initial_hypotheses, search_hypotheses
from unposed.optim.mapping.spanning_forest import ranks, rooted
from unposed.optim.rotations import exp_so3, rotation_residuals_deg


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
        RelativeRotations(photos, pairs, b_from_a, matches, matches / 1000.0, nothing > 0, nothing, nothing + 0.5),
        np.arange(len(rows)) < true,
    )


def searched(relations: RelativeRotations) -> Hypothesis:
    return search_hypotheses(relations, initial_hypotheses(relations))


def believed(beliefs: Hypothesis) -> np.ndarray:
    return np.asarray(beliefs.claim == BELIEVED)


@pytest.mark.parametrize("ends", [1, 2])
def test_rotations_stay_rotations_when_400_photos_are_joined_in_the_worst_order(ends: int) -> None:
    """The larger tree is turned at every join, by a photo that has been turned before: its rounding error enters twice.
    With one end all photos are joined with the last one, with two ends the tree is a chain that grows at both."""
    photos, rng = 400, np.random.default_rng(0)
    pairs = np.array([(i, min(i + ends, photos - 1) if ends > 1 else photos - 1) for i in range(photos - 1)])
    true = exp_so3(rng.normal(size=(photos, 3)))
    b_from_a = true[pairs[:, 1]] @ true[pairs[:, 0]].transpose(0, 2, 1)
    matches, nothing = np.full(photos - 1, 100.0), np.zeros(photos - 1)
    relations = RelativeRotations(
        photos, pairs, b_from_a, matches, matches / 500.0, nothing > 0, nothing, nothing + 0.5
    )
    order = np.arange(photos - 1)[::-1]
    rotations, _, _ = _grown(relations, order, veto=1.0)
    assert np.abs(rotations @ rotations.transpose(0, 2, 1) - np.eye(3)).max() < 1e-12
    assert rotation_residuals_deg(pairs, b_from_a, rotations).max() < 1e-9
    assert not has_inconsistent_cluster(evaluate_hypothesis(relations, order, 1.0), relations)


@pytest.mark.parametrize("false_matches", [40.0, 60.0])
@pytest.mark.parametrize("seed", range(2))
def test_many_pairs_between_two_fronts_do_not_outvote_the_corners(false_matches: float, seed: int) -> None:
    relations, true = walk(false_matches=false_matches, seed=seed)
    corner = relations.strength[(relations.pairs < 12).any(axis=1) & (relations.pairs >= 12).any(axis=1) & true]
    assert relations.strength[~true].sum() > 1.5 * corner.sum()
    beliefs = searched(relations)
    np.testing.assert_array_equal(believed(beliefs), true)
    assert len(np.unique(beliefs.claim[~true])) == 1  # however many pairs, it is one claim


def test_a_flat_look_alike_that_is_stronger_than_anything_true() -> None:
    relations, true = walk(false_matches=150.0)
    relations.flat[~true] = True
    np.testing.assert_array_equal(believed(searched(relations)), true)


def test_of_ways_that_turn_equally_well_the_one_that_keeps_likely_pairs() -> None:
    """A triangle of three pairs, of which one is turned: any of them could be the one."""
    pairs, nothing = np.array([[0, 1], [1, 2], [0, 2]]), np.zeros(3)
    b_from_a = exp_so3(np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 2.0, 0.0]]))
    matches, likeness = np.full(3, 120.0), np.array([0.5, 0.2, 0.6])
    relations = RelativeRotations(3, pairs, b_from_a, matches, matches / 500.0, nothing > 0, nothing, likeness)
    ways = [evaluate_hypothesis(relations, np.roll(np.arange(3), -1 - left_out), 1.0) for left_out in range(3)]
    assert [np.flatnonzero(~believed(way)).tolist() for way in ways] == [[0], [1], [2]]
    assert np.argsort([way.cost for way in ways]).tolist() == np.argsort(likeness).tolist() == [1, 0, 2]
    np.testing.assert_array_equal(believed(searched(relations)), [True, False, True])


def test_best_partners_are_not_given_up_lightly() -> None:
    pairs, matches = np.array([[0, 1], [0, 2], [1, 2]]), np.array([100.0, 80.0, 30.0])
    same, nothing = np.tile(np.eye(3), (3, 1, 1)), np.zeros(3)
    relations = RelativeRotations(4, pairs, same, matches, matches / 200.0, nothing > 0, nothing, nothing + 0.5)
    no_pair, first, every = np.zeros(3, bool), np.arange(3) == 0, np.ones(3, bool)
    np.testing.assert_allclose(_bereft(relations, no_pair), 0.0)
    # Photo 0 has one that is nearly as good, photo 1 keeps 30 matches of 100, photo 2 its best, photo 3 never had any.
    np.testing.assert_allclose(_bereft(relations, first), [0.0, (0.7 - SPARED) / (1.0 - SPARED), 0.0, 0.0])
    np.testing.assert_allclose(_bereft(relations, every), [1.0, 1.0, 1.0, 0.0])


def test_nothing_is_amiss_with_an_ordinary_walk() -> None:
    relations, _ = walk(false_matches=0.0)
    beliefs = searched(relations)
    assert believed(beliefs).all()
    assert beliefs.cost == 0.0
    assert not has_inconsistent_cluster(beliefs, relations)
    assert has_inconsistent_cluster(searched(walk()[0]), walk()[0])


def test_a_ring_that_does_not_quite_close_is_no_contradiction() -> None:
    """A focal length that is wrong by a fifth turns every pair too far."""
    relations, _ = walk(false_matches=0.0, focal_error=0.2)
    assert believed(searched(relations)).all()


def test_single_false_pairs_are_contradicted_and_cost_little() -> None:
    relations, _ = walk(false_matches=0.0)
    far = RelativeRotations(
        relations.photos,
        np.vstack([relations.pairs, [[3, 15], [5, 20]]]),
        np.concatenate([relations.b_from_a, exp_so3(np.array([[1.0, 0.2, 0.0], [0.0, 0.3, 1.9]]))]),
        np.append(relations.matches, [20.0, 25.0]),
        np.append(relations.share, [0.02, 0.02]),
        np.append(relations.flat, [False, False]),
        np.append(relations.suspicion, [0.0, 0.0]),
        np.append(relations.likeness, [0.5, 0.5]),
    )
    beliefs = searched(far)
    assert np.flatnonzero(~believed(beliefs)).tolist() == [len(far.pairs) - 2, len(far.pairs) - 1]
    assert beliefs.cost < 0.2


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


def test_ranks_count_the_stronger_pairs_of_either_photo() -> None:
    found = ranks(np.array([[0, 1], [0, 2], [1, 2]]), np.array([5.0, 7.0, 6.0]))
    assert found.tolist() == [[1, 0, 0], [1, 0, 1]]


def test_one_picture_twice_whatever_its_size() -> None:
    rng = np.random.default_rng(0)
    xy = rng.uniform(0, (800, 600), (60, 2))
    half = xy / 2 + rng.normal(0, 0.2, xy.shape)
    assert same_picture(xy, xy, (800, 600), (800, 600))
    assert same_picture(xy, half, (800, 600), (400, 300))
    assert not same_picture(xy, xy + 3.0, (800, 600), (800, 600))  # another photo, from the same tripod
    assert not same_picture(xy[:10], xy[:10], (800, 600), (800, 600))
    strip = xy * (1.0, 0.3) + (0.0, 420.0)  # the bonnet of a car
    assert not same_picture(strip, strip, (800, 600), (800, 600))
