"""Pair predictions that emulate a network on scenes with known cameras: reads the files, and makes harder ones of them.

Such a file holds depth maps, cameras and matches of all pairs, and the parameters of smooth random errors: of every
photo's depth, and of the depth, scale and focal length in every single prediction.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unposed.pipeline.artifacts import DepthGrid, PairMatches

Array = NDArray[np.float64]
STEP_PX = 8
DTYPES = {"F16": "<f2", "F32": "<f4", "I16": "<i2", "I32": "<i4"}


@dataclass(frozen=True)
class Noise:
    """How much worse than in the file: factors on its random errors, and what it has none of."""

    scale: float = 1.0
    photo_depth: float = 1.0
    pair_depth: float = 1.0
    focal: float = 1.0
    outliers: float = 0.0
    """Share of the matches that lead anywhere, with the confidence of good ones."""
    wrong_pairs: float = 0.0
    """Share of the pairs whose second photo is taken for another one: consistent, confident, and wrong."""
    seed: int = 0


HARD = Noise(scale=20 / 8, photo_depth=3 / 1.5, pair_depth=5 / 2, focal=5 / 2, outliers=0.1, wrong_pairs=0.03)


class Oracle:
    """Truth and predictions of one scene. Pixels are the file's, in which the principal point is the middle."""

    def __init__(self, data: dict[str, NDArray[Any]], noise: Noise | None = None) -> None:
        self.data = data
        self.noise = noise = noise or Noise()
        self.pairs: NDArray[np.int64] = data["pairs"].astype(np.int64)
        self.depth = data["depth"].astype(np.float64)
        self.photos, self.height, self.width = self.depth.shape
        self.focal_px = data["gt_focal"].astype(np.float64)
        rotation = data["gt_cam2w"][:, :3, :3].astype(np.float64).transpose(0, 2, 1)
        centre = data["gt_cam2w"][:, :3, 3].astype(np.float64)
        self.cam_from_world: Array = np.concatenate([rotation, -rotation @ centre[:, :, None]], axis=2)
        v, u = np.mgrid[: self.height, : self.width] + 0.5
        waves = [(ky, kx) for ky in range(4) for kx in range(4) if ky or kx]
        self.basis = np.array(
            [np.cos(np.pi * ky * v / self.height) * np.cos(np.pi * kx * u / self.width) for ky, kx in waves]
        )
        rng = np.random.default_rng(noise.seed)
        count = round(noise.wrong_pairs * len(self.pairs))
        self.wrong = set(rng.choice(len(self.pairs), count, replace=False).tolist())
        self.number = {(int(a), int(b)): k for k, (a, b) in enumerate(self.pairs)}

    def pair(self, a: int, b: int) -> PairMatches:
        """What the network says of photos a < b."""
        k, data, noise = self.number[a, b], self.data, self.noise
        rng = np.random.default_rng([noise.seed, k])
        seen = b
        if k in self.wrong:  # what it says of b is what it would say of another photo
            partners = [c for first, c in self.number if first == a and c != b and self._count(a, c) >= 50]
            if partners:
                seen = int(rng.choice(partners))
                k = self.number[a, seen]
        rows = slice(*data["match_offset"][k : k + 2])
        xy_a, xy_b = data["xy1"][rows].astype(np.float32), data["xy2"][rows].astype(np.float32)
        lost = rng.random(len(xy_b)) < noise.outliers
        xy_b[lost] = rng.integers(0, (self.width, self.height), (int(lost.sum()), 2))
        confidence = data["match_conf"][rows].astype(np.float32)
        maps = [self._own_depth(k, side, photo) for side, photo in enumerate((a, seen))]
        grids = tuple(self._grid(k, side, photo, maps[side]) for side, photo in enumerate((a, seen)))
        depths = [
            depth[xy[:, 1].astype(int), xy[:, 0].astype(int)].astype(np.float32)
            for depth, xy in zip(maps, (xy_a, xy_b), strict=True)
        ]
        weight = confidence / (1.0 + confidence)
        return PairMatches(xy_a, xy_b, weight, depth_a=depths[0], depth_b=depths[1], grids=(grids[0], grids[1]))

    def forget_predictions(self) -> None:
        """Once they have been asked for, only the cameras matter, and they are little."""
        self.data, self.depth, self.basis = {}, self.depth[:0], self.basis[:0]

    def _own_depth(self, k: int, side: int, photo: int) -> Array:
        """(h, w) what the photo's own view says in the prediction in its own frame."""
        data, noise = self.data, self.noise
        waves = noise.photo_depth * data["bias"][photo] + noise.pair_depth * data["pp_coef"][k, side, 0]
        scale = float(data["pp_scale"][k, side]) ** noise.scale
        depth: Array = scale * self.depth[photo] * np.exp(np.tensordot(waves.astype(np.float64), self.basis, 1))
        return depth

    def _grid(self, k: int, side: int, photo: int, depth: Array) -> DepthGrid:
        half = STEP_PX // 2
        data = self.data
        confidence = 1.0 + float(data["pp_amp"][k, side, 0]) * data["confmap"][photo].astype(np.float32)
        focal = float(self.focal_px[photo] * data["pp_g"][k, side, 0] ** self.noise.focal)
        thin = (slice(half, None, STEP_PX), slice(half, None, STEP_PX))
        return DepthGrid(
            (float(half), float(half)),
            (float(STEP_PX), float(STEP_PX)),
            depth[thin].astype(np.float32),
            confidence[thin],
            focal,
        )

    def _count(self, a: int, b: int) -> int:
        k = self.number[a, b]
        return int(np.diff(self.data["match_offset"][k : k + 2])[0])


def read_safetensors(file: Path) -> dict[str, NDArray[Any]]:
    """All tensors of a file: its length of header, its header in JSON, its data."""
    content = file.read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    out = {}
    for name, entry in json.loads(content[8:begin]).items():
        if name != "__metadata__":
            start, end = entry["data_offsets"]
            array = np.frombuffer(content[begin + start : begin + end], DTYPES[entry["dtype"]])
            out[name] = array.reshape(entry["shape"])
    return out
