"""Initial models of two mappers: those of the first, unless it places fewer photos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from unposed.pipeline.artifacts import InitialModels
from unposed.pipeline.stage import Grain


@dataclass(frozen=True)
class LargerModels:
    """Takes the models that `first` has found, unless those of `second` place more photos.

    Exact matches make the better draft, and inexact ones may lead it to another minimum; where the exact ones are too
    few for some photos, a draft with these photos is worth more. The largest models are compared first, then all.
    """

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 1

    def __call__(self, first: InitialModels, second: InitialModels) -> InitialModels:
        return second if _sizes(second) > _sizes(first) else first


def _sizes(models: InitialModels) -> tuple[int, int]:
    """Photos in the largest model, and in all."""
    sizes = [len(model.photos) for model in models.models]
    return max(sizes, default=0), sum(sizes)
