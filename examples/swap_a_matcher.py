"""Write a matcher, and compare it with the default one on photos whose poses are known.

    python examples/swap_a_matcher.py

A stage is a frozen dataclass: its fields are options, and the parameters of its call say what it reads. A package
declares its stages as entry points (`unposed plugins new my-matcher` writes one); `declare` does the same for a class
in this file, so that the example needs no installation.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np

import unposed
from unposed.pipeline.artifacts import Features, PairMatches
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain, Sides
from unposed.synthetic.sample import sample_folder


@dataclass(frozen=True)
class MutualNearest:
    """Descriptors that are each other's nearest neighbour, within an absolute distance instead of a ratio test."""

    grain: ClassVar[Grain] = Grain.PAIR
    version: ClassVar[int] = 1  # raise it when results change: stored ones are then recomputed

    max_distance: Annotated[float, Within("(0, 2]")] = 0.6
    """Largest Euclidean distance of descriptors of unit length."""

    def __call__(self, features: Sides[Features]) -> PairMatches:
        a, b = (unit_rows(side.descriptors) for side in features)
        cosine = a @ b.T
        nearest_b, nearest_a = cosine.argmax(axis=1), cosine.argmax(axis=0)
        mutual = nearest_a[nearest_b] == np.arange(len(a))
        near = cosine[np.arange(len(a)), nearest_b] > 1.0 - self.max_distance**2 / 2.0  # |a - b|^2 = 2 - 2 a.b
        index_a = np.flatnonzero(mutual & near).astype(np.int32)
        index_b = nearest_b[index_a].astype(np.int32)
        return PairMatches(
            xy_a=features.a.xy[index_a],
            xy_b=features.b.xy[index_b],
            weight=np.ones(len(index_a), np.float32),
            index_a=index_a,
            index_b=index_b,
        )


def unit_rows(descriptors: np.ndarray) -> np.ndarray:
    """Descriptors as float32 rows of unit length."""
    rows = descriptors.astype(np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def declare(folder: Path) -> None:
    """Write what pip writes when a package is installed: a name, a version, and the entry points."""
    info = folder / "example_matcher-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: example-matcher\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[unposed.plugins]\nmatching.example = {__name__}:MutualNearest\n")
    sys.path.insert(0, str(folder))


def main() -> None:
    """Reconstruct the sample with both matchers and compare."""
    photos = sample_folder()
    with tempfile.TemporaryDirectory() as scratch:
        declare(Path(scratch))
        for matcher in ("mutual-nn", "example"):
            out = Path(scratch) / "results" / matcher
            made = unposed.reconstruct(photos, out, preset="fast", settings={"matching.use": matcher})
            errors = unposed.evaluate(out, photos / "gt.json").errors
            auc = ", ".join(f"AUC@{limit} {100 * errors.auc[limit]:.1f}" for limit in (1, 3, 5))
            registered = f"{made.summary['registered']} of {made.summary['total']} registered"
            print(f"{matcher:10} {registered}, {len(made.models[0].points)} points, {auc}")


if __name__ == "__main__":
    main()
