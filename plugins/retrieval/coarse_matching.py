"""Retrieval by coarse matching: of all pairs in collections of up to some hundred photos, of a shortlist beyond."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from unposed.optim.pair.matching import SIFT_LENGTH, unit_rows
from unposed.pipeline.artifacts import Features, Ranking
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain, PerPhoto, Resources
from unposed.retrieval.coarse import coarse_similarity, largest_rows
from unposed.retrieval.scene_graph import best_partners

from .asmk import Asmk


@dataclass(frozen=True)
class CoarseMatching:
    """Similarity is the share of a photo's largest key points that match in the other photo.

    Comparing all pairs is the most reliable retrieval, and a cheap one for up to some hundred photos. Beyond, only the
    pairs of a shortlist by ASMK are compared, so that the cost is proportional to the number of photos.
    """

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 2

    keypoints: Annotated[int, Within("[16, inf)")] = 512
    """Key points per photo that are compared, the largest first."""
    max_ratio: Annotated[float, Within("(0, 1]")] = 0.8
    """Distance to the best candidate over the distance to the second best must stay below this."""
    dims: Annotated[int, Within("[0, 128]")] = 64
    """Coefficients of a SIFT descriptor's spectrum that are compared; other descriptors are compared whole."""
    partners: Annotated[int, Within("[1, inf)")] = 100
    """Partners of each photo that the ranking keeps, best first."""
    all_below: Annotated[int, Within("[0, inf)")] = 300
    """Up to this many photos all pairs are compared."""
    shortlist: Annotated[int, Within("[1, inf)")] = 40
    """Partners of each photo in the shortlist, where there are more photos."""
    seed: int = 0
    """Of the codebook, which is trained on the collection."""

    def __call__(self, features: PerPhoto[Features], resources: Resources) -> Ranking:
        def load(photo: int) -> NDArray[np.float32]:
            points = features[photo]
            dims = self.dims if points.descriptors.shape[1] == SIFT_LENGTH else 0
            return unit_rows(points.descriptors[largest_rows(points.scale, self.keypoints)], dims)

        photos = sorted(features)
        shortlist = None
        if len(photos) > self.all_below:
            shortlist = Asmk(partners=self.shortlist, seed=self.seed)(features, resources).pairs
        photo_bytes = load(photos[0]).itemsize * self.keypoints * SIFT_LENGTH if photos else 1
        pairs, similarity = coarse_similarity(
            load,
            photos,
            rows=self.keypoints,
            max_ratio=self.max_ratio,
            block=max(1, resources.ram_bytes // 8 // photo_bytes),
            threads=resources.threads,
            device=resources.device,
            shortlist=shortlist,
            report=resources.report,
        )
        kept = best_partners(pairs, similarity, self.partners)
        return Ranking(pairs=pairs[kept], similarity=similarity[kept])
