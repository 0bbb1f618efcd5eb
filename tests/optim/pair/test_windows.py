"""Windows of large photos: equal to the published choice, and sensible where that is silent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from unposed.optim.pair.windows import (
    WindowOptions,
    choose_windows,
    window_around,
    window_grid,
    window_size,
    window_starts,
)


@pytest.fixture(scope="module")
def published(reference: Callable[[str], Any]) -> dict[str, list[dict[str, Any]]]:
    return reference("fixtures/coarse_to_fine.json")


def test_published_starts(published: dict[str, list[dict[str, Any]]]) -> None:
    for case in published["start_pos"]:
        assert window_starts(case["total"], case["win"], case["overlap"]) == case["out"]


def test_published_grids(published: dict[str, list[dict[str, Any]]]) -> None:
    for case in published["grid"]:
        assert window_grid((case["H"], case["W"]), case["size"], case["overlap"]) == list(map(tuple, case["out"]))


@pytest.mark.parametrize("case", range(3))
def test_published_choices(published: dict[str, list[dict[str, Any]]], case: int) -> None:
    given = published["select"][case]
    window_a, window_b = map(tuple, given["forced_resolution"])
    chosen = choose_windows(
        np.array(given["p_q"]), np.array(given["p_b"]), given["shape_q"], given["shape_b"], window_a, window_b
    )
    assert [[list(look.a), list(look.b)] for look in chosen] == given["crops"]


def test_small_photos_are_one_window() -> None:
    assert window_size((304, 400), 512) == (304, 400)
    assert window_size((300, 400), 512) == (288, 400)
    assert window_grid((304, 400), 512, 0.5) == [(0, 0, 400, 304)]
    assert window_size((40, 4000), 512) == (16, 512)  # at least a patch high


def test_windows_stay_in_the_photo() -> None:
    assert window_around(5.0, 390.0, (100, 200), (400, 600)) == (0, 300, 200, 400)
    assert window_around(5.0, 5.0, (100, 200), (60, 600)) == (0, 0, 200, 60)


def test_windows_lie_where_the_matches_are() -> None:
    rng = np.random.default_rng(0)
    xy_a = rng.uniform((900, 100), (1300, 400), (200, 2))
    xy_b = xy_a - (700, -300)
    chosen = choose_windows(xy_a, xy_b, (1200, 1600), (1200, 1600), (384, 512), (384, 512))
    assert 0 < len(chosen) < 6
    seen = np.zeros(200, bool)
    for a, b in chosen:
        seen |= ((xy_a >= a[:2]) & (xy_a < a[2:]) & (xy_b >= b[:2]) & (xy_b < b[2:])).all(axis=1)
    assert seen.mean() > 0.9


def test_too_few_matches_choose_nothing() -> None:
    few = np.full((9, 2), 300.0)
    assert choose_windows(few, few, (1200, 1600), (1200, 1600), (384, 512), (384, 512)) == []
    chosen = choose_windows(few, few, (1200, 1600), (1200, 1600), (384, 512), (384, 512), WindowOptions(min_matches=9))
    assert len(chosen) == 1


def test_more_coverage_takes_more_windows() -> None:
    xy = np.random.default_rng(0).uniform((0, 0), (1600, 1200), (2000, 2))
    counts = [
        len(choose_windows(xy, xy, *[(1200, 1600)] * 2, *[(384, 512)] * 2, WindowOptions(min_coverage=share)))
        for share in (0.3, 0.9)
    ]
    assert 0 < counts[0] < counts[1]
