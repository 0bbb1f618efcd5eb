"""Search for the hypothesis of least energy.

A wrong pair shows when a cycle of the view graph does not close: the rotations along it do not multiply to the identity
(Zach et al. 2010). The cycle does not say which of its pairs is wrong, and majorities mislead: two equal facades are
joined by many strong pairs, and each corner of the building by a few. So the search compares hypotheses about all
pairs at once, by an energy that counts clusters of inconsistent pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, product

import numpy as np

from ..arrays import Array, Mask
from ..mapping.spanning_forest import path
from .bipartition import consistent_under_bipartitions
from .edges import RelativeRotations, effective_resistance_weights, weighted_matches
from .forest_rotations import rotations_along_forest
from .hypothesis import CONSISTENT, Hypothesis, evaluate_forest, evaluate_hypothesis, left_out_pairs
from .options import DoppelgangerOptions

Move = Callable[[Hypothesis, RelativeRotations, DoppelgangerOptions], Iterator[Mask]]
"""From a hypothesis to sets (e,) of pairs that come first in the spanning forests of other ones."""


@dataclass(frozen=True, eq=False)
class SearchResult:
    """The hypothesis of least energy, and how far it is ahead."""

    best: Hypothesis
    rival_margin: float
    """Energy that the cheapest rival costs more: a hypothesis that keeps `rival_share` of what the best one leaves out,
    by weighted matches. Infinite where none was met. Two equal facades differ in their surroundings, so that their
    rivals cost much more; a can that is printed twice has a rival that is as likely."""


def initial_hypotheses(edges: RelativeRotations, options: DoppelgangerOptions) -> list[Hypothesis]:
    """Maximum spanning forests under several edge weights as hypotheses, the best one first; none without pairs."""
    if not len(edges.pairs):
        return []
    distinct = {
        (hypothesis.cluster != CONSISTENT).tobytes(): hypothesis
        for weight, max_missing_score in product(_weights(edges, options), (1.0, options.max_missing_score_forest))
        for hypothesis in [evaluate_hypothesis(edges, np.argsort(-weight, kind="stable"), max_missing_score, options)]
    }
    return sorted(distinct.values(), key=lambda hypothesis: hypothesis.cost)


def search_hypotheses(
    edges: RelativeRotations, initial: Sequence[Hypothesis], options: DoppelgangerOptions
) -> SearchResult:
    """The hypothesis of least energy among those tried: local search from every initial one, the best one first."""
    weights = weighted_matches(edges, options) * edges.match_completeness, effective_resistance_weights(edges, options)
    tried, costs = set[bytes](), {each.parent.tobytes(): each.cost for each in initial}
    met = [(each.cost, left_out_pairs(edges, each, options)) for each in initial]
    best = _improve(initial[0], edges, weights, (turn_parts, swap_edges), tried, costs, met, options)
    for other in initial[1:]:
        improved = _improve(other, edges, weights, (turn_parts,), tried, costs, met, options)
        best = min(best, improved, key=lambda hypothesis: hypothesis.cost)
    return SearchResult(best, _rival_margin(edges, best, met, options))


def _rival_margin(
    edges: RelativeRotations, best: Hypothesis, met: Sequence[tuple[float, Mask]], options: DoppelgangerOptions
) -> float:
    weight = weighted_matches(edges, options) * left_out_pairs(edges, best, options)
    least = options.rival_share * float(weight.sum())
    costs = [cost for cost, left_out in met if float(weight[~left_out].sum()) > least]
    return max(min(costs, default=float("inf")) - best.cost, 0.0)  # gains too small to be taken may lie below


def has_inconsistent_cluster(hypothesis: Hypothesis, edges: RelativeRotations, options: DoppelgangerOptions) -> bool:
    """Whether an inconsistent cluster is too large to be an accident."""
    return any(_largest_clusters(hypothesis, edges, options))


def _improve(
    best: Hypothesis,
    edges: RelativeRotations,
    weights: Sequence[Array],
    moves: Sequence[Move],
    tried: set[bytes],
    costs: dict[bytes, float],
    met: list[tuple[float, Mask]],
    options: DoppelgangerOptions,
) -> Hypothesis:
    """Take the first move that lowers the energy until none does; what was tried is added to `tried`, and costs and
    pairs (e,) left out of all hypotheses to `met`. `costs` are those of forests by their parents: half of the moves
    lead to a forest that was evaluated before."""
    while True:
        before = best
        for first in chain.from_iterable(move(before, edges, options) for move in moves):
            if len(tried) >= options.max_trials:
                return best
            if first.tobytes() in tried:
                continue
            tried.add(first.tobytes())
            for weight in weights:
                order = np.lexsort((-weight, ~first))
                forest = rotations_along_forest(edges, order, options.max_missing_score_forest, options)
                worth = best.cost - options.min_cost_gain
                if costs.get(forest.parent.tobytes(), -np.inf) >= worth:
                    continue
                new = evaluate_forest(edges, forest, options)
                costs[forest.parent.tobytes()] = new.cost
                met.append((new.cost, left_out_pairs(edges, new, options)))
                if new.cost < worth:
                    best = new
            if best is not before:
                break
        if best is before:
            return best


def _weights(edges: RelativeRotations, options: DoppelgangerOptions) -> list[Array]:
    """(e,) each, edge weights of the initial spanning forests; the last one is the walk, where there is one."""
    discounts = [np.where(edges.planar, options.planar_match_weight**power, 1.0) for power in options.planar_powers]
    plain = [discount * weight for discount, weight in product(discounts, (edges.match_ratio, edges.matches))]
    complete = [weight * edges.match_completeness for weight in plain]
    walk = [edges.matches + edges.walked * (edges.matches.max() + 1.0)] if edges.walked.any() else []
    return [*plain, *complete, effective_resistance_weights(edges, options), *walk]


def turn_parts(hypothesis: Hypothesis, edges: RelativeRotations, options: DoppelgangerOptions) -> Iterator[Mask]:
    """Pairs that are consistent if a part of the photos is turned as a large inconsistent cluster demands."""
    for rows in islice(_largest_clusters(hypothesis, edges, options), options.max_bipartition_clusters):
        yield from consistent_under_bipartitions(edges, hypothesis.rotations, rows, options)


def swap_edges(hypothesis: Hypothesis, edges: RelativeRotations, options: DoppelgangerOptions) -> Iterator[Mask]:
    """The spanning forest with one inconsistent pair in, and one edge of the cycle that it closes out.

    Of each large cluster the strongest pairs, and of the cycle the strongest edges first: the weak ones have been left
    out of other forests already.
    """
    pairs, weight = edges.pairs, weighted_matches(edges, options)
    row_of = {pair: row for row, pair in enumerate(map(tuple, pairs.tolist()))}
    in_forest = (hypothesis.parent[pairs] == pairs[:, ::-1]).any(axis=1)
    for rows in _largest_clusters(hypothesis, edges, options):
        for row in rows[: options.max_edges_per_cluster]:
            cycle = np.array([row_of[edge] for edge in path(hypothesis.parent, *pairs[row].tolist())], np.int64)
            for removed in cycle[np.argsort(-weight[cycle], kind="stable")].tolist():
                first = in_forest.copy()
                first[row], first[removed] = True, False
                yield first


def _largest_clusters(
    hypothesis: Hypothesis, edges: RelativeRotations, options: DoppelgangerOptions
) -> Iterator[list[int]]:
    """The rows of each inconsistent cluster of significant size, the largest cluster and its strongest row first."""
    weight = weighted_matches(edges, options)
    rows = np.flatnonzero(hypothesis.cluster >= 0)
    rows = rows[np.argsort(-weight[rows], kind="stable")]
    total = np.bincount(hypothesis.cluster[rows], weights=weight[rows])
    for cluster in np.argsort(-total, kind="stable"):
        if total[cluster] < options.min_cluster_matches:
            return
        yield rows[hypothesis.cluster[rows] == cluster].tolist()
