"""The normal equations of bundle adjustment, linearised in pieces that stay in the cache.

What a point and a photo have in common is as large as all the rest many times over. It is never held of all
observations: whoever needs it goes through them, and linearises those anew that are too many to be remembered.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..cameras import Vectors
from .observation_order import Block, Chunk, Sights
from .reprojection import Freedom, Noise, carry, count, linearise, squared_errors
from .segment_sums import sums

Array = NDArray[np.float64]

REMEMBERED = 1 << 18
"""Observations whose linearisation is remembered, some fifty megabytes; larger problems take up to a fifth longer."""


@dataclass(frozen=True, eq=False)
class State:
    """What an adjustment changes. Photos and cameras are those that see something."""

    poses: Array
    """(12, c) cam_from_world, row by row."""
    intrinsics: Array
    """(8, k)."""
    points: Vectors
    """(3, p) world; where an engine of torch is at work, its tensor."""


@dataclass(frozen=True, eq=False)
class Rows:
    """The weighted residuals of some observations, see reprojection.linearise."""

    by_camera: Array
    """(r, pose + lens + 1, n) derivatives by the unknowns of the photo and its camera, and the residuals."""
    by_point: Array
    """(r, 3, n)."""


@dataclass(frozen=True, eq=False)
class Linearised:
    """Residuals around one state."""

    sights: Sights
    state: State
    free: Freedom
    noise: Noise
    held: NDArray[np.bool_]
    """(c,) photos that do not move."""
    remembered: dict[int, Rows] = field(default_factory=dict)

    def rows(self, block: Block, chunk: Chunk) -> Rows:
        """Of a chunk."""
        part = chunk.part
        if part.start in self.remembered:
            return self.remembered[part.start]
        photo = self.sights.photo[part]
        k, camera, fisheye = _lenses(self.sights, self.state, photo)
        rows, by_point = linearise(
            self.state.poses[:, photo],
            self.state.points[:, block.points][:, block.point[chunk.inside]],
            self.sights.xy[:, part],
            k,
            camera,
            fisheye,
            self.free,
            self.noise.part(part),
            np,
        )
        out = Rows(np.array(rows), np.array(by_point))
        if self.held[block.photos[chunk.runs]].any():
            out.by_camera[:, : self.free.pose] *= ~self.held[photo]
        if part.stop <= REMEMBERED:
            self.remembered[part.start] = out
        return out


@dataclass(frozen=True, eq=False)
class System:
    """Normal equations at one state. A photo has d unknowns: its pose, and those of its camera if it is its own."""

    at: Linearised
    photo: Array
    """(c, d, d)."""
    photo_gradient: Array
    """(c, d)."""
    camera: Array
    camera_gradient: Array
    """(k, q, q) and (k, q) of shared cameras; q is 0 where there are none."""
    mixed: Array
    """(c, d, q) between a photo and its shared camera."""
    point: Array
    """(6, p) upper triangles."""
    point_gradient: Array
    """(3, p)."""

    def lens(self) -> tuple[Array, Array]:
        """Normal matrices (k, q, q) and gradients (k, q) of the cameras, wherever they stand; views, to be added to."""
        if len(self.camera):
            return self.camera, self.camera_gradient
        pose = self.at.free.pose
        return self.photo[:, pose:, pose:], self.photo_gradient[:, pose:]


def cost(sights: Sights, state: State, free: Freedom, noise: Noise) -> float:
    """Of all observations together."""
    total = 0.0
    for block in sights.blocks:
        points = state.points[:, block.points]
        for chunk in block.chunks:
            photo = sights.photo[chunk.part]
            _, y = carry(state.poses[:, photo], points[:, block.point[chunk.inside]])
            k, _, fisheye = _lenses(sights, state, photo)
            squared = squared_errors(y, sights.xy[:, chunk.part], k, fisheye, free, np)
            total += float(count(squared, y[2], noise.part(chunk.part), np).sum())
    return total


def normal_equations(at: Linearised) -> System:
    """Without what points and photos have in common."""
    sights, free = at.sights, at.free
    width = free.pose + free.lens + 1
    normal = np.zeros((len(sights.photos), width, width))
    gathered = np.empty((9, at.state.points.shape[1]))
    scratch = np.empty((width, width))
    for block in sights.blocks:
        terms = np.empty((len(block.point), 9))
        for chunk in block.chunks:
            rows = at.rows(block, chunk)
            for run in chunk.runs:
                own = slice(block.bounds[run] - chunk.inside.start, block.bounds[run + 1] - chunk.inside.start)
                for row in rows.by_camera[:, :, own]:
                    normal[block.photos[run]] += np.dot(row, row.T, out=scratch)
            along = np.concatenate([rows.by_point, rows.by_camera[:, -1:]], axis=1)
            products = [sum(row[j] * row[j:] for row in along) for j in range(3)]
            terms[chunk.inside] = np.concatenate(products).T
        gathered[:, block.points] = np.asarray(block.by_point @ terms).T
    d = free.pose + (free.lens if sights.own else 0)
    camera = np.zeros((0, 0, 1)) if d == width - 1 else sums(sights.by_camera, normal[:, d:-1, d:])
    return System(
        at=at,
        photo=np.ascontiguousarray(normal[:, :d, :d]),
        photo_gradient=np.ascontiguousarray(normal[:, :d, -1]),
        camera=camera[:, :, :-1],
        camera_gradient=camera[:, :, -1],
        mixed=normal[:, :d, d:-1],
        point=gathered[[0, 1, 2, 4, 5, 7]],
        point_gradient=gathered[[3, 6, 8]],
    )


def _lenses(
    sights: Sights, state: State, photo: NDArray[np.int32]
) -> tuple[Vectors, NDArray[np.int64], bool | NDArray[np.bool_]]:
    """Intrinsics and camera per observation, and which are of fisheyes; plain numbers where there is one camera."""
    camera = sights.camera_of_photo[photo]
    if len(sights.cameras) == 1:
        return state.intrinsics[:, 0].tolist(), camera, bool(sights.fisheye[0])
    return state.intrinsics[:, camera], camera, sights.fisheye[camera] if sights.fisheye.any() else False
