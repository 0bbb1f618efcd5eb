"""Key points of finished models from a file: where the models have them, and which points they observe."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from unposed.optim.arrays import Array, Index
from unposed.optim.bundle.problem import Bundle
from unposed.optim.mapping.triangulation import keep_observations
from unposed.optim.view_graph import Keypoints
from unposed.pipeline.array_files import read_npz
from unposed.pipeline.artifacts import Photos
from unposed.pipeline.stage import StageError

MAX_ALIGNED_SHARE = 0.01
"""A key point that the file has further from where it is now, as a share of the longer side, is another one."""


@dataclass(frozen=True, eq=False)
class KnownObservations:
    """Observed key points of a collection as finished models have them."""

    row: Index
    """(k,) rows of the collection's stacked key points."""
    xy: Array
    """(k, 2) pixels."""
    point: Index
    """(k,) point of each; without points, zeros."""
    points: Array
    """(n, 3) world; none where the file has none."""

    def observed(self, cameras: Bundle, photo: Index) -> Bundle:
        """The cameras of a bundle, with those points that two of its photos observe; `photo` (k,) of each key point."""
        posed = np.isfinite(cameras.cam_from_world[:, 0, 0])
        own = np.flatnonzero(posed[photo]) if len(self.points) else np.zeros(0, np.int64)
        own = own[np.lexsort((self.row[own], self.point[own]))]
        bundle = replace(
            cameras, points=self.points, xy=self.xy[own], photo=photo[own], point=self.point[own], row=self.row[own]
        )
        return keep_observations(bundle, np.ones(len(own), bool))


def known_keypoints(file: Path, photos: Photos, keypoints: Keypoints) -> KnownObservations:
    """Those of a file. Key points that are others by now are left out."""
    found = _read(file)
    index = {photo.name: row for row, photo in enumerate(photos.photos)}
    rows, kept = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for name, first, last in zip(found.names, found.start[:-1].tolist(), found.start[1:].tolist(), strict=True):
        if name not in index:
            continue
        own = keypoints.rows_of(index[name])
        at = first + np.flatnonzero(found.number[first:last] < own.stop - own.start)
        row = own.start + found.number[at]
        bound_px = MAX_ALIGNED_SHARE * float(keypoints.size[index[name]].max())
        same = np.linalg.norm(keypoints.xy[row] - found.xy[at], axis=1) < bound_px
        rows.append(row[same])
        kept.append(at[same])
    at = np.concatenate(kept)
    return KnownObservations(np.concatenate(rows), found.xy[at], found.point[at], found.points)


@dataclass(frozen=True, eq=False)
class _File:
    names: list[str]
    start: Index
    number: Index
    xy: Array
    point: Index
    points: Array


def _read(file: Path) -> _File:
    try:
        found = read_npz(file)
        names, start = [str(name) for name in found["names"]], found["start"].astype(np.int64)
        number, xy = found["keypoint"].astype(np.int64), found["xy"].astype(np.float64).reshape(-1, 2)
        points = found.get("points", np.zeros((0, 3))).astype(np.float64).reshape(-1, 3)
        point = found["point"].astype(np.int64) if len(points) else np.zeros(len(number), np.int64)
        if len(start) != len(names) + 1 or not len(number) == len(xy) == len(point):
            raise ValueError("arrays of different lengths")
        if start[0] != 0 or start[-1] != len(xy) or (np.diff(start) < 0).any() or (number < 0).any():
            raise ValueError("rows or numbers that no photo has")
        if len(points) and ((point < 0) | (point >= len(points))).any():
            raise ValueError("points that are not there")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StageError(f"{file.name}: cannot be read as key points: {error}") from error
    return _File(names, start, number, xy, point, points)
