"""Write the template of a plugin: a small distribution that installs, works and has tests."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from unposed.pipeline.errors import ConfigError, InputError

_PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "{name}"
version = "0.1.0"
dependencies = ["unposed"]

# <slot>.<plugin> = "<module>:<class>"; `use: {plugin}` in a preset means the plugin of the node's slot.
[project.entry-points."unposed.plugins"]
"matching.{plugin}" = "{module}:MutualNearest"

[tool.setuptools]
py-modules = ["{module}"]
"""

_MODULE = '''\
"""A matcher for unposed: key points that are each other's nearest neighbour."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np

from unposed.pipeline.artifacts import Features, PairMatches
from unposed.pipeline.config import Within
from unposed.pipeline.slots import Matcher
from unposed.pipeline.stage import Grain, Sides


@dataclass(frozen=True)
class MutualNearest:
    """Key points that are each other's nearest neighbour, and clearly nearer than the second nearest."""

    grain: ClassVar[Literal[Grain.PAIR]] = Grain.PAIR
    version: ClassVar[int] = 1  # raise it when results change: stored ones are then computed anew

    max_ratio: Annotated[float, Within("(0, 1]")] = 0.8
    """Distance to the nearest over distance to the second nearest."""

    def __call__(self, features: Sides[Features]) -> PairMatches:
        a, b = (side.descriptors.astype(np.float32) for side in features)
        if len(a) < 2 or len(b) < 2:
            nearest_b, good = np.zeros(len(a), np.intp), np.zeros(len(a), bool)
        else:
            squared = (a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1)
            nearest_b = squared.argmin(axis=1)
            first, second = np.partition(squared, 1, axis=1)[:, :2].clip(min=0).T
            mutual = squared.argmin(axis=0)[nearest_b] == np.arange(len(a))
            good = mutual & (first < self.max_ratio**2 * second)
        index_a = np.flatnonzero(good).astype(np.int32)
        index_b = nearest_b[index_a].astype(np.int32)
        return PairMatches(
            xy_a=features.a.xy[index_a],
            xy_b=features.b.xy[index_b],
            weight=np.ones(len(index_a), np.float32),
            index_a=index_a,
            index_b=index_b,
        )


_: Matcher = MutualNearest()  # so that type checkers compare it with what a matcher is
'''

_TEST = '''\
"""The matcher on its own, and under the name by which unposed finds it."""

import numpy as np
from {module} import MutualNearest

from unposed.pipeline.artifacts import Features
from unposed.pipeline.registry import Registry
from unposed.pipeline.stage import Sides
from unposed.testing import check_plugin


def features(descriptors: np.ndarray) -> Features:
    count = len(descriptors)
    return Features(
        xy=np.arange(2 * count, dtype=np.float32).reshape(count, 2),
        scale=np.ones(count, np.float32),
        descriptors=descriptors,
        rgb=np.zeros((count, 3), np.uint8),
        score=np.ones(count, np.float32),
    )


def test_finds_every_point_of_a_shuffled_copy() -> None:
    descriptors = np.random.default_rng(0).integers(0, 256, (50, 128), dtype=np.uint8)
    order = np.random.default_rng(1).permutation(50)
    matches = MutualNearest()(Sides(features(descriptors), features(descriptors[order])))
    assert len(matches.weight) == 50
    np.testing.assert_array_equal(order[matches.index_b], matches.index_a)


def test_no_points_give_no_matches() -> None:
    nothing = features(np.zeros((0, 128), np.uint8))
    assert len(MutualNearest()(Sides(nothing, nothing)).weight) == 0


def test_it_keeps_the_contract_of_its_slot() -> None:
    check_plugin(MutualNearest(), "matching")


def test_unposed_finds_it() -> None:
    assert Registry().find("matching", "{plugin}") is MutualNearest
'''


def write_plugin(folder: Path) -> list[Path]:
    """Write a distribution named after the folder, with one matching stage; returns the written files."""
    plugin = re.sub(r"[-_.\s]+", "-", folder.resolve().name).strip("-").lower()
    module = plugin.replace("-", "_")
    if not module.isidentifier() or not module.isascii() or keyword.iskeyword(module):
        raise ConfigError(f"{folder.name!r} makes no module name: use letters, digits and dashes, a letter first")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is there already: give a new folder")
    texts = {"pyproject.toml": _PYPROJECT, f"{module}.py": _MODULE, f"tests/test_{module}.py": _TEST}
    for name, text in texts.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        for mark, value in {"{name}": plugin, "{module}": module, "{plugin}": plugin}.items():
            text = text.replace(mark, value)
        file.write_text(text, encoding="utf-8")
    return [folder / name for name in texts]
