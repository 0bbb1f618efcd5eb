"""Bundle adjustment: poses, points and intrinsics that minimise a robust reprojection error.

Levenberg-Marquardt; the points are eliminated (Schur complement), so that the system that is factorised has six
unknowns per photo and a few per camera. Everything is float64: reprojection errors are differences of numbers ten
thousand times larger, and the normal equations square that. Sums run in a fixed order, so equal input gives equal bits.

Intrinsics carry Gaussian priors. Photos of a turntable or of one wall leave focal length, principal point and
distortion nearly undetermined together; least squares then explains tiny systematic errors of the key points by
absurd lenses. `Prior.noise_px` is deliberately far larger than the scatter of the key points: such errors do not
average out, however many there are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.sparse import csr_matrix, hstack, vstack
from scipy.sparse.linalg import splu

from .blocks import add_block_diagonal, block_diagonal, selection, sparse, sums
from .cameras import TIED, project, project_with_jacobians
from .rotations import exp_so3

Array = NDArray[np.float64]
Index = NDArray[np.int64]

DENSE_LIMIT = 3000
"""Unknowns up to which a dense Cholesky beats the sparse factorisation."""

DENSE_SHARE = 0.1
"""Share of entries between points and cameras from which on they are multiplied as a dense matrix."""

DENSE_CHUNK_BYTES = 1 << 25

CURVATURE_FLOOR = 0.6
"""Least share of the Gauss-Newton curvature kept along a residual; the loss itself has none, or less, beyond its
scale, and the normal equations must stay positive."""

NEAREST = 1e-9
"""Depth up to which a point counts as behind the camera: it has no pixel, and pulls at nothing."""


@dataclass(frozen=True, eq=False)
class Bundle:
    """A reconstruction as plain arrays. Photos without a pose have NaN and no observations."""

    models: tuple[str, ...]
    """COLMAP model name per camera."""
    intrinsics: Array
    """(cameras, 8) as in optim.cameras."""
    camera_of: Index
    """(photos,) camera of each photo."""
    cam_from_world: Array
    """(photos, 3, 4)."""
    points: Array
    """(points, 3) world."""
    xy: Array
    """(m, 2) observed pixels; observations are sorted by point."""
    photo: Index
    point: Index
    """(m,) who sees what."""
    row: Index
    """(m,) key point of the observation, a row of the collection's stacked key points."""


@dataclass(frozen=True, eq=False)
class Prior:
    """What is believed of the intrinsics before looking: Gaussians around `mean`; infinite sigma believes nothing."""

    mean: Array
    sigma: Array
    """(cameras, 8)."""
    noise_px: float = 1.5


@dataclass(frozen=True)
class Adjust:
    """What may move, and how to get there."""

    focal: bool = True
    principal: bool = False
    distortion: bool = False
    rotations: bool = True
    loss_px: float = 0.5
    """Scale of the Cauchy loss: errors well beyond it hardly pull."""
    max_iterations: int = 30
    tolerance: float = 1e-5
    """Stops when an accepted step lowers the cost by less than this share."""


@dataclass(frozen=True)
class Summary:
    initial_cost: float
    final_cost: float
    """Sum over observations of loss_px**2 / 2 * log(1 + error**2 / loss_px**2), in square pixels, priors included;
    errors are divided by sigma where one is given."""
    iterations: int


def camera_points(bundle: Bundle) -> Array:
    """(m, 3) observed points in the coordinates of the photo that sees them."""
    y: Array = _rotated_points(bundle) + bundle.cam_from_world[bundle.photo, :, 3]
    return y


def errors_px(bundle: Bundle) -> Array:
    """(m,) reprojection error; infinite for points behind their camera."""
    y = camera_points(bundle)
    front = y[:, 2] > NEAREST
    y = np.where(front[:, None], y, 1.0)
    error = np.linalg.norm(project(y, bundle.intrinsics[bundle.camera_of[bundle.photo]]) - bundle.xy, axis=1)
    return np.where(front, error, np.inf)


def adjust(
    bundle: Bundle, options: Adjust, prior: Prior | None = None, sigma: Array | None = None
) -> tuple[Bundle, Summary]:
    """The bundle at the minimum, and how it got there.

    `sigma` (m,) says how inexact each observation is, 1 being usual: errors count after division by it.
    """
    spread = _spread(bundle.models, options)
    cost = initial = _cost(bundle, options, prior, sigma)
    damping, iterations = 1e-4, 0
    system = None
    while iterations < options.max_iterations:
        iterations += 1
        system = system or _linearise(bundle, options, prior, spread, sigma)
        trial = _step(bundle, system, spread, damping)
        trial_cost = np.inf if trial is None else _cost(trial, options, prior, sigma)
        if trial is not None and trial_cost < cost:
            gain = (cost - trial_cost) / cost
            bundle, cost, system = trial, trial_cost, None
            damping = max(damping / 5.0, 1e-10)
            if gain < options.tolerance:
                break
        else:
            damping *= 8.0
            if damping > 1e8:
                break
    return bundle, Summary(initial, cost, iterations)


def _cost(bundle: Bundle, options: Adjust, prior: Prior | None, sigma: Array | None = None) -> float:
    squared = np.minimum(errors_px(bundle) if sigma is None else errors_px(bundle) / sigma, 1e6) ** 2
    scale = options.loss_px**2
    cost = 0.5 * scale * float(np.log1p(squared / scale).sum())
    if prior is not None:
        cost += 0.5 * prior.noise_px**2 * float((((bundle.intrinsics - prior.mean) / prior.sigma) ** 2).sum())
    return cost


def _spread(models: tuple[str, ...], options: Adjust) -> Array:
    """(cameras, 8, q): how the free parameters of each camera set its eight intrinsics; zero columns are frozen."""
    free = [options.focal, options.focal, options.principal, options.principal, *[options.distortion] * 4]
    columns = max(len(TIED[model]) for model in models)
    spread = np.zeros((len(models), 8, columns))
    for camera, model in enumerate(models):
        for column, tied in enumerate(TIED[model]):
            spread[camera, list(tied), column] = float(free[tied[0]])
    used: Array = spread[:, :, spread.any((0, 1))]
    return used


@dataclass(frozen=True, eq=False)
class _System:
    """Normal equations at one state. Poses come first (6 each), then intrinsics (q each)."""

    h_poses: Array
    h_intrinsics: Array
    h_mixed: csr_matrix
    h_points: Array
    g_poses: Array
    g_intrinsics: Array
    g_points: Array
    cross: csr_matrix
    """(3 points, unknowns) between points and the rest."""


def _linearise(
    bundle: Bundle, options: Adjust, prior: Prior | None, spread: Array, sigma: Array | None = None
) -> _System:
    m, c, k = len(bundle.xy), len(bundle.cam_from_world), len(spread)
    camera = bundle.camera_of[bundle.photo]
    rotated = _rotated_points(bundle)
    y = rotated + bundle.cam_from_world[bundle.photo, :, 3]
    front = y[:, 2] > NEAREST
    pixels, by_y, by_k = project_with_jacobians(np.where(front[:, None], y, 1.0), bundle.intrinsics[camera])
    residual = pixels - bundle.xy
    if sigma is not None:
        residual /= sigma[:, None]
        by_y /= sigma[:, None, None]
        by_k /= sigma[:, None, None]
    residual, by_y, by_k = _robust(residual, by_y, by_k, front, options.loss_px)

    j_pose = np.empty((m, 2, 6))  # left perturbation: d y = omega x (R X) + d t
    j_pose[:, :, :3] = np.cross(rotated[:, None, :], by_y) if options.rotations else 0.0
    j_pose[:, :, 3:] = by_y
    j_point = by_y @ bundle.cam_from_world[bundle.photo, :, :3]
    j_intrinsics = by_k @ spread[camera]
    pose_t, point_t, intrinsics_t = (j.transpose(0, 2, 1) for j in (j_pose, j_point, j_intrinsics))

    starts = np.flatnonzero(np.diff(bundle.point, prepend=-1))
    if not np.array_equal(bundle.point[starts], np.arange(len(bundle.points))):
        raise ValueError("observations must be sorted by point, and every point seen")
    bounds = np.append(starts, m)
    by_photo, by_camera = selection(bundle.photo, c), selection(camera, k)
    h_intrinsics = sums(by_camera, intrinsics_t @ j_intrinsics)
    g_intrinsics = sums(by_camera, np.einsum("mji,mj->mi", j_intrinsics, residual))
    if prior is not None:
        weight = (prior.noise_px / prior.sigma) ** 2
        h_intrinsics = h_intrinsics + np.einsum("kiq,ki,kir->kqr", spread, weight, spread)
        g_intrinsics = g_intrinsics + np.einsum("kiq,ki->kq", spread, weight * (bundle.intrinsics - prior.mean))
    cross_intrinsics = sparse(point_t @ j_intrinsics, camera, bounds, k)
    cross_intrinsics.sum_duplicates()  # photos of one camera
    return _System(
        h_poses=sums(by_photo, pose_t @ j_pose),
        h_intrinsics=h_intrinsics,
        h_mixed=sparse(sums(by_photo, pose_t @ j_intrinsics), bundle.camera_of, np.arange(c + 1), k),
        h_points=np.add.reduceat(point_t @ j_point, starts, axis=0),
        g_poses=sums(by_photo, np.einsum("mji,mj->mi", j_pose, residual)),
        g_intrinsics=g_intrinsics,
        g_points=np.add.reduceat(np.einsum("mji,mj->mi", j_point, residual), starts, axis=0),
        cross=hstack([sparse(point_t @ j_pose, bundle.photo, bounds, c), cross_intrinsics], format="csr"),
    )


def _rotated_points(bundle: Bundle) -> Array:
    """(m, 3) observed points in the axes of the photo that sees them, before its translation."""
    rotated: Array = np.einsum("mij,mj->mi", bundle.cam_from_world[bundle.photo, :, :3], bundle.points[bundle.point])
    return rotated


def _robust(
    residual: Array, by_y: Array, by_k: Array, front: NDArray[np.bool_], loss_px: float
) -> tuple[Array, Array, Array]:
    """Residuals (m, 2) and Jacobians (m, 2, *) whose plain least squares imitate the robust loss around here.

    The second-order correction of Triggs. Plain reweighting overrates the curvature along the residual, and its steps
    fall short; taken in full, the correction overshoots where many observations are outliers.
    """
    squared = np.einsum("mi,mi->m", residual, residual)
    s = squared / loss_px**2
    root = np.where(front, 1.0 / np.sqrt(1.0 + s), 0.0)
    shrink = 1.0 - np.sqrt(np.maximum((1.0 - s) / (1.0 + s), CURVATURE_FLOOR))
    direction = residual / np.sqrt(np.maximum(squared, 1e-300))[:, None]

    def corrected(jacobian: Array) -> Array:
        along = np.einsum("mi,mij->mj", direction, jacobian)
        out: Array = root[:, None, None] * (jacobian - (shrink[:, None] * direction)[:, :, None] * along[:, None, :])
        return out

    return residual * (root / (1.0 - shrink))[:, None], corrected(by_y), corrected(by_k)


def _step(bundle: Bundle, system: _System, spread: Array, damping: float) -> Bundle | None:
    """The state after one damped step, or None where the system cannot be solved."""
    c, k, q = len(bundle.cam_from_world), len(spread), spread.shape[2]
    inverse_points = np.asarray(np.linalg.inv(_damped(system.h_points, damping)), np.float64)
    moved = np.einsum("pij,pj->pi", inverse_points, system.g_points).ravel()
    rhs = system.cross.T @ moved - np.concatenate([system.g_poses.ravel(), system.g_intrinsics.ravel()])
    poses, intrinsics = _damped(system.h_poses, damping), _damped(system.h_intrinsics, damping)
    mixed = system.h_mixed
    try:
        if len(rhs) <= DENSE_LIMIT:
            dense = -_schur_term(system.cross, inverse_points)
            add_block_diagonal(dense, poses)
            add_block_diagonal(dense, intrinsics, 6 * c)
            dense[: 6 * c, 6 * c :] += mixed.toarray()
            dense[6 * c :, : 6 * c] += mixed.toarray().T
            solution: Array = cho_solve(cho_factor(dense, check_finite=False), rhs, check_finite=False)
        else:
            upper = hstack([block_diagonal(poses), mixed])
            lower = hstack([mixed.T, block_diagonal(intrinsics)])
            term = system.cross.T @ (block_diagonal(inverse_points) @ system.cross)
            solution = splu((vstack([upper, lower]) - term).tocsc()).solve(rhs)
    except (LinAlgError, RuntimeError):  # not positive; exactly singular
        return None
    if not np.isfinite(solution).all():
        return None
    back = system.g_points + (system.cross @ solution).reshape(-1, 3)
    d_pose = solution[: 6 * c].reshape(c, 6)
    d_intrinsics = np.einsum("kiq,kq->ki", spread, solution[6 * c :].reshape(k, q))
    new = bundle.cam_from_world.copy()
    turn = exp_so3(d_pose[:, :3])
    new[:, :, :3] = turn @ new[:, :, :3]
    new[:, :, 3] += d_pose[:, 3:]
    intrinsics_new = bundle.intrinsics + d_intrinsics
    if (intrinsics_new[:, :2] <= 0).any():
        return None
    return replace(
        bundle,
        cam_from_world=new,
        intrinsics=intrinsics_new,
        points=bundle.points - np.einsum("pij,pj->pi", inverse_points, back),
    )


def _schur_term(cross: csr_matrix, inverse_points: Array) -> Array:
    """cross^T P^-1 cross as a dense matrix.

    Sparse products are best where each point is seen by a few of many photos; where it is seen by a good part of them,
    they spend their time on bookkeeping, and dense ones over chunks of points are several times faster.
    """
    rows, n = cross.shape
    if cross.nnz < DENSE_SHARE * rows * n:
        product: Array = (cross.T @ (block_diagonal(inverse_points) @ cross)).toarray()
        return product
    out = np.zeros((n, n))
    root = np.linalg.cholesky(inverse_points).transpose(0, 2, 1)
    step = max(1, DENSE_CHUNK_BYTES // (24 * n))
    for begin in range(0, len(inverse_points), step):
        part = cross[3 * begin : 3 * (begin + step)].toarray().reshape(-1, 3, n)
        half = (root[begin : begin + step] @ part).reshape(-1, n)
        out += half.T @ half
    return out


def _damped(blocks: Array, damping: float) -> Array:
    """Blocks with their diagonal enlarged (Marquardt), and kept invertible where nothing is observed."""
    out = blocks.copy()
    i = np.arange(blocks.shape[1])
    diagonal = blocks[:, i, i]
    out[:, i, i] += damping * diagonal + np.where(diagonal > 0, 1e-12 * diagonal, 1.0)
    return out
