"""Ranking by the aggregated selective match kernel over visual words: for collections of any size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from unposed.pipeline.artifacts import Features, Ranking
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain, PerPhoto, Resources, StageError
from unposed.pipeline.weights.files import WeightFile
from unposed.retrieval.asmk import Kernel
from unposed.retrieval.codebook import sample_rows, train_codebook
from unposed.retrieval.search import SearchOptions, best_partners_by_words
from unposed.retrieval.words import Codebook, codebook_of

from .descriptors import Descriptors, descriptors_of, reported
from .unpickle import read_arrays

SAMPLES_PER_WORD = 16
"""Default of the option. More, and more rounds than five, cost time and change no ranking."""


@dataclass(frozen=True)
class Asmk:
    """Photos are alike as far as their descriptors of the same visual words deviate from these in the same way. The
    words are learnt from the collection, or given."""

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 2

    keypoints: Annotated[int, Within("[1, inf)")] = 1024
    """How many descriptors of each photo count, best first."""
    codebook: Path | None = None
    """Words that were learnt elsewhere: a table in a .npy file, or a .pkl of the published layout."""
    words: Annotated[int, Within("[1, 1048576]")] | None = None
    """How many words are learnt; not said: 2048, fewer for small collections, up to 8192 for large ones."""
    assigned: Annotated[int, Within("[1, 64]")] = 1
    """At how many of its nearest words a descriptor of the photo in question counts."""
    binary: bool = True
    """Deviations are compared by their signs, in a 32nd of the memory; otherwise by their directions."""
    alpha: Annotated[float, Within("(0, inf)")] = 3.0
    """The power of a word's similarity: the larger, the less many faint resemblances count beside few clear ones."""
    threshold: Annotated[float, Within("[0, 1]")] = 0.0
    """Similarities of a word below it do not count."""
    partners: Annotated[int, Within("[1, inf)")] = 100
    """Partners of each photo that the ranking keeps, best first."""
    iterations: Annotated[int, Within("[1, 1000]")] = 5
    """Rounds of learning."""
    samples_per_word: Annotated[int, Within("[1, 1000]")] = SAMPLES_PER_WORD
    """Descriptors that a word is learnt from, on average."""
    seed: int = 0

    def __call__(self, features: PerPhoto[Features], resources: Resources) -> Ranking:
        usable = descriptors_of(features, self.keypoints)
        try:
            resources.report(0, len(usable.photos), "learn visual words")
            words = codebook_of(self._centroids(usable, resources), resources.device)
            usable = reported(usable, resources.report, "assign descriptors to visual words")
            pairs, similarity = best_partners_by_words(
                usable.load,
                usable.photos,
                words,
                SearchOptions(Kernel(self.binary, self.alpha, self.threshold), self.assigned, self.partners),
                limit_bytes=resources.ram_bytes // 2,
                threads=resources.threads,
            )
        except ValueError as error:
            raise StageError(str(error)) from error
        return Ranking(pairs=pairs, similarity=similarity)

    def _centroids(self, usable: Descriptors, resources: Resources) -> NDArray[np.generic]:
        if self.codebook is not None:
            return read_codebook(self.codebook)
        return learnt_words(usable, self.words, self.iterations, self.seed, resources.device, self.samples_per_word)


@dataclass(frozen=True)
class AsmkOfMast3r(Asmk):
    """The same with the words and the settings that were published with MASt3R, for its tokens."""

    keypoints: Annotated[int, Within("[1, inf)")] = 4096
    """How many descriptors of each photo count, best first; the retrieval head keeps 300 of a photo."""
    codebook: Annotated[
        Path | None,
        WeightFile("MASt3R_ViTLarge_BaseDecoder_512_catmlpdpt_metric_retrieval_codebook.pkl"),
    ] = None
    assigned: Annotated[int, Within("[1, 64]")] = 5


def learnt_words(
    usable: Descriptors,
    words: int | None,
    iterations: int,
    seed: int,
    device: str,
    samples_per_word: int = SAMPLES_PER_WORD,
) -> NDArray[np.float32]:
    """Words from a sample of the collection. ValueError if there is nothing to learn from."""
    words = words or words_for(usable.rows)
    sample = sample_rows(usable.load, usable.photos, samples_per_word * words, seed)
    return train_codebook(sample, words, iterations=iterations, seed=seed, device=device)


def words_for(descriptors: int) -> int:
    """How many words to learn from a collection with so many descriptors.

    2048 rank a hundred photos as well as ten thousand do. Small collections need fewer: a word is the mean of its
    descriptors, and if these come from two photos only, they deviate from it in opposite ways. Large ones need more, or
    every word would occur in every photo.
    """
    return max(1, min(descriptors // 4, 2048), min(descriptors // 48, 8192))


def read_codebook(path: Path) -> NDArray[np.generic]:
    """The table of words in a file; ValueError says what is wrong with it."""
    try:
        if path.suffix == ".npy":
            return np.asarray(np.load(path, allow_pickle=False))
        return np.asarray(read_arrays(path)["state"]["centroids"], np.float32)
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{path.name}: no codebook of the published layout") from error
    except OSError as error:
        raise ValueError(f"{path.name}: cannot be read: {error}") from error


def codebook_for(usable: Descriptors, words: int, iterations: int, seed: int, device: str) -> Codebook:
    """Learnt words, ready to be searched; StageError if there is nothing to learn from."""
    try:
        return codebook_of(learnt_words(usable, words, iterations, seed, device), device)
    except ValueError as error:
        raise StageError(str(error)) from error
