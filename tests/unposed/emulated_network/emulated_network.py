"""A matcher that gives the pair predictions of an emulated scene; photos say by their colour which ones they are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

from emulation import made_up
from oracle import HARD, Noise, Oracle, read_safetensors

from unposed.pipeline.artifacts import PairMatches, Photo
from unposed.pipeline.images.pixels import read_grey
from unposed.pipeline.stage import Grain, Sides


@cache
def oracle(file: Path | None, photos: int, seed: int, hard: bool) -> Oracle:
    data = made_up(photos, seed) if file is None else read_safetensors(file)
    return Oracle(data, HARD if hard else Noise())


@dataclass(frozen=True)
class Emulated:
    """Predictions of a file, or of a scene made up for a seed."""

    grain: ClassVar[Grain] = Grain.PAIR
    version: ClassVar[int] = 1

    file: Path | None = None
    photos: int = 8
    scene_seed: int = 0
    hard: bool = False

    def __call__(self, photos: Sides[Photo]) -> PairMatches:
        scene = oracle(self.file, self.photos, self.scene_seed, self.hard)
        a, b = (int(read_grey(photo)[0, 0]) for photo in photos)
        if (a, b) not in scene.number:
            raise ValueError(f"nothing is said of photos {a} and {b}")
        return scene.pair(a, b)
