"""Ranking by the aggregated selective match kernel over visual words: for collections of any size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from unposed.pipeline.array_files import read_npy
from unposed.pipeline.artifacts import Features, Ranking
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain, PerPhoto, Resources, StageError
from unposed.pipeline.weights.files import WeightFile
from unposed.retrieval.asmk import Kernel
from unposed.retrieval.codebook import photos_of_least_content, sample_rows, train_codebook
from unposed.retrieval.known_counts import content_number
from unposed.retrieval.known_signatures import KnownSignatures
from unposed.retrieval.search import SearchOptions, best_partners_by_words
from unposed.retrieval.words import Codebook, codebook_of

from .descriptors import Descriptors, descriptors_of, reported
from .unpickle import read_arrays

SAMPLES_PER_WORD = 16
"""Default of the option. More, and more rounds than five, cost time and change no ranking."""


@dataclass(frozen=True)
class Asmk:
    """Retrieval by ASMK: photos are similar whose descriptors at common visual words deviate from these in the same
    direction.

    The codebook is trained on the collection, or given.
    """

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 2

    keypoints: Annotated[int, Within("[1, inf)")] = 1024
    """Descriptors per photo, best first."""
    codebook: Path | None = None
    """Codebook from elsewhere: a table in a .npy file, or a .pkl of the published layout."""
    words: Annotated[int, Within("[1, 1048576]")] | None = None
    """Number of words of the trained codebook; by default 2048, fewer for small collections, up to 8192 for large
    ones."""
    assigned: Annotated[int, Within("[1, 64]")] = 1
    """Nearest words that a descriptor of the query photo is assigned to (multiple assignment)."""
    binary: bool = True
    """Compare the signs of the residuals, in a 32nd of the memory, instead of their directions."""
    alpha: Annotated[float, Within("(0, inf)")] = 3.0
    """Exponent of the similarity at a word: the larger, the less many weak similarities count beside few strong
    ones."""
    threshold: Annotated[float, Within("[0, 1]")] = 0.0
    """Similarities at a word below it do not count."""
    partners: Annotated[int, Within("[1, inf)")] = 100
    """Partners of each photo that the ranking keeps, best first."""
    iterations: Annotated[int, Within("[1, 1000]")] = 5
    """Iterations of k-means."""
    samples_per_word: Annotated[int, Within("[1, 1000]")] = SAMPLES_PER_WORD
    """Descriptors that a word is learnt from, on average."""
    word_photos: Annotated[int, Within("[0, inf)")] = 0
    """Photos that words are learnt from, at most, chosen by their contents: one that is added changes the words of a
    large collection rarely. 0: all."""
    seed: int = 0

    def __call__(self, features: PerPhoto[Features], resources: Resources) -> Ranking:
        usable = descriptors_of(features, self.keypoints)
        try:
            resources.report(0, len(usable.photos), "learn visual words")
            words = codebook_of(self._centroids(usable, resources), resources.device)
            usable = reported(usable, resources.report, "assign descriptors to visual words")
            memo = resources.memo if self.assigned == 1 and self.binary else None  # others take 32 times the memory
            name = f"signatures {self.version} {self.binary} {content_number(words.centroids)}"
            known = None if memo is None else KnownSignatures.from_arrays(memo.recall(name))
            pairs, similarity = best_partners_by_words(
                usable.load,
                usable.photos,
                words,
                SearchOptions(Kernel(self.binary, self.alpha, self.threshold), self.assigned, self.partners),
                limit_bytes=resources.ram_bytes // 2,
                threads=resources.threads,
                known=known,
            )
        except ValueError as error:
            raise StageError(str(error)) from error
        if memo is not None and known is not None and (arrays := known.arrays()) is not None:
            memo.remember(name, arrays)
        return Ranking(pairs=pairs, similarity=similarity)

    def _centroids(self, usable: Descriptors, resources: Resources) -> NDArray[np.generic]:
        if self.codebook is not None:
            return read_codebook(self.codebook)
        words, photos = self.words or words_for(usable.rows), usable.photos
        if self.word_photos:
            photos = photos_of_least_content(usable.load, photos, self.word_photos)
        sample = sample_rows(usable.load, photos, self.samples_per_word * words, self.seed)
        learnt_from = content_number(np.ascontiguousarray(sample))
        name = f"words {self.version} {words} {self.iterations} {self.seed} {resources.device} {learnt_from}"
        known = None if resources.memo is None else resources.memo.recall(name)
        if known is not None:
            return known[0]
        found = train_codebook(sample, words, iterations=self.iterations, seed=self.seed, device=resources.device)
        if resources.memo is not None:
            resources.memo.remember(name, [found])
        return found


@dataclass(frozen=True)
class AsmkOfMast3r(Asmk):
    """ASMK with the published codebook and settings of MASt3R-SfM, for the tokens of its encoder."""

    keypoints: Annotated[int, Within("[1, inf)")] = 4096
    """Descriptors per photo, best first; the retrieval head keeps 300."""
    codebook: Annotated[
        Path | None,
        WeightFile("MASt3R_ViTLarge_BaseDecoder_512_catmlpdpt_metric_retrieval_codebook.pkl"),
    ] = None
    assigned: Annotated[int, Within("[1, 64]")] = 5


def words_for(descriptors: int) -> int:
    """Number of words for a collection with so many descriptors.

    2048 words rank a hundred photos as well as ten thousand. Small collections need fewer: a word is the mean of its
    descriptors, and if these come from only two photos, their residuals have opposite directions. Large collections
    need more, or every word would occur in every photo.
    """
    return max(1, min(descriptors // 4, 2048), min(descriptors // 48, 8192))


def read_codebook(path: Path) -> NDArray[np.generic]:
    """Read the centroids in a file; ValueError if it has none."""
    try:
        if path.suffix == ".npy":
            return read_npy(path)
        return np.asarray(read_arrays(path)["state"]["centroids"], np.float32)
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{path.name}: no codebook of the published layout") from error
    except OSError as error:
        raise ValueError(f"{path.name}: cannot be read: {error}") from error


def codebook_for(usable: Descriptors, words: int, iterations: int, seed: int, device: str) -> Codebook:
    """Train a codebook on a sample of the collection and prepare it for search; StageError without descriptors."""
    try:
        sample = sample_rows(usable.load, usable.photos, SAMPLES_PER_WORD * words, seed)
        return codebook_of(train_codebook(sample, words, iterations=iterations, seed=seed, device=device), device)
    except ValueError as error:
        raise StageError(str(error)) from error
