"""Retrieval by one global descriptor per photo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np

from unposed.pipeline.artifacts import Features, Ranking
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain, PerPhoto, Resources
from unposed.retrieval.global_vectors import nearest_vectors, power_mean, vlad

from .asmk import codebook_for
from .descriptors import descriptors_of, reported


@dataclass(frozen=True)
class PowerMean:
    """Similarity is the cosine of generalised means (GeM) of the descriptors.

    The cheapest retrieval, good for descriptors of networks that were trained for it.
    """

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 1

    power: Annotated[float, Within("[1, 100]")] = 3.0
    """1 is the mean; larger powers approach the maximum."""
    keypoints: Annotated[int, Within("[1, inf)")] = 4096
    """Descriptors per photo, best first."""
    partners: Annotated[int, Within("[1, inf)")] = 100
    """Partners of each photo that the ranking keeps, best first."""

    def __call__(self, features: PerPhoto[Features], resources: Resources) -> Ranking:
        usable = reported(descriptors_of(features, self.keypoints), resources.report, "means of descriptors")
        vectors = np.stack([power_mean(usable.load(photo), self.power) for photo in usable.photos])
        pairs, similarity = nearest_vectors(np.array(usable.photos), vectors, self.partners)
        return Ranking(pairs=pairs, similarity=similarity)


@dataclass(frozen=True)
class Vlad:
    """Similarity is the cosine of VLAD vectors: residuals of the descriptors to few visual words, which are trained on
    the collection."""

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 1

    words: Annotated[int, Within("[1, 1024]")] = 64
    keypoints: Annotated[int, Within("[1, inf)")] = 4096
    """Descriptors per photo, best first."""
    partners: Annotated[int, Within("[1, inf)")] = 100
    """Partners of each photo that the ranking keeps, best first."""
    iterations: Annotated[int, Within("[1, 1000]")] = 5
    """Iterations of k-means."""
    seed: int = 0

    def __call__(self, features: PerPhoto[Features], resources: Resources) -> Ranking:
        usable = descriptors_of(features, self.keypoints)
        resources.report(0, len(usable.photos), "learn visual words")
        codebook = codebook_for(usable, self.words, self.iterations, self.seed, resources.device)
        usable = reported(usable, resources.report, "aggregate descriptors")
        vectors = np.stack([vlad(codebook, usable.load(photo)) for photo in usable.photos])
        pairs, similarity = nearest_vectors(np.array(usable.photos), vectors, self.partners)
        return Ranking(pairs=pairs, similarity=similarity)
