"""Retrieval by coarse matching: of all pairs in collections of up to some hundred photos, of a shortlist beyond."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np

from unposed.optim.pair.matching import SIFT_LENGTH, DescriptorRows, byte_rows, unit_rows
from unposed.pipeline.artifacts import Features, Ranking
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain, PerPhoto, Resources
from unposed.retrieval.coarse import coarse_similarity, largest_rows
from unposed.retrieval.known_counts import KnownCounts, no_counts
from unposed.retrieval.scene_graph import best_partners

from .asmk import Asmk, words_for

COUNTS_VERSION = 3
"""Of what is counted: counts that were remembered stay right when other parts of the plugin change."""


@dataclass(frozen=True)
class CoarseMatching:
    """Similarity is the share of a photo's largest key points that match in the other photo.

    Comparing all pairs is the most reliable retrieval, and a cheap one for up to some hundred photos. Beyond, only the
    pairs of a shortlist by ASMK are compared, so that the cost is proportional to the number of photos.
    """

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 4

    keypoints: Annotated[int, Within("[16, inf)")] = 512
    """Key points per photo that are compared, the largest first."""
    max_ratio: Annotated[float, Within("(0, 1]")] = 0.8
    """Distance to the best candidate over the distance to the second best must stay below this."""
    dims: Annotated[int, Within("[0, 128]")] = 62
    """Coefficients of a SIFT descriptor's spectrum that are compared, as bytes; other descriptors are whole."""
    partners: Annotated[int, Within("[1, inf)")] = 100
    """Partners of each photo that the ranking keeps, best first."""
    all_below: Annotated[int, Within("[0, inf)")] = 300
    """Up to this many photos all pairs are compared."""
    shortlist: Annotated[int, Within("[1, inf)")] = 40
    """Partners of each photo in the shortlist, where there are more photos."""
    words: Annotated[int, Within("[1, 1048576]")] = 2048
    """Visual words at most: more suggest no better partners, and take longer to learn than what follows."""
    word_photos: Annotated[int, Within("[1, inf)")] = 64
    """Photos that visual words are learnt from, chosen by their contents: a photo that is added to n others changes
    the words with a probability of word_photos / n, and else costs its own comparisons only."""
    seed: int = 0
    """Of the codebook, which is trained on the collection."""

    def __call__(self, features: PerPhoto[Features], resources: Resources) -> Ranking:
        def load(photo: int) -> DescriptorRows:
            points = features[photo]
            rows = points.descriptors[largest_rows(points.scale, self.keypoints)]
            is_sift = self.dims > 0 and points.descriptors.shape[1] == SIFT_LENGTH
            return byte_rows(rows, self.dims) if is_sift else unit_rows(rows)

        photos = sorted(features)
        shortlist = None
        if len(photos) > self.all_below:
            rows = sum(min(len(features[photo].scale), self.keypoints) for photo in photos)
            words = min(self.words, words_for(rows))
            suggest = Asmk(
                keypoints=self.keypoints,
                words=words,
                partners=self.shortlist,
                word_photos=self.word_photos,
                seed=self.seed,
            )
            shortlist = suggest(features, resources).pairs
        known = self._known_counts(resources) if photos and load(photos[0]).dtype == np.int8 else None
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
            known=known,
            report=resources.report,
        )
        if known is not None and resources.memo is not None and (table := known.table()) is not None:
            resources.memo.remember(self._memo_name(), list(table))
        kept = best_partners(pairs, similarity, self.partners)
        return Ranking(pairs=pairs[kept], similarity=similarity[kept])

    def _known_counts(self, resources: Resources) -> KnownCounts | None:
        """Counts of bytes, which are exact, so that it cannot be told whether they were found now or earlier."""
        if resources.memo is None:
            return None
        table = resources.memo.recall(self._memo_name())
        return no_counts() if table is None else KnownCounts(*table)

    def _memo_name(self) -> str:
        return f"counts {COUNTS_VERSION} {self.max_ratio!r}"
