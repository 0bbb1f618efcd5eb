"""Every number that a user can set has a range, also those of the algorithms below a plugin: nonsense gets one line."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest

from unposed.growth.merge import MergeOptions
from unposed.optim.doppelgangers.options import DoppelgangerOptions
from unposed.pipeline.config import Within, build
from unposed.pipeline.errors import ConfigError
from unposed.pipeline.registry import Registry
from unposed.plugins.coarse.global_mapping import GlobalMapper
from unposed.plugins.fine.bundle import BundleAdjustment
from unposed.plugins.verification.poselib import PoseLib
from unposed.plugins.view_graph.verified import VerifiedViewGraph

PLUGINS = {f"{info.slot}.{info.name}": info for info in Registry().available() if "unposed." in info.target}
CHECKED_TOGETHER = {each.name for each in dataclasses.fields(DoppelgangerOptions)}
"""Their class checks them when it is made, some against each other."""


def unlimited(hint: Any) -> bool:
    """Whether a type admits any number at all."""
    if get_origin(hint) is Annotated:
        base, *marks = get_args(hint)
        return not any(isinstance(mark, Within) for mark in marks) and unlimited(base)
    return hint in (int, float) or any(map(unlimited, get_args(hint)))


def options_without_range(cls: type, path: str = "") -> Iterator[str]:
    """Dotted names of the numbers that may be anything; a seed may."""
    hints = get_type_hints(cls, include_extras=True)
    for each in dataclasses.fields(cls):
        hint, name = hints[each.name], f"{path}{each.name}"
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            yield from options_without_range(hint, f"{name}.")
        elif unlimited(hint) and each.name != "seed":
            yield name


def test_the_search_finds_numbers_without_range() -> None:
    @dataclasses.dataclass(frozen=True)
    class Stage:
        free: int = 1
        pair: tuple[float, float] = (1.0, 2.0)
        held: Annotated[float | None, Within("(0, 1]")] = None
        name: str = ""
        seed: int = 0

    hints = get_type_hints(Stage, {"Within": Within, "Annotated": Annotated}, include_extras=True)
    assert [name for name, hint in hints.items() if unlimited(hint)] == ["free", "pair", "seed"]


@pytest.mark.parametrize("name", PLUGINS)
def test_every_number_has_a_range(name: str) -> None:
    info = PLUGINS[name]
    found = set(options_without_range(Registry().find(info.slot, info.name)))
    assert found - (CHECKED_TOGETHER if name.startswith("doubts.") else set()) == set()


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (VerifiedViewGraph, {"reference_side_px": -5}, r"n.reference_side_px: expected int in \[1, inf\), got -5"),
        (VerifiedViewGraph, {"merge_px": 0}, r"n.merge_px: expected float in \(0, inf\), got 0"),
        (GlobalMapper, {"relative_pose": {"max_matches": 0}}, r"n.relative_pose.max_matches: expected int in \[5, inf"),
        (GlobalMapper, {"intrinsics_search": {"core_photos": -3}}, r"core_photos: expected int in \[2, inf\), got -3"),
        (PoseLib, {"two_view": {"ransac": {"iterations": [9, 3]}}}, r"iterations: 9 is above 3"),
        (PoseLib, {"two_view": {"focal_range": [12.0, 0.3]}}, r"focal_range: 12.0 is above 0.3"),
        (MergeOptions, {"max_aligned_px": 0}, r"n.max_aligned_px: expected float in \(0, inf\), got 0"),
        (BundleAdjustment, {"max_iterations": [0, 8]}, r"n.max_iterations\[0\]: expected int in \[1, inf\), got 0"),
    ],
)
def test_nonsense_is_named(cls: type, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(cls, options, "n")
