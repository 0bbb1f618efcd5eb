"""What verification has found of the pairs of a scene graph."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unposed.pipeline.artifacts import SceneGraph, TwoViewGeometry
from unposed.pipeline.stage import PerPair


def verified_matches(graph: SceneGraph, verification: PerPair[TwoViewGeometry]) -> NDArray[np.int64]:
    """(e,) verified matches of the pairs of a graph; 0 where a pair was not verified."""
    matches = np.zeros(len(graph.pairs), np.int64)
    for row, (a, b) in enumerate(graph.pairs.tolist()):
        geometry = verification.get((a, b))
        if geometry is not None and geometry.kind != "none":
            matches[row] = geometry.inliers.sum()
    return matches
