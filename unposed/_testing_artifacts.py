"""Rules about artifacts that need the inputs of a stage, for unposed.testing; the others are in
pipeline.artifact_rules."""

from __future__ import annotations

from typing import Any

import numpy as np

from unposed.pipeline.artifact_rules import broken_rules
from unposed.pipeline.artifacts import Features, PairMatches, TwoViewGeometry

from ._testing_scene import MadeUpScene


def artifact_violations(value: Any, item: tuple[int, ...], scene: MadeUpScene) -> list[str]:
    """One line for each rule that the value violates; none for artifacts without rules."""
    sizes = [(scene.photos[i].width, scene.photos[i].height) for i in item]
    if found := broken_rules(value, sizes, len(scene.photos)):
        return found
    if isinstance(value, PairMatches):
        return _rows(value, *(scene.values[Features][i] for i in item))
    if isinstance(value, TwoViewGeometry) and len(item) == 2:
        matches = len(scene.values[PairMatches][item].weight)
        return [] if len(value.inliers) == matches else [f"{len(value.inliers)} inliers, not {matches}"]
    return []


def _rows(value: PairMatches, a: Features, b: Features) -> list[str]:
    """Whether matches are of the key points whose rows they name."""
    found = []
    for name, index, xy, side in (("a", value.index_a, value.xy_a, a), ("b", value.index_b, value.xy_b, b)):
        if index is None:
            continue
        if np.any(index >= len(side.xy)):
            found.append(f"index_{name} is not a row of the photo's features")
        elif not np.array_equal(side.xy[index], xy):
            found.append(f"xy_{name} is not the key point of index_{name}")
    return found
