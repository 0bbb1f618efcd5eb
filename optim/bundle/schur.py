"""The damped step of bundle adjustment by the Schur complement: points are eliminated, cameras solved for, points found
by back substitution.

With the normal equations in blocks of cameras (U, gradient g_c), points (V, g_p) and between them (W),

    [ U    W ] [ d_c ]     [ g_c ]            S d_c = -(g_c - W V^-1 g_p),    S = U - W V^-1 W^T
    [ W^T  V ] [ d_p ] = - [ g_p ],   hence   d_p = -V^-1 (g_p + W^T d_c).

V consists of one 3 x 3 block per point. With V^-1 = R^T R (see packed_cholesky) a point couples its cameras by products
of L = R W^T, three rows per observation; only photos with common points are coupled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from ..arrays import Array, Index
from ..cameras import Vectors
from ..parallel import chunk_map, even_blocks, even_slices
from ..rigs import Rigs
from .arrowhead import ArrowheadSystem, SolvePlan, plan_solve, solve_arrowhead
from .block_products import CovisiblePairs, integer_lexsort, pairs_between, pairs_within
from .normal_equations import NormalEquations
from .observation_order import ObservationChunk, ObservationOrder, PointBlock
from .packed_cholesky import inverse_cholesky, multiply_lower, multiply_lower_transposed
from .rig_steps import RigStructure, frame_system, photo_changes, rig_motion, rig_structure, tied_photos
from .segment_sums import row_sums

OWNERS_AT_ONCE = 64
"""Photos whose observations a thread eliminates at a time."""

POINTS_AT_ONCE = 4096
"""Points whose own blocks a thread inverts, or multiplies by, at a time."""


@dataclass(frozen=True, eq=False)
class CameraPointPairs:
    """Pairs of a shared camera and a point of a block that it sees: the derivatives of all observations of one point by
    one camera add up before they are multiplied."""

    point: Index
    camera: Index
    """(v,) sorted by camera, then by point; points are counted within the block."""
    camera_start: list[int]
    """(k + 1,) camera i has the pairs camera_start[i] to camera_start[i + 1]."""
    observation_sums: csr_matrix
    """(v, m) segment matrix: sums over the observations of each pair."""
    photo_camera: CovisiblePairs
    """Observations and camera-point pairs of the same point; rows are positions in PointBlock.photos."""
    camera_camera: CovisiblePairs
    """Camera-point pairs of the same point."""


@dataclass(frozen=True, eq=False)
class CovisibilityBlock:
    """Which photos and shared cameras the points of a block couple."""

    photo_photo: CovisiblePairs
    """Observations of the same point; rows and columns are positions in PointBlock.photos."""
    place: Index
    """(groups,) the off-diagonal block of the reduced system that each group of these pairs is subtracted from."""
    shared_cameras: CameraPointPairs | None
    """None where no camera is shared."""


@dataclass(frozen=True, eq=False)
class SchurStructure:
    """Sparsity structure of the reduced system: found once, used in every step."""

    blocks: list[CovisibilityBlock]
    """One for each block of points."""
    plan: SolvePlan
    rigs: RigStructure | None = None
    """None where all photos move by themselves."""


@dataclass(frozen=True, eq=False)
class BundleStep:
    """Changes of all unknowns."""

    photos: Array
    """(c, d)."""
    cameras: Array
    """(k, q) of shared cameras."""
    points: Array
    """(3, p)."""
    sensors: Array | None = None
    """(r, 6) of refined sensors of rigs; `photos` are then what the photos move with their frames."""


@dataclass(frozen=True, eq=False)
class ReducedSystem:
    """S d_c = right: the system of photos and shared cameras after elimination of the points."""

    matrix: ArrowheadSystem
    right: Array
    root: Array
    """(6, p) the inverse Cholesky factors R of the points."""


def schur_structure(
    order: ObservationOrder, pose_size: int, intrinsics_size: int, rigs: Rigs | None = None
) -> SchurStructure:
    """Find which blocks of the reduced system are not zero, for so many unknowns per pose and per camera."""
    shared = intrinsics_size > 0 and not order.camera_per_photo
    c = len(order.photos)
    photo_photo, shared_cameras, codes = [], [], []
    for block in order.blocks:
        position = np.repeat(np.arange(len(block.photos)), np.diff(block.photo_start))
        pairs = pairs_within(block.point, position)
        photo_photo.append(pairs)
        codes.append(block.photos[pairs.row] * c + block.photos[pairs.column])
        camera_of_photo = order.camera_of_photo[block.photos]
        shared_cameras.append(
            _camera_point_pairs(block, position, camera_of_photo, len(order.cameras)) if shared else None
        )
    every = np.sort(np.concatenate([np.zeros(0, np.int64), *codes]))
    every = every[np.diff(every, prepend=-1) > 0]
    place = [np.searchsorted(every, code) for code in codes]
    size = pose_size + (0 if shared else intrinsics_size)
    border = len(order.cameras) * intrinsics_size if shared else 0
    plan = plan_solve(every // c, every % c, c, size, border)
    return SchurStructure(
        [CovisibilityBlock(*each) for each in zip(photo_photo, place, shared_cameras, strict=True)],
        plan,
        None if rigs is None else rig_structure(tied_photos(rigs, order.photos, pose_size), plan, pose_size, border),
    )


def _camera_point_pairs(block: PointBlock, position: Index, camera_of_photo: Index, cameras: int) -> CameraPointPairs:
    """From the position of each observation's photo in the block (m,) and the cameras of its photos (r,)."""
    camera = camera_of_photo[position]
    order = integer_lexsort(block.point, camera)
    point, camera = block.point[order].astype(np.int64), camera[order]
    first = np.flatnonzero((np.diff(point, prepend=-1) != 0) | (np.diff(camera, prepend=-1) != 0))
    m = len(order)
    observation_sums = csr_matrix((np.ones(m), order.astype(np.int32), np.append(first, m)), shape=(len(first), m))
    point, camera = point[first], camera[first]
    return CameraPointPairs(
        point=point,
        camera=camera,
        camera_start=np.searchsorted(camera, np.arange(cameras + 1)).tolist(),
        observation_sums=observation_sums,
        photo_camera=pairs_between(block.point, position, point, camera),
        camera_camera=pairs_within(point, camera),
    )


def reduced_system(structure: SchurStructure, equations: NormalEquations, damping: float) -> ReducedSystem:
    """Eliminate the points from damped normal equations."""
    order, plan = equations.problem.order, structure.plan
    c, d = equations.photo_gradient.shape
    k, q = equations.camera_gradient.shape
    root, gradient = np.empty_like(equations.point), np.empty_like(equations.point_gradient)

    def decorrelate(points: slice) -> None:
        root[:, points] = inverse_cholesky(damp_points(equations.point[:, points], damping))
        gradient[:, points] = multiply_lower(root[:, points], equations.point_gradient[:, points])

    chunk_map(decorrelate, even_slices(root.shape[1], POINTS_AT_ONCE))
    photo, photo_right = damp_blocks(equations.photo, damping), -equations.photo_gradient
    camera, camera_right = damp_blocks(equations.camera, damping), -equations.camera_gradient
    off_diagonal = np.zeros((len(plan.row), d, d))
    border, corner = np.zeros((c, k, d, q)), np.zeros((k, k, q, q))
    if k:
        border[np.arange(c), order.camera_of_photo] = equations.photo_camera
    for block, covisible in zip(order.blocks, structure.blocks, strict=True):
        block_root, block_gradient = root[:, block.points], np.ascontiguousarray(gradient[:, block.points].T)
        by_photo, w_camera = _point_derivatives(equations, block, block_root)
        _eliminate(photo, photo_right, block.photos, block.photo_start, by_photo, block_gradient[block.point])
        off_diagonal[covisible.place] -= covisible.photo_photo.sum_products(by_photo, by_photo)
        if covisible.shared_cameras is not None:
            pairs = covisible.shared_cameras
            by_camera = np.asarray(pairs.observation_sums @ w_camera).reshape(-1, 3, q).transpose(1, 2, 0)
            by_camera = multiply_lower(block_root[:, None, pairs.point], by_camera)
            by_camera = np.ascontiguousarray(by_camera.transpose(2, 0, 1))
            _eliminate(camera, camera_right, np.arange(k), pairs.camera_start, by_camera, block_gradient[pairs.point])
            photo_camera, camera_camera = pairs.photo_camera, pairs.camera_camera
            border[block.photos[photo_camera.row], photo_camera.column] -= photo_camera.sum_products(
                by_photo, by_camera
            )
            corner[camera_camera.row, camera_camera.column] -= camera_camera.sum_products(by_camera, by_camera)
    corner += corner.transpose(1, 0, 3, 2)
    corner[np.arange(k), np.arange(k)] = camera
    twice = plan.row == plan.column  # photos that see a point more than once couple with themselves
    np.add.at(photo, plan.row[twice], off_diagonal[twice] + off_diagonal[twice].transpose(0, 2, 1))
    off_diagonal[twice] = 0.0
    matrix = ArrowheadSystem(
        diagonal=photo,
        off_diagonal=off_diagonal,
        border=border.transpose(0, 2, 1, 3).reshape(c * d, k * q),
        corner=corner.transpose(0, 2, 1, 3).reshape(k * q, k * q),
    )
    return ReducedSystem(matrix, np.concatenate([photo_right.ravel(), camera_right.ravel()]), root)


def solve_step(structure: SchurStructure, equations: NormalEquations, damping: float) -> BundleStep | None:
    """Solve the damped normal equations for one step of Levenberg-Marquardt; None where the reduced system is not
    positive definite."""
    reduced = reduced_system(structure, equations, damping)
    found = _solution(structure, equations, reduced)
    if found is None:
        return None
    photos, sensors, cameras, moved = found
    camera_of_photo = equations.problem.order.camera_of_photo
    changes = np.concatenate([moved, cameras[camera_of_photo]], axis=1) if len(cameras) else moved
    gradient = _point_gradients_after(equations, changes)

    def move(points: slice) -> None:
        root = reduced.root[:, points]
        gradient[:, points] = -multiply_lower_transposed(root, multiply_lower(root, gradient[:, points]))

    chunk_map(move, even_slices(gradient.shape[1], POINTS_AT_ONCE))
    return BundleStep(photos, cameras, gradient, sensors)


def _solution(
    structure: SchurStructure, equations: NormalEquations, reduced: ReducedSystem
) -> tuple[Array, Array | None, Array, Array] | None:
    """Steps of photos with their frames (c, d), of sensors (r, 6), of cameras (k, q), and of photos in all (c, d)."""
    plan, matrix, right, rigs, motion = structure.plan, reduced.matrix, reduced.right, structure.rigs, None
    state, (c, d) = equations.problem.state, equations.photo_gradient.shape
    if rigs is not None and state.sensors is not None:
        motion = rig_motion(rigs, state.poses, state.sensors, d)
        matrix, right = frame_system(rigs, motion, plan, matrix, right)
        plan = rigs.plan
    solution = solve_arrowhead(plan, matrix, right)
    if solution is None:
        return None
    cameras = solution[len(solution) - equations.camera_gradient.size :].reshape(equations.camera_gradient.shape)
    if rigs is None or motion is None:
        photos = solution[: c * d].reshape(c, d)
        return photos, None, cameras, photos
    frames, sensors = np.split(solution[: len(solution) - cameras.size].reshape(-1, d), [rigs.frames])
    photos, in_all = photo_changes(rigs, motion, frames, sensors)
    return photos, sensors, cameras, in_all


def damp_blocks(blocks: Array, damping: float) -> Array:
    """Blocks (n, d, d) with their diagonal times 1 + damping (Marquardt)."""
    out = blocks.copy()
    i = np.arange(blocks.shape[1])
    out[:, i, i] = damp_diagonal(blocks[:, i, i], damping)
    return out


def damp_points(point: Vectors, damping: float, xp: Any = np) -> Vectors:
    """The same of packed upper triangles (6, p), of numpy or torch."""
    a, b, c, d, e, f = point
    return xp.stack(
        [damp_diagonal(a, damping, xp), b, c, damp_diagonal(d, damping, xp), e, damp_diagonal(f, damping, xp)]
    )


def damp_diagonal(diagonal: Vectors, damping: float, xp: Any = np) -> Vectors:
    """The diagonal of such blocks. One is added where nothing is observed, so that the matrix stays invertible and the
    unknown where it is."""
    return diagonal * (1.0 + damping) + xp.where(diagonal > 0, 1e-12 * diagonal, xp.ones_like(diagonal))


def _point_derivatives(equations: NormalEquations, block: PointBlock, root: Array) -> tuple[Array, Array]:
    """L = R J_point^T J_photo (m, 3, d) of each observation, and J_point^T J_camera (m, 3 q) by shared cameras, which
    is multiplied by R later, once it is summed."""
    d, q = equations.photo_gradient.shape[1], equations.camera_gradient.shape[1]
    by_photo, w_camera = np.empty((len(block.point), 3, d)), np.empty((len(block.point), 3 * q))

    def derivatives(chunk: ObservationChunk) -> None:
        rows = equations.problem.residual_rows(block, chunk)
        w = rows.j_point[0, :, None] * rows.j_camera[0]
        for j_point, j_camera in zip(rows.j_point[1:], rows.j_camera[1:], strict=True):
            w += j_point[:, None] * j_camera
        chunk_root = root[:, None, block.point[chunk.rows_in_block]]
        by_photo[chunk.rows_in_block] = multiply_lower(chunk_root, w[:, :d]).transpose(2, 0, 1)
        if q:
            w_camera[chunk.rows_in_block] = w[:, d:].reshape(3 * q, -1).T

    chunk_map(derivatives, block.chunks)
    return by_photo, w_camera


def _eliminate(
    diagonal: Array, right: Array, owner: Index, start: list[int], derivatives: Array, gradient: Array
) -> None:
    """Subtract L^T L from the diagonal block (d, d), and add L^T R g_p to the right side (d,), of each owner, in place.

    Owner owner[i] has the derivatives L (n, 3, d) and gradients R g_p (n, 3) from start[i] to start[i + 1].
    """
    d = derivatives.shape[2]
    flat, flat_gradient, owners = derivatives.reshape(-1, d), gradient.ravel(), owner.tolist()

    def eliminate(some: range) -> None:
        for place in some:
            i, rows = owners[place], slice(3 * start[place], 3 * start[place + 1])
            diagonal[i] -= np.dot(flat[rows].T, flat[rows])
            right[i] += np.dot(flat[rows].T, flat_gradient[rows])

    chunk_map(eliminate, even_blocks(len(owners), OWNERS_AT_ONCE))


def _point_gradients_after(equations: NormalEquations, changes: Array) -> Array:
    """(3, p) g_p + W^T d_c, for changes (c, pose + intrinsics) of the photos and their cameras."""
    order = equations.problem.order
    out = np.empty_like(equations.point_gradient)
    for block in order.blocks:
        gradients = np.empty((3, len(block.point)))

        def fill(chunk: ObservationChunk, block: PointBlock = block, gradients: Array = gradients) -> None:
            rows = equations.problem.residual_rows(block, chunk)
            change = changes.T[:, order.photo[chunk.rows]]
            residual = rows.residual + np.einsum("rjn,jn->rn", rows.j_camera, change)
            gradients[:, chunk.rows_in_block] = np.einsum("rin,rn->in", rows.j_point, residual)

        chunk_map(fill, block.chunks)
        out[:, block.points] = row_sums(block.point, block.points.stop - block.points.start, gradients)
    return out if equations.point_prior_gradient is None else out + equations.point_prior_gradient
