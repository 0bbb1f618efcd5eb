"""The normal equations of bundle adjustment, linearised photo after photo in pieces that stay in the cache."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from ..cameras import Vectors
from .blocks import selection, sums
from .reprojection import Freedom, Noise, carry, count, linearise, squared_errors

Array = NDArray[np.float64]
Index = NDArray[np.int64]

CHUNK = 4096
"""Observations at a time: their vectors fit into the cache, and the interpreter's share is small."""


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
class Sights:
    """The observations photo after photo, by point within a photo, and what else stays the same in an adjustment."""

    photos: Index
    cameras: Index
    """The photos and cameras that see something; below, they are numbered in this order."""
    order: Index
    """(m,) where each observation stands in the bundle."""
    photo: Index
    point: Index
    camera: Index
    """(m,)."""
    camera_of: Index
    """(c,)."""
    bounds: list[int]
    """(c + 1,) photo i has the observations from bounds[i] to bounds[i + 1]."""
    xy: Array
    """(2, m)."""
    fisheye: NDArray[np.bool_]
    """(k,)."""
    chunks: list[tuple[int, int]]
    """Runs of photos to look at together."""
    by_point: csr_matrix
    """(p, m) for sums over the observations of each point."""
    by_camera: csr_matrix
    """(k, c) for sums over the photos of each camera."""

    @property
    def own(self) -> bool:
        """Whether every photo has a camera of its own: then their unknowns go together."""
        return len(self.cameras) == len(self.photos)


@dataclass(frozen=True, eq=False)
class System:
    """Normal equations at one state. A photo has d unknowns: its pose, and those of its camera if it is its own."""

    pose: int
    """Unknowns of a pose."""
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
    cross: Array
    """(3, d, m) between the point and the photo of an observation."""
    camera_cross: Array
    """(v, 3, q) between points and shared cameras, one for each such pair; see schur.Structure."""

    def lens(self) -> tuple[Array, Array]:
        """Normal matrices (k, q, q) and gradients (k, q) of the cameras, wherever they stand; views, to be added to."""
        if len(self.camera):
            return self.camera, self.camera_gradient
        pose = self.pose
        return self.photo[:, pose:, pose:], self.photo_gradient[:, pose:]


def arrange(photo: Index, point: Index, camera_of: Index, xy: Array, fisheye: NDArray[np.bool_], points: int) -> Sights:
    """The observations of a bundle, arranged."""
    order = np.lexsort((point, photo))
    photos, compact = np.unique(photo[order], return_inverse=True)
    cameras, camera_of = np.unique(camera_of[photos], return_inverse=True)
    bounds = np.searchsorted(compact, np.arange(len(photos) + 1)).tolist()
    chunks, begin = [], 0
    for end in range(1, len(photos) + 1):
        if end == len(photos) or bounds[end + 1] - bounds[begin] > CHUNK:
            chunks.append((begin, end))
            begin = end
    ordered = point[order]
    return Sights(
        photos=photos,
        cameras=cameras,
        order=order,
        photo=compact,
        point=ordered,
        camera=camera_of[compact],
        camera_of=camera_of,
        bounds=bounds,
        xy=np.ascontiguousarray(xy[order].T),
        fisheye=fisheye[cameras],
        chunks=chunks,
        by_point=selection(ordered, points),
        by_camera=selection(camera_of, len(cameras)),
    )


def cost(sights: Sights, state: State, free: Freedom, noise: Noise) -> float:
    """Of all observations together."""
    total = 0.0
    for a, b in sights.chunks:
        part = slice(sights.bounds[a], sights.bounds[b])
        _, y = carry(state.poses[:, sights.photo[part]], state.points[:, sights.point[part]])
        k, fisheye = _lenses(sights, state, part)
        squared = squared_errors(y, sights.xy[:, part], k, fisheye, free, np)
        total += float(count(squared, y[2], noise.part(part), np).sum())
    return total


def normal_equations(sights: Sights, state: State, free: Freedom, noise: Noise, by_view: csr_matrix | None) -> System:
    """`by_view` sums over the observations that a point has in a shared camera; None where cameras are not shared."""
    c, m, q = len(sights.photos), len(sights.photo), free.lens
    own = by_view is None
    d = free.pose + (q if own else 0)
    width = free.pose + q + 1
    normal = np.empty((c, width, width))
    cross, camera_cross = np.empty((3, d, m)), np.empty((m, 0 if own else 3 * q))
    by_point = np.empty((m, 9))
    scratch = np.empty((width, width))
    for a, b in sights.chunks:
        part = slice(sights.bounds[a], sights.bounds[b])
        k, fisheye = _lenses(sights, state, part)
        rows, rows_by_point = linearise(
            state.poses[:, sights.photo[part]],
            state.points[:, sights.point[part]],
            sights.xy[:, part],
            k,
            sights.camera[part],
            fisheye,
            free,
            noise.part(part),
            np,
        )
        jacobian: Array = np.array(rows)
        along: Array = np.array([[*p, r[-1]] for p, r in zip(rows_by_point, rows, strict=True)])
        for i in range(a, b):
            own_part = slice(sights.bounds[i] - part.start, sights.bounds[i + 1] - part.start)
            np.dot(jacobian[0, :, own_part], jacobian[0, :, own_part].T, out=normal[i])
            for row in jacobian[1:, :, own_part]:
                normal[i] += np.dot(row, row.T, out=scratch)
        np.multiply(along[0, :3, None], jacobian[0, :d], out=cross[:, :, part])
        for row, across in zip(jacobian[1:], along[1:], strict=True):
            cross[:, :, part] += across[:3, None] * row[:d]
        if not own:
            product = sum(across[:3, None] * row[d:-1] for row, across in zip(jacobian, along, strict=True))
            camera_cross[part] = np.reshape(product, (3 * q, -1)).T
        terms = np.concatenate([sum(row[j] * row[j:] for row in along) for j in range(3)])
        by_point[part] = terms.T
    gathered = np.ascontiguousarray(np.asarray(sights.by_point @ by_point).T)
    views = np.zeros((0, 0)) if by_view is None else np.asarray(by_view @ camera_cross)
    camera = np.zeros((0, 0, 1)) if own else sums(sights.by_camera, normal[:, d:-1, d:])
    return System(
        pose=free.pose,
        photo=np.ascontiguousarray(normal[:, :d, :d]),
        photo_gradient=np.ascontiguousarray(normal[:, :d, -1]),
        camera=camera[:, :, :-1],
        camera_gradient=camera[:, :, -1],
        mixed=normal[:, :d, d:-1],
        point=gathered[[0, 1, 2, 4, 5, 7]],
        point_gradient=gathered[[3, 6, 8]],
        cross=cross,
        camera_cross=views.reshape(len(views), 3, 0 if own else q),
    )


def _lenses(sights: Sights, state: State, part: slice) -> tuple[Vectors, bool | NDArray[np.bool_]]:
    """Intrinsics per observation, and which are of fisheyes; plain numbers where there is one camera."""
    if len(sights.cameras) == 1:
        return state.intrinsics[:, 0].tolist(), bool(sights.fisheye[0])
    camera = sights.camera[part]
    return state.intrinsics[:, camera], sights.fisheye[camera] if sights.fisheye.any() else False
