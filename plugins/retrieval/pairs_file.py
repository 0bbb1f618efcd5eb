"""Retrieval from a file of pairs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from unposed.pipeline.artifacts import Photos, Ranking
from unposed.pipeline.config import did_you_mean
from unposed.pipeline.regular_files import read_text
from unposed.pipeline.stage import Grain, StageError
from unposed.retrieval.pairs import unique_pairs


@dataclass(frozen=True)
class PairsFile:
    """The pairs of a text file: two names of photos per line, and optionally a similarity in (0, 1]."""

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 1

    file: Path
    """Names are paths below the photo folder, separated by spaces, or by tabs where names have spaces. Lines that begin
    with # and photos that are not in the collection are ignored."""

    def __call__(self, photos: Photos) -> Ranking:
        index = {photo.name: k for k, photo in enumerate(photos.photos)}
        found, strangers = [], []
        for a, b, similarity in self._lines():
            if a in index and b in index:
                found.append((index[a], index[b], similarity))
            else:
                strangers.append(b if a in index else a)
        if not found:
            hint = f": {strangers[0]!r} is none of them{did_you_mean(strangers[0], index)}" if strangers else ""
            raise StageError(f"{self.file.name}: no pair of these photos{hint}")
        table = np.array(found)
        pairs, similarities = unique_pairs(table[:, :2].astype(np.int64), table[:, 2])
        return Ranking(pairs=pairs, similarity=similarities)

    def _lines(self) -> Iterator[tuple[str, str, float]]:
        try:
            lines = read_text(self.file).splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise StageError(f"{self.file.name}: cannot be read: {error}") from error
        for number, line in enumerate(lines, 1):
            parts = [part.strip() for part in (line.split("\t") if "\t" in line else line.split())]
            if not line.strip() or line.startswith("#"):
                continue
            try:
                a, b, *rest = parts
                similarity = float(rest[0]) if rest else 1.0
                valid = len(rest) <= 1 and 0.0 < similarity <= 1.0
            except ValueError:
                valid = False
            if not valid:
                raise StageError(f"{self.file.name}:{number}: expected two names and perhaps a similarity in (0, 1]")
            yield a, b, similarity
