"""Averages over graphs: spanning trees, and values that most pairs agree upon."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from unposed.optim.pointmaps.pair_similarity import PairSimilarities
from unposed.optim.pointmaps.similarity_averaging import (
    average_similarities,
    cycle_consistency,
    robust_potentials,
)
from unposed.optim.rotations import exp_so3, rotation_angle_deg


def graph(photos: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """Random pairs, and a chain that connects everyone."""
    return np.array([p for p in combinations(range(photos), 2) if p[1] - p[0] == 1 or rng.random() < share])


def similarities(photos: int, pairs: np.ndarray, rng: np.random.Generator, wrong: float) -> tuple:
    turn, scale = exp_so3(rng.uniform(-2, 2, (photos, 3))), np.exp(0.4 * rng.standard_normal(photos))
    shift = rng.standard_normal((photos, 3))
    a, b = pairs.T
    back = turn[b].transpose(0, 2, 1)
    bad = rng.random(len(pairs)) < wrong
    rotation = np.where(bad[:, None, None], exp_so3(rng.uniform(-2, 2, (len(pairs), 3))), back @ turn[a])
    translation = np.einsum("eij,ej->ei", back, shift[a] - shift[b]) / scale[b, None]
    ones = np.ones(len(pairs))
    growth = np.where(bad, np.exp(rng.standard_normal(len(pairs))), 1.0)
    return turn, scale, shift, bad, PairSimilarities(growth * scale[a] / scale[b], rotation, translation, ones, ones)


def test_wrong_pairs_close_no_triangles() -> None:
    rng = np.random.default_rng(1)
    pairs = graph(20, 0.5, rng)
    _, _, _, bad, similar = similarities(20, pairs, rng, 0.2)
    consistency = cycle_consistency(20, pairs, similar)
    assert np.median(consistency[~bad]) > 4.0 * np.median(consistency[bad])


def test_similarities_of_all_photos_despite_wrong_pairs() -> None:
    rng = np.random.default_rng(2)
    pairs = graph(20, 0.6, rng)
    turn, scale, shift, bad, similar = similarities(20, pairs, rng, 0.3)
    assert bad.sum() > 20
    placed = average_similarities(20, pairs, similar, np.ones(len(pairs)))
    # The world is free up to a similarity: compare what photo 0 sees of the others.
    own, true = placed.rotation[0].T @ placed.rotation, turn[0].T @ turn
    assert rotation_angle_deg(own @ true.transpose(0, 2, 1)).max() < 0.1
    np.testing.assert_allclose(placed.scale / placed.scale[0], scale / scale[0], rtol=1e-3)
    own_shift = (placed.translation - placed.translation[0]) @ placed.rotation[0] / placed.scale[0]
    np.testing.assert_allclose(own_shift, (shift - shift[0]) @ turn[0] / scale[0], atol=0.02)


def test_potentials_that_most_differences_agree_upon() -> None:
    rng = np.random.default_rng(3)
    pairs = graph(30, 0.3, rng)
    value = rng.standard_normal((30, 3))
    value -= value.mean(axis=0)
    difference = value[pairs[:, 0]] - value[pairs[:, 1]]
    lies = rng.random(len(pairs)) < 0.25
    difference[lies] += rng.standard_normal((int(lies.sum()), 3))
    np.testing.assert_allclose(robust_potentials(30, pairs, difference, np.ones(len(pairs))), value, atol=1e-3)


def test_a_chain_is_followed_exactly() -> None:
    rng = np.random.default_rng(4)
    pairs = np.array([(0, 1), (1, 2), (2, 3)])
    turn, _, _, _, similar = similarities(4, pairs, rng, 0.0)
    placed = average_similarities(4, pairs, similar, np.ones(3))
    own, true = placed.rotation[0].T @ placed.rotation, turn[0].T @ turn
    np.testing.assert_allclose(own, true, atol=1e-9)
