"""Parts of a model that no pair holds together once photos are taken out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from unposed.growth.loose_parts import part_sizes, with_loose_parts
from unposed.growth.warm_run import WarmResult

PAIRS = np.array([[0, 1], [1, 2], [2, 5], [5, 6], [6, 8], [3, 4]])


def run_of(*photos: int) -> WarmResult:
    model = SimpleNamespace(photos=np.array(photos, np.int32), rigs=None)
    run = SimpleNamespace(value=lambda name: SimpleNamespace(pairs=PAIRS))
    found: Any = SimpleNamespace(
        graph=SimpleNamespace(nodes={"view_graph": None}), run=run, sparse=SimpleNamespace(models=(model,))
    )
    return cast(WarmResult, found)


def test_pairs_with_other_photos_hold_nothing() -> None:
    assert part_sizes(PAIRS, np.array([0, 1, 2, 5, 6, 8])) == [6]
    assert part_sizes(PAIRS, np.array([0, 1, 2, 6, 8])) == [3, 2]
    assert part_sizes(PAIRS, np.array([0, 3, 4])) == [2, 1]


def test_a_model_that_nothing_holds_together_is_warned_about_in_its_own_words() -> None:
    given = ["no pair joins the parts of 3, 2 photos: expect a model of each", "another"]
    said = with_loose_parts(given, run_of(0, 1, 2, 6, 8))
    assert said[0].startswith("no pair holds the parts of 3, 2 photos together any more")
    assert said[1:] == ["another"]
    assert with_loose_parts(given, run_of(0, 1, 2, 5)) == given
