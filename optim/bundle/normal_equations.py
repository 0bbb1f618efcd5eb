"""The normal equations of bundle adjustment, linearized in pieces that stay in the cache.

With J = [J_camera, J_point] the Jacobian of the weighted residuals r, they are J^T J d = -J^T r. Kept here are the
blocks U = J_camera^T J_camera and V = J_point^T J_point and the gradients J^T r. The blocks W = J_camera^T J_point
between points and cameras, one per observation, are many times as large as all the rest: they are never held for all
observations. Whoever needs them goes through the residual rows, which are linearized anew where they are too many to
be cached.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array
from ..cameras import Vectors
from ..parallel import chunk_map
from .observation_order import ObservationChunk, ObservationOrder, PointBlock
from .reprojection import (
    FreeParameters,
    ObservationNoise,
    linearize_reprojection,
    robust_cost,
    squared_errors,
    transform_points,
)
from .segment_sums import row_sums, segment_sums

MAX_CACHED = 1 << 18
"""Observations whose linearization is cached, some fifty megabytes; larger problems take up to a fifth longer."""


@dataclass(frozen=True, eq=False)
class BundleState:
    """The variables of bundle adjustment, in the order of an ObservationOrder."""

    poses: Array
    """(12, c) cam_from_world, row by row."""
    intrinsics: Array
    """(8, k)."""
    points: Vectors
    """(3, p) world; a tensor in a TorchProblem."""
    sensors: Array | None = None
    """(s, 3, 4) sensor_from_rig of all sensors; None without rigs."""


@dataclass(frozen=True, eq=False)
class ResidualRows:
    """The weighted residuals of n observations, r rows each, and their Jacobians; see linearize_reprojection."""

    augmented: Array
    """(r, pose + intrinsics + 1, n) the augmented Jacobian [J_camera | residual]: one product with its transpose gives
    block and gradient at once."""
    j_point: Array
    """(r, 3, n)."""

    @property
    def j_camera(self) -> Array:
        """(r, pose + intrinsics, n)."""
        return self.augmented[:, :-1]

    @property
    def residual(self) -> Array:
        """(r, n)."""
        return self.augmented[:, -1]


@dataclass(frozen=True, eq=False)
class LinearizedProblem:
    """Residuals around one state."""

    order: ObservationOrder
    state: BundleState
    free: FreeParameters
    noise: ObservationNoise
    fixed: NDArray[np.bool_]
    """(c,) photos whose pose does not move."""
    cache: dict[int, ResidualRows] = field(default_factory=dict)

    def residual_rows(self, block: PointBlock, chunk: ObservationChunk) -> ResidualRows:
        """Linearize a chunk of observations, or recall it."""
        if chunk.rows.start in self.cache:
            return self.cache[chunk.rows.start]
        photo = self.order.photo[chunk.rows]
        k, camera, fisheye = _observed_intrinsics(self.order, self.state, photo)
        augmented, j_point = linearize_reprojection(
            self.state.poses[:, photo],
            self.state.points[:, block.points][:, block.point[chunk.rows_in_block]],
            self.order.xy[:, chunk.rows],
            k,
            camera,
            fisheye,
            self.free,
            self.noise.select(chunk.rows),
            np,
        )
        out = ResidualRows(np.array(augmented), np.array(j_point))
        if self.fixed[block.photos[chunk.photos]].any():
            out.augmented[:, : self.free.pose_size] *= ~self.fixed[photo]
        if chunk.rows.stop <= MAX_CACHED:
            self.cache[chunk.rows.start] = out
        return out


@dataclass(frozen=True, eq=False)
class NormalEquations:
    """J^T J and J^T r at one state, without the blocks between points and cameras.

    A photo has d unknowns: its pose, and those of its camera if it shares it with no other photo.
    """

    problem: LinearizedProblem
    photo: Array
    """(c, d, d)."""
    photo_gradient: Array
    """(c, d)."""
    camera: Array
    camera_gradient: Array
    """(k, q, q) and (k, q) of shared cameras; q is 0 where there are none."""
    photo_camera: Array
    """(c, d, q) between a photo and its shared camera."""
    point: Array
    """(6, p) upper triangles."""
    point_gradient: Array
    """(3, p)."""
    point_prior_gradient: Array | None = None
    """(3, p) the part of it that comes from priors and not from observations; None where there are none."""

    def intrinsics_blocks(self) -> tuple[Array, Array]:
        """Blocks (k, q, q) and gradients (k, q) of the intrinsics, be they part of `camera` or of `photo`; views, so
        that priors can be added in place."""
        if len(self.camera):
            return self.camera, self.camera_gradient
        pose = self.problem.free.pose_size
        return self.photo[:, pose:, pose:], self.photo_gradient[:, pose:]


def reprojection_cost(
    order: ObservationOrder, state: BundleState, free: FreeParameters, noise: ObservationNoise
) -> float:
    """The robust cost of all observations together."""

    def cost(part: tuple[PointBlock, ObservationChunk]) -> float:
        block, chunk = part
        photo, point = order.photo[chunk.rows], block.points_of(chunk)
        _, y = transform_points(state.poses[:, photo], state.points[:, point])
        k, _, fisheye = _observed_intrinsics(order, state, photo)
        squared = squared_errors(y, order.xy[:, chunk.rows], k, fisheye, free, np)
        return float(robust_cost(squared, y[2], noise.select(chunk.rows), np).sum())

    return sum(chunk_map(cost, order.chunks), 0.0)


def build_normal_equations(problem: LinearizedProblem) -> NormalEquations:
    """Build the diagonal blocks and gradients of the normal equations."""
    order, free = problem.order, problem.free
    width = free.pose_size + free.intrinsics_size + 1
    normal = np.zeros((len(order.photos), width, width))
    point_terms = np.empty((9, problem.state.points.shape[1]))
    for block in order.blocks:
        terms = np.empty((9, len(block.point)))
        add = partial(_add_products, problem, block, normal=normal, point_terms=terms)
        chunk_map(add, block.chunks)  # no two chunks of a block have observations of the same photo
        point_terms[:, block.points] = row_sums(block.point, block.points.stop - block.points.start, terms)
    d = free.pose_size + (free.intrinsics_size if order.camera_per_photo else 0)
    camera = np.zeros((0, 0, 1)) if d == width - 1 else segment_sums(order.camera_sums, normal[:, d:-1, d:])
    return NormalEquations(
        problem=problem,
        photo=np.ascontiguousarray(normal[:, :d, :d]),
        photo_gradient=np.ascontiguousarray(normal[:, :d, -1]),
        camera=camera[:, :, :-1],
        camera_gradient=camera[:, :, -1],
        photo_camera=normal[:, :d, d:-1],
        point=point_terms[[0, 1, 2, 4, 5, 7]],
        point_gradient=point_terms[[3, 6, 8]],
    )


def _add_products(
    problem: LinearizedProblem, block: PointBlock, chunk: ObservationChunk, *, normal: Array, point_terms: Array
) -> None:
    """Add the products of a chunk's residual rows to those of its photos (c, width, width), and fill its part of
    `point_terms` (9, observations of the block): V and g of each observation, the upper triangle of J_point^T J_point
    and J_point^T r, row by row."""
    rows = problem.residual_rows(block, chunk)
    offset, scratch = chunk.rows_in_block.start, np.empty(normal.shape[1:])
    for photo in chunk.photos:
        own = slice(block.photo_start[photo] - offset, block.photo_start[photo + 1] - offset)
        for row in rows.augmented[:, :, own]:
            normal[block.photos[photo]] += np.dot(row, row.T, out=scratch)
    j_point_r = np.concatenate([rows.j_point, rows.augmented[:, -1:]], axis=1)
    products = [sum(row[j] * row[j:] for row in j_point_r) for j in range(3)]
    np.concatenate(products, out=point_terms[:, chunk.rows_in_block])


def _observed_intrinsics(
    order: ObservationOrder, state: BundleState, photo: NDArray[np.int32]
) -> tuple[Vectors, NDArray[np.int64], bool | NDArray[np.bool_]]:
    """Intrinsics and camera per observation, and whether it is a fisheye; plain numbers where there is one camera."""
    camera = order.camera_of_photo[photo]
    if len(order.cameras) == 1:
        return state.intrinsics[:, 0].tolist(), camera, bool(order.fisheye[0])
    return state.intrinsics[:, camera], camera, order.fisheye[camera] if order.fisheye.any() else False
