"""How often a candidate focal length is mapped again, and which candidates say enough before they are done."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from unposed.optim.bundle.intrinsics import Intrinsics
from unposed.optim.mapping.focal_search import Enough, FocalSearch, evaluate_repeatedly, search_focals
from unposed.optim.mapping.global_mapper import CoarseModel
from unposed.optim.mapping.intrinsics_search_options import IntrinsicsSearchOptions

Make = Callable[..., Any]
TRUE_PX = 1500.0


def searched(
    collection: Make, mapped: Callable[[float, int], tuple[float, float]], **options: Any
) -> tuple[FocalSearch, list[tuple[int, float]]]:
    """The outcome of a search in which a candidate focal length, under its number, gives a focal length and a cost; and
    what was mapped."""
    world = collection(photos=3)
    start, tried = world.initial_intrinsics(), list[tuple[int, float]]()
    settings = IntrinsicsSearchOptions(**options)

    def evaluate(candidate: Intrinsics, number: int, enough: Enough) -> CoarseModel | None:
        def once(intrinsics: Intrinsics) -> CoarseModel:
            focal = float(intrinsics.values[0, 0])
            tried.append((number, focal))
            found, cost = mapped(focal, number)
            bundle = replace(world.bundle(), intrinsics=intrinsics.with_focals(np.full(1, found)).values)
            return CoarseModel(bundle, np.zeros(0, np.int64), np.zeros(0), cost)

        return evaluate_repeatedly(once, candidate, settings, enough)

    known = np.zeros(1, bool)
    return search_focals(evaluate, start, known, world.graph.keypoints, start.values[:, 0], settings), tried


def test_a_candidate_that_arrives_at_the_best_solution_is_not_mapped_again(collection: Make) -> None:
    """It comes from far, so that alone it would be."""
    found, tried = searched(collection, lambda focal, number: (TRUE_PX, 0.1))
    assert found.confirmed and found.best is not None and found.best.focals[0] == TRUE_PX
    assert tried[-1] == (1, TRUE_PX / 1.4) and [number for number, _ in tried].count(1) == 1


def test_a_better_candidate_is_mapped_to_its_end(collection: Make) -> None:
    """The first candidate ends 2 percent off at a higher cost: what comes from elsewhere and is better goes on."""
    found, tried = searched(
        collection, lambda focal, number: (1.02 * TRUE_PX, 0.108) if number == 0 else (TRUE_PX, 0.1)
    )
    assert found.best is not None and found.best.focals[0] == TRUE_PX
    assert [number for number, _ in tried].count(1) == 2


def test_a_candidate_whose_cost_falls_too_slowly_is_left(collection: Make) -> None:
    """From far above the best cost by 2.5 percent each time: eight times would not do, not even by five percent."""

    def mapped(focal: float, number: int) -> tuple[float, float]:
        if number in (0, 2):
            return TRUE_PX, 0.02
        slow.append(focal)
        return 1.1 * focal, 0.5 * 0.975 ** len(slow)

    slow: list[float] = []
    found, tried = searched(collection, mapped)
    assert found.best is not None and found.best.focals[0] == TRUE_PX
    assert [number for number, _ in tried].count(1) == 2


def test_a_candidate_whose_cost_falls_fast_is_followed(collection: Make) -> None:
    """It begins far above the best cost and ends below it."""
    world_costs = iter([0.4, 0.3, 0.2, 0.1, 0.04, 0.01])

    def mapped(focal: float, number: int) -> tuple[float, float]:
        return (TRUE_PX, 0.05) if number != 1 else (1.1 * focal, next(world_costs, 0.01))

    found, tried = searched(collection, mapped)
    assert [number for number, _ in tried].count(1) == 7
    assert found.best is not None and found.best.cost == 0.01
