"""Pairs of places that look alike, found by what groups say of how photos lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unposed.optim.groups.layout import LayoutOptions, contradicted_pairs, group_layout, layout_errors_deg
from unposed.optim.rotations import exp_so3

OPTIONS = LayoutOptions()


@pytest.fixture
def emulation(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[3] / "benchmarks"))
    import emulated_groups

    return emulated_groups


def pairs_in_groups(made: Any) -> np.ndarray:
    """Pairs of photos that are in a group together."""
    return np.array(
        sorted({(a, b) for group in made.groups for a in group.photos for b in group.photos if a < b}), np.int64
    )


@pytest.mark.parametrize("town", [False, True])
@pytest.mark.parametrize(("photos", "wrong"), [(20, 0.1), (100, 0.1), (300, 0.05)])
def test_doppelgangers_are_found_and_right_pairs_stay(emulation: Any, photos: int, wrong: float, town: bool) -> None:
    """A tenth of the pairs is turned by 30 to 180 degrees; a tenth of the groups is wrong, too."""
    made = emulation.emulate(photos, 5, emulation.GroupNoise(wrong=wrong), town=town)
    layout, pairs = group_layout(made.scenes, photos, OPTIONS), pairs_in_groups(made)
    rng = np.random.default_rng(0)
    turn = made.cam_from_world[:, :, :3]
    rotation = turn[pairs[:, 1]] @ turn[pairs[:, 0]].transpose(0, 2, 1)
    rotation = exp_so3(np.radians(1.0) * rng.standard_normal((len(pairs), 3))) @ rotation
    alike = np.zeros(len(pairs), bool)
    alike[rng.permutation(len(pairs))[: len(pairs) // 10]] = True
    axis = rng.standard_normal((len(pairs), 3))
    axis *= np.radians(rng.uniform(30, 180, (len(pairs), 1))) / np.linalg.norm(axis, axis=1, keepdims=True)
    rotation[alike] = exp_so3(axis[alike]) @ rotation[alike]
    off = layout_errors_deg(layout, pairs, rotation, OPTIONS)
    against = contradicted_pairs(off, np.full(len(pairs), 50.0), np.zeros(len(pairs), bool), OPTIONS)
    assert against is not None and against[~alike].mean() < 0.005
    # Groups that are wrong, or too few for a photo, say nothing.
    assert against[alike].mean() > 0.55 and against[alike & np.isfinite(off)].all()


def test_planar_and_weak_pairs_are_not_judged() -> None:
    off, matches, planar = np.array([90.0, 90.0, 90.0, *[1.0] * 5]), np.array([50.0, 10.0, 50.0, *[50.0] * 5]), 2
    flags = np.arange(8) == planar
    against = contradicted_pairs(off, matches, flags, OPTIONS)
    assert against is not None and np.flatnonzero(against).tolist() == [0]


def test_groups_that_contradict_most_pairs_are_not_heard() -> None:
    off = np.array([90.0, 90.0, 90.0, 1.0, 1.0])
    assert contradicted_pairs(off, np.full(5, 50.0), np.zeros(5, bool), OPTIONS) is None
    nothing = contradicted_pairs(np.full(3, np.nan), np.full(3, 50.0), np.zeros(3, bool), OPTIONS)
    assert nothing is not None and not nothing.any()


def test_one_group_is_not_its_own_judge(emulation: Any) -> None:
    made = emulation.emulate(8, 1, emulation.GroupNoise(wrong=0.0))
    alone = made.scenes.select(made.scenes.group == 0)
    layout = group_layout(alone, 8, OPTIONS)
    pairs = np.array([[0, 1], [2, 3]])
    assert np.isnan(layout_errors_deg(layout, pairs, np.tile(np.eye(3), (2, 1, 1)), OPTIONS)).all()
