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
from scipy.sparse import bsr_matrix, csr_matrix, hstack
from scipy.sparse.linalg import splu

from .cameras import TIED, project, project_with_jacobians
from .rotations import exp_so3

Array = NDArray[np.float64]
Index = NDArray[np.int64]

DENSE_LIMIT = 1500
"""Unknowns up to which a dense Cholesky beats the sparse factorisation."""


CURVATURE_FLOOR = 0.6
"""Least share of the Gauss-Newton curvature kept along a residual; the loss itself has none, or less, beyond its
scale, and the normal equations must stay positive."""


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
    """Sum over observations of loss_px**2 / 2 * log(1 + error**2 / loss_px**2), in square pixels, priors included."""
    iterations: int


def camera_points(bundle: Bundle) -> Array:
    """(m, 3) observed points in the coordinates of the photo that sees them."""
    pose = bundle.cam_from_world[bundle.photo]
    return np.einsum("mij,mj->mi", pose[:, :, :3], bundle.points[bundle.point]) + pose[:, :, 3]


def errors_px(bundle: Bundle) -> Array:
    """(m,) reprojection error; infinite for points behind their camera."""
    y = camera_points(bundle)
    front = y[:, 2] > 1e-9
    y = np.where(front[:, None], y, 1.0)
    error = np.linalg.norm(project(y, bundle.intrinsics[bundle.camera_of[bundle.photo]]) - bundle.xy, axis=1)
    return np.where(front, error, np.inf)


def adjust(bundle: Bundle, options: Adjust, prior: Prior | None = None) -> tuple[Bundle, Summary]:
    """The bundle at the minimum, and how it got there."""
    spread = _spread(bundle.models, options)
    cost = initial = _cost(bundle, options, prior)
    damping, iterations = 1e-4, 0
    system = None
    while iterations < options.max_iterations:
        iterations += 1
        system = system or _linearise(bundle, options, prior, spread)
        trial = _step(bundle, system, spread, damping)
        trial_cost = np.inf if trial is None else _cost(trial, options, prior)
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


def _cost(bundle: Bundle, options: Adjust, prior: Prior | None) -> float:
    squared = np.minimum(errors_px(bundle), 1e6) ** 2
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
    return spread[:, :, spread.any((0, 1))]


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


def _linearise(bundle: Bundle, options: Adjust, prior: Prior | None, spread: Array) -> _System:
    m, c, k, q = len(bundle.xy), len(bundle.cam_from_world), len(spread), spread.shape[2]
    pose = bundle.cam_from_world[bundle.photo]
    rotated = np.einsum("mij,mj->mi", pose[:, :, :3], bundle.points[bundle.point])
    y = rotated + pose[:, :, 3]
    camera = bundle.camera_of[bundle.photo]
    y = np.where(y[:, 2:] > 1e-9, y, 1.0)
    pixels, by_y, by_k = project_with_jacobians(y, bundle.intrinsics[camera])
    residual = pixels - bundle.xy
    squared = np.einsum("mi,mi->m", residual, residual)
    s = squared / options.loss_px**2
    root = 1.0 / np.sqrt(1.0 + s)
    root[camera_points(bundle)[:, 2] <= 1e-9] = 0.0  # a point behind the camera has no useful derivative
    # Second-order correction of the robust loss (Triggs). Plain reweighting overrates the curvature along the
    # residual, and its steps fall short; taken in full, the correction overshoots where many observations are outliers.
    shrink = 1.0 - np.sqrt(np.maximum((1.0 - s) / (1.0 + s), CURVATURE_FLOOR))
    direction = residual / np.sqrt(np.maximum(squared, 1e-300))[:, None]
    residual = residual * (root / (1.0 - shrink))[:, None]

    def robust(jacobian: Array) -> Array:
        along = np.einsum("mi,mij->mj", direction, jacobian)
        return root[:, None, None] * (jacobian - (shrink[:, None] * direction)[:, :, None] * along[:, None, :])

    by_y, by_k = robust(by_y), robust(by_k)

    j_pose = np.empty((m, 2, 6))  # left perturbation: d y = omega x (R X) + d t
    j_pose[:, :, 0] = by_y[:, :, 2] * rotated[:, None, 1] - by_y[:, :, 1] * rotated[:, None, 2]
    j_pose[:, :, 1] = by_y[:, :, 0] * rotated[:, None, 2] - by_y[:, :, 2] * rotated[:, None, 0]
    j_pose[:, :, 2] = by_y[:, :, 1] * rotated[:, None, 0] - by_y[:, :, 0] * rotated[:, None, 1]
    if not options.rotations:
        j_pose[:, :, :3] = 0.0
    j_pose[:, :, 3:] = by_y
    j_point = by_y @ pose[:, :, :3]
    j_intr = by_k @ spread[camera]

    starts = np.flatnonzero(np.diff(bundle.point, prepend=-1))
    if len(starts) != len(bundle.points):
        raise ValueError("observations must be sorted by point, and every point seen")
    transposed = j_point.transpose(0, 2, 1)
    bounds = np.append(starts, m)
    by_photo = csr_matrix((np.ones(m), (bundle.photo, np.arange(m))), shape=(c, m))
    by_camera = csr_matrix((np.ones(m), (camera, np.arange(m))), shape=(k, m))
    pose_t, intr_t = j_pose.transpose(0, 2, 1), j_intr.transpose(0, 2, 1)
    h_intrinsics = (by_camera @ (intr_t @ j_intr).reshape(m, q * q)).reshape(k, q, q)
    g_intrinsics = (by_camera @ np.einsum("mji,mj->mi", j_intr, residual)).reshape(k, q)
    if prior is not None and q:
        weight = (prior.noise_px / prior.sigma) ** 2
        h_intrinsics = h_intrinsics + np.einsum("kiq,ki,kir->kqr", spread, weight, spread)
        g_intrinsics = g_intrinsics + np.einsum("kiq,ki->kq", spread, weight * (bundle.intrinsics - prior.mean))
    mixed_rows = (by_photo @ (pose_t @ j_intr).reshape(m, 6 * q)).reshape(c, 6, q)
    cross = [bsr_matrix((transposed @ j_pose, bundle.photo, bounds), shape=(3 * len(bundle.points), 6 * c)).tocsr()]
    if q:
        blocks = bsr_matrix((transposed @ j_intr, camera, bounds), shape=(3 * len(bundle.points), q * k))
        cross.append(blocks.tocsr())
        cross[1].sum_duplicates()
    return _System(
        h_poses=(by_photo @ (pose_t @ j_pose).reshape(m, 36)).reshape(c, 6, 6),
        h_intrinsics=h_intrinsics,
        h_mixed=bsr_matrix((mixed_rows, bundle.camera_of, np.arange(c + 1)), shape=(6 * c, q * k)).tocsr()
        if q
        else csr_matrix((6 * c, 0)),
        h_points=np.add.reduceat(transposed @ j_point, starts, axis=0),
        g_poses=(by_photo @ np.einsum("mji,mj->mi", j_pose, residual)).reshape(c, 6),
        g_intrinsics=g_intrinsics,
        g_points=np.add.reduceat(np.einsum("mji,mj->mi", j_point, residual), starts, axis=0),
        cross=hstack(cross, format="csr"),
    )


def _step(bundle: Bundle, system: _System, spread: Array, damping: float) -> Bundle | None:
    """The state after one damped step, or None where the system cannot be solved."""
    c, k, q = len(bundle.cam_from_world), len(spread), spread.shape[2]
    n = 6 * c + q * k
    inverse_points = np.linalg.inv(_damped(system.h_points, damping))
    blocks = bsr_matrix(
        (inverse_points, np.arange(len(inverse_points)), np.arange(len(inverse_points) + 1)),
        shape=(3 * len(inverse_points),) * 2,
    ).tocsr()
    weighted = blocks @ system.cross
    reduced = -(system.cross.T @ weighted)
    rhs = weighted.T @ system.g_points.ravel() - np.concatenate([system.g_poses.ravel(), system.g_intrinsics.ravel()])
    poses, intrinsics = _damped(system.h_poses, damping), _damped(system.h_intrinsics, damping)
    if n <= DENSE_LIMIT:
        dense = reduced.toarray()
        _add_diagonal_blocks(dense, poses, 0)
        _add_diagonal_blocks(dense, intrinsics, 6 * c)
        mixed = system.h_mixed.toarray()
        dense[: 6 * c, 6 * c :] += mixed
        dense[6 * c :, : 6 * c] += mixed.T
        try:
            solution = cho_solve(cho_factor(dense, check_finite=False), rhs, check_finite=False)
        except LinAlgError:
            return None
    else:
        pose_blocks = bsr_matrix((poses, np.arange(c), np.arange(c + 1)), shape=(6 * c, 6 * c)).tocsr()
        rows = hstack([pose_blocks, system.h_mixed]).tocsr()
        border = bsr_matrix((intrinsics, np.arange(k), np.arange(k + 1)), shape=(q * k, q * k)).tocsr() if q else None
        full = rows if border is None else _stack(rows, hstack([system.h_mixed.T, border]).tocsr())
        solution = splu((reduced + full).tocsc()).solve(rhs)
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


def _stack(upper: csr_matrix, lower: csr_matrix) -> csr_matrix:
    from scipy.sparse import vstack

    return vstack([upper, lower], format="csr")


def _damped(blocks: Array, damping: float) -> Array:
    """Blocks with their diagonal enlarged (Marquardt), and kept invertible where nothing is observed."""
    out = blocks.copy()
    i = np.arange(blocks.shape[1])
    diagonal = blocks[:, i, i]
    out[:, i, i] += damping * diagonal + np.where(diagonal > 0, 1e-12 * diagonal, 1.0)
    return out


def _add_diagonal_blocks(dense: Array, blocks: Array, offset: int) -> None:
    n, size = blocks.shape[:2]
    base = offset + size * np.arange(n)[:, None, None]
    dense[base + np.arange(size)[:, None], base + np.arange(size)] += blocks
