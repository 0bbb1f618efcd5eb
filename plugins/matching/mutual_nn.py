"""Mutual nearest neighbours with a ratio test, for any descriptors whose rows are compared by angle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal
from weakref import WeakKeyDictionary

from unposed.optim.pair.matching import SIFT_LENGTH, DescriptorRows, byte_rows, mutual_nearest, unit_rows
from unposed.pipeline.artifacts import Features, PairMatches
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain, Resources, Sides, StageError


@dataclass(frozen=True)
class MutualNearest:
    """Exact matching of two photos' descriptors."""

    grain: ClassVar[Literal[Grain.PAIR]] = Grain.PAIR
    version: ClassVar[int] = 2

    max_ratio: Annotated[float, Within("(0, 1]")] = 0.85
    """Distance to the best candidate over the distance to the second best must stay below this; 1: no such test."""
    min_similarity: Annotated[float, Within("[-1, 1)")] = 0.0
    """Smallest cosine between two descriptors that match."""
    dims: Annotated[int, Within("[0, 128]")] = 62
    """Coefficients of a SIFT descriptor's spectrum that are compared, as bytes: half the work of all 128. 0 compares
    descriptors as they are, of whatever length, as floats."""

    def __call__(self, features: Sides[Features], resources: Resources) -> PairMatches:
        if self.dims and features.a.descriptors.shape[1] != SIFT_LENGTH:
            raise StageError(
                f"these descriptors have {features.a.descriptors.shape[1]} entries, not SIFT's {SIFT_LENGTH}: "
                "set dims to 0 to compare them whole"
            )
        rows_a, rows_b = (_rows(side, self.dims) for side in features)
        found = mutual_nearest(
            rows_a, rows_b, max_ratio=self.max_ratio, min_similarity=self.min_similarity, device=resources.device
        )
        return PairMatches(
            xy_a=features.a.xy[found.index_a],
            xy_b=features.b.xy[found.index_b],
            weight=1.0 - found.ratio,
            index_a=found.index_a,
            index_b=found.index_b,
        )


_MADE: WeakKeyDictionary[Features, dict[int, DescriptorRows]] = WeakKeyDictionary()
"""Rows of the photos whose features are in memory, by `dims`."""


def _rows(features: Features, dims: int) -> DescriptorRows:
    """A photo is matched with many others, most of them in a row; its rows go when its features do."""
    made = _MADE.setdefault(features, {})
    if dims not in made:
        made[dims] = byte_rows(features.descriptors, dims) if dims else unit_rows(features.descriptors)
    return made[dims]
