"""A matcher and a local reconstructor that say of an emulated scene what networks would; photos say by their colour
which ones they are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from emulation import made_up
from oracle import HARD, Noise, Oracle, read_safetensors

from unposed.optim.rotations import exp_so3
from unposed.pipeline.artifacts import DepthGrid, LocalScene, PairMatches, Photo
from unposed.pipeline.images.pixels import read_grey
from unposed.pipeline.stage import Grain, Members, Sides


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


@dataclass(frozen=True)
class EmulatedGroups:
    """Cameras and depths of groups with errors of a network, and some groups with cameras anywhere."""

    grain: ClassVar[Grain] = Grain.GROUP
    version: ClassVar[int] = 1

    photos: int = 8
    scene_seed: int = 0
    wrong: float = 0.0

    def __call__(self, photos: Members[Photo]) -> LocalScene:
        scene = oracle(None, self.photos, self.scene_seed, False)
        members = [int(read_grey(photo)[0, 0]) for photo in photos]
        rng = np.random.default_rng([self.scene_seed, *members])
        turn = np.radians(1.0 / np.sqrt(3.0)) * rng.standard_normal((len(members), 3))
        if rng.random() < self.wrong:
            turn = rng.standard_normal(turn.shape)
        pose = exp_so3(turn) @ scene.cam_from_world[members]
        scale = float(np.exp(0.5 * rng.standard_normal()))
        rotation = pose[:, :, :3] @ pose[0, :, :3].T
        move = scale * (pose[:, :, 3] - np.einsum("kij,j->ki", rotation, pose[0, :, 3]))
        focal = scene.focal_px[members] * np.exp(0.05 * rng.standard_normal(len(members)))
        depth = scale * scene.depth[members, 4::8, 4::8] * np.exp(0.03 * rng.standard_normal((len(members), 1, 1)))
        grids = tuple(
            DepthGrid((4.5, 4.5), (8.0, 8.0), own.astype(np.float16), np.ones(own.shape, np.uint8), float(f))
            for own, f in zip(depth, focal, strict=True)
        )
        overlap = np.full((len(members), len(members)), 0.4, np.float32)
        return LocalScene(np.concatenate([rotation, move[..., None]], axis=2), focal, grids, overlap)
