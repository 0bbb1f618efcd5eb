"""Drafts that compete, and when two of them are the same."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from unposed.optim.mapping.drafts import (
    Draft,
    DraftOptions,
    carried_drafts,
    competing_drafts,
    rotation_difference_deg,
)
from unposed.optim.rotations import exp_so3

Make = Callable[..., Any]
OPTIONS = DraftOptions()


def turned(world: Any, deg: float, photos: slice) -> Any:
    """The true bundle with some photos turned about the vertical through the origin."""
    bundle = world.bundle()
    poses = bundle.cam_from_world.copy()
    poses[photos, :, :3] = poses[photos, :, :3] @ exp_so3(np.array([[0.0, np.radians(deg), 0.0]]))[0]
    return replace(bundle, cam_from_world=poses)


def test_a_turned_half_is_another_model_and_one_turned_photo_is_not(collection: Make) -> None:
    world = collection(photos=10)
    assert rotation_difference_deg(world.bundle(), turned(world, 77.0, slice(None))) < 1e-6  # the frame is free
    assert rotation_difference_deg(world.bundle(), turned(world, 40.0, slice(5, None))) > 10.0
    assert rotation_difference_deg(world.bundle(), turned(world, 20.0, slice(9, None))) < 3.0


def test_the_second_draft_ends_a_competition_that_it_does_not_change(collection: Make) -> None:
    made: list[int] = []

    def make(number: int) -> Draft:
        made.append(number)
        return Draft(collection(photos=4).bundle(), 0.1 + 1e-4 * number)

    (only,) = competing_drafts(make, OPTIONS)
    assert made == [0, 1]
    assert only.cost == 0.1


@pytest.mark.parametrize(
    ("known_deg", "known_cost", "seeds"),
    [(0.5, 0.101, [0]), (0.5, 0.2, [0]), (0.5, 0.08, [0, 1]), (40.0, 0.101, [0, 1])],
    ids=["arrives", "better", "dearer", "elsewhere"],
)
def test_a_draft_that_arrives_where_several_seeds_were_before_is_enough(
    collection: Make, known_deg: float, known_cost: float, seeds: list[int]
) -> None:
    world, made = collection(photos=10), list[int]()

    def make(number: int) -> Draft:
        made.append(number)
        return Draft(world.bundle(), 0.1)

    known = Draft(turned(world, known_deg, slice(5, None)), known_cost)
    assert len(competing_drafts(make, OPTIONS, known)) == 1
    assert made == seeds


def test_the_best_draft_has_to_be_found_twice(collection: Make) -> None:
    """Seeds 2 and 5 arrive at the best model; the others end elsewhere, at costs that differ."""
    world = collection(photos=10)
    costs = {0: 0.14, 1: 0.16, 2: 0.10, 3: 0.12, 4: 0.18, 5: 0.1001, 6: 0.1, 7: 0.1}
    made: list[int] = []

    def make(number: int) -> Draft:
        made.append(number)
        best = costs[number] < 0.11
        return Draft(turned(world, 0.0 if best else 20.0 + 10.0 * number, slice(5, None)), costs[number])

    found = competing_drafts(make, OPTIONS)
    assert made == [0, 1, 2, 3, 4, 5]
    assert [draft.cost for draft in found] == [0.10, 0.12, 0.14, 0.16, 0.18]
    assert [draft.cost for draft in carried_drafts(found, replace(OPTIONS, carried_cost_ratio=1.3))] == [0.10, 0.12]
    assert len(carried_drafts(found, replace(OPTIONS, carried_cost_ratio=9.0, max_carried=3))) == 3


@pytest.mark.parametrize("missing", [{0}, {0, 1, 2, 3, 4, 5, 6, 7}])
def test_seeds_that_give_no_model_are_passed_over(collection: Make, missing: set[int]) -> None:
    bundle = collection(photos=4).bundle()
    found = competing_drafts(lambda number: None if number in missing else Draft(bundle, 0.2), OPTIONS)
    assert len(found) == (0 if len(missing) == 8 else 1)
