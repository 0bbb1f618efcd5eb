"""Pairs that match but cannot all be right: two fronts of a building that look the same, and the like.

A wrong relation between two parts of a collection shows when something leads around: the rotations along a closed
chain of pairs do not return to where they began. Which of its pairs is wrong, the chain does not say, and votes
mislead: two equal fronts are joined by many strong pairs, and each corner of the building by a few. So coincidences are
counted instead. All pairs that relate the same two places by the same turn are one claim, however many they are, and
of several ways to believe the pairs the one is taken that leaves the fewest claims contradicted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice, product

import numpy as np
from numpy.typing import NDArray

from ..mapping.spanning_forest import path
from .bipartition import bipartitions
from .hypothesis import BELIEVED, CERTAIN, FLAT, VETO, Hypothesis, RelativeRotations, evaluate_hypothesis

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Move = Callable[[Hypothesis, RelativeRotations], Iterator[Mask]]

WORTH_A_TRIAL = 0.7 * CERTAIN
"""Claims of fewer matches stay contradicted without further ado."""

GAIN = 0.02
"""By how much fewer coincidences another way to believe the pairs is preferred."""

STRONGEST = 3
"""Claims that photos are parted by, and pairs of a claim that are tried, one by one: not all need to be right or wrong
together."""

MOST_PHOTOS = 1500
"""Beyond, a dense matrix of all of them is too much to invert or decompose."""


def initial_hypotheses(relations: RelativeRotations) -> list[Hypothesis]:
    """Ways to believe the pairs along trees of the strongest ones, in several senses of the word; the best first, and
    none where there is no pair."""
    if not len(relations.pairs):
        return []
    begun = {
        (beliefs.claim != BELIEVED).tobytes(): beliefs
        for weight, veto in product(_weights(relations), (1.0, VETO))
        for beliefs in [evaluate_hypothesis(relations, np.argsort(-weight, kind="stable"), veto)]
    }
    return sorted(begun.values(), key=lambda beliefs: beliefs.cost)


def search_hypotheses(relations: RelativeRotations, begun: Sequence[Hypothesis], trials: int = 300) -> Hypothesis:
    """The way to believe the pairs that leaves least to coincidence, as far as was tried.

    Gives other pairs the precedence for as long as that helps: first from the best beginning, then from every other.
    """
    tried = set[bytes]()
    best = _improved(begun[0], relations, (_parted, _other_ways), tried, trials)
    for beliefs in begun[1:]:
        best = min(best, _improved(beliefs, relations, (_parted,), tried, trials), key=lambda beliefs: beliefs.cost)
    return best


def has_inconsistent_cluster(beliefs: Hypothesis, relations: RelativeRotations) -> bool:
    """Whether any claim is that could not be an accident."""
    return any(_largest_claims(beliefs, relations))


def _improved(
    best: Hypothesis, relations: RelativeRotations, moves: tuple[Move, ...], tried: set[bytes], trials: int
) -> Hypothesis:
    """What giving other pairs the precedence makes of these beliefs; adds to `tried`."""
    orders = relations.strength * relations.likeness, _needed(relations)
    while True:
        before = best
        for first in chain.from_iterable(move(before, relations) for move in moves):
            if len(tried) >= trials:
                return best
            if first.tobytes() in tried:
                continue
            tried.add(first.tobytes())
            for weight in orders:
                new = evaluate_hypothesis(relations, np.lexsort((-weight, ~first)), VETO)
                if new.cost < best.cost - GAIN:
                    best = new
            if best is not before:
                break
        if best is before:
            return best


def _weights(relations: RelativeRotations) -> list[Array]:
    """(e,) each, by which pairs come first."""
    flat = [np.where(relations.flat, FLAT**power, 1.0) for power in (1, 2, 3)]
    plain = [discount * weight for discount, weight in product(flat, (relations.share, relations.matches))]
    return [*plain, *(weight * relations.likeness for weight in plain), _needed(relations)]


def _needed(relations: RelativeRotations) -> Array:
    """(e,) how much the connection of its photos rests on each pair: 1 if there is no way around it, little where
    many do the same. The few pairs at the corner of a building come before the many between two equal fronts."""
    weight = relations.strength * relations.likeness * (1.0 - relations.suspicion) + 1e-6
    if relations.photos > MOST_PHOTOS:
        return weight
    a, b = relations.pairs.T
    laplacian = np.zeros((relations.photos, relations.photos))
    np.add.at(laplacian, (a, b), -weight)
    laplacian += laplacian.T
    laplacian[np.diag_indices(relations.photos)] = -laplacian.sum(axis=1)
    inverse = np.linalg.pinv(laplacian, hermitian=True)
    resistance: Array = inverse[a, a] + inverse[b, b] - 2.0 * inverse[a, b]
    return weight * resistance


def _parted(beliefs: Hypothesis, relations: RelativeRotations) -> Iterator[Mask]:
    """Pairs to give precedence to: those that hold when a part of the photos is turned as a large claim says."""
    if relations.photos <= MOST_PHOTOS:
        for rows in islice(_largest_claims(beliefs, relations), STRONGEST):
            yield from bipartitions(relations, beliefs.rotations, rows)


def _largest_claims(beliefs: Hypothesis, relations: RelativeRotations) -> Iterator[list[int]]:
    """The rows of each claim that is worth a trial, largest claim and strongest row first."""
    strength = relations.strength
    rows = np.flatnonzero(beliefs.claim >= 0)
    rows = rows[np.argsort(-strength[rows], kind="stable")]
    total = np.bincount(beliefs.claim[rows], weights=strength[rows])
    for claim in np.argsort(-total, kind="stable"):
        if total[claim] < WORTH_A_TRIAL:
            return
        yield rows[beliefs.claim[rows] == claim].tolist()


def _other_ways(beliefs: Hypothesis, relations: RelativeRotations) -> Iterator[Mask]:
    """Pairs to give the precedence to: one that is contradicted, and the tree that contradicts it but for one link.

    The largest claims come first, each by its strongest pairs, and of the chain the strongest links: the weak ones
    have given way already.
    """
    pairs, strength = relations.pairs, relations.strength
    row_of = {pair: row for row, pair in enumerate(map(tuple, pairs.tolist()))}
    in_tree = (beliefs.parent[pairs] == pairs[:, ::-1]).any(axis=1)
    for rows in _largest_claims(beliefs, relations):
        for row in rows[:STRONGEST]:
            links = np.array([row_of[link] for link in path(beliefs.parent, *pairs[row].tolist())], np.int64)
            for weak in links[np.argsort(-strength[links], kind="stable")].tolist():
                first = in_tree.copy()
                first[row], first[weak] = True, False
                yield first
