"""Bundle adjustment's damped step: points are eliminated, cameras solved for, points found from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from ..cameras import Vectors
from .blocks import selection
from .linear import Arrow, Plan, plan, solve
from .normal_equations import Sights, System
from .photo_pairs import Pairs, between, in_order, within

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Family:
    """Things that see points and share their unknowns in blocks, block after block: photos their observations, shared
    cameras theirs, all of one point in one."""

    point: Index
    block: Index
    bounds: list[int]
    by_point: csr_matrix
    """(p, n) for sums."""


@dataclass(frozen=True, eq=False)
class Structure:
    """Who meets whom in the reduced system: found once, used in every step."""

    photos: Family
    cameras: Family
    """Without members where no camera is shared."""
    by_view: csr_matrix | None
    """(v, m) sums over the observations of a point in a shared camera; None where no camera is shared."""
    camera_of: Index
    photo_pairs: Pairs
    mixed_pairs: Pairs
    camera_pairs: Pairs
    plan: Plan


@dataclass(frozen=True, eq=False)
class Step:
    """Changes of all unknowns."""

    photos: Array
    """(c, d)."""
    cameras: Array
    """(k, q)."""
    points: Array
    """(3, p)."""


def structure(sights: Sights, points: int, pose: int, lens: int) -> Structure:
    """Of problems with so many unknowns per pose and per camera."""
    shared = lens > 0 and not sights.own
    photos = Family(sights.point, sights.photo, sights.bounds, sights.by_point)
    nothing = np.zeros(0, np.int64)
    by_view = None
    point = camera = nothing
    if shared:
        order = in_order(sights.point, sights.camera)
        point, camera = sights.point[order], sights.camera[order]
        first = np.flatnonzero((np.diff(point, prepend=-1) != 0) | (np.diff(camera, prepend=-1) != 0))
        m = len(order)
        by_view = csr_matrix((np.ones(m), order, np.append(first, m)), shape=(len(first), m))
        point, camera = point[first], camera[first]
    blocks = len(sights.cameras) if shared else 0
    bounds = np.searchsorted(camera, np.arange(blocks + 1)).tolist()
    cameras = Family(point, camera, bounds, selection(point, points))
    photo_pairs = within(photos.point, photos.block)
    size = pose + (0 if shared else lens)
    return Structure(
        photos=photos,
        cameras=cameras,
        by_view=by_view,
        camera_of=sights.camera_of if shared else nothing,
        photo_pairs=photo_pairs,
        mixed_pairs=between(photos.point, photos.block, cameras.point, cameras.block),
        camera_pairs=within(cameras.point, cameras.block),
        plan=plan(photo_pairs.row, photo_pairs.column, len(sights.photos), size, blocks * lens),
    )


@dataclass(frozen=True, eq=False)
class Reduced:
    """The system of photos and cameras that remains when the points are eliminated."""

    arrow: Arrow
    right: Array
    root: Array
    """(6, p) inverse roots of the points."""
    pull: Array
    """(3, p) gradients of the points, in the coordinates in which they are uncorrelated."""
    seen: Array
    """(m, 3, d)."""
    lens: Array
    """(v, 3, q) derivatives between points and photos, or shared cameras, in these coordinates."""


def reduced(sights: Sights, parts: Structure, system: System, damping: float) -> Reduced:
    """Of the damped system."""
    c, d = system.photo_gradient.shape
    k, q = system.camera_gradient.shape
    root = inverse_roots(damped_points(system.point, damping))
    pull = times(root, system.point_gradient)
    pull_rows = np.ascontiguousarray(pull.T)
    seen = _whitened(sights, system.cross, root)
    lens = times(root[:, None, parts.cameras.point], system.camera_cross.transpose(1, 2, 0)).transpose(2, 0, 1)
    lens = np.ascontiguousarray(lens)
    photo_own, photo_pull = _own(parts.photos, seen, pull_rows)
    camera_own, camera_pull = _own(parts.cameras, lens, pull_rows)

    mixed = np.zeros((c, k, d, q))
    if k:
        mixed[np.arange(c), parts.camera_of] = system.mixed
        mixed[parts.mixed_pairs.row, parts.mixed_pairs.column] -= parts.mixed_pairs.products(seen, lens)
    corner = np.zeros((k, k, q, q))
    i, j = parts.camera_pairs.row, parts.camera_pairs.column
    between_cameras = parts.camera_pairs.products(lens, lens)
    corner[i, j] = -between_cameras
    corner[j, i] = -between_cameras.transpose(0, 2, 1)
    corner[np.arange(k), np.arange(k)] = damped(system.camera, damping) - camera_own
    off = -parts.photo_pairs.products(seen, seen)
    twice = parts.photo_pairs.row == parts.photo_pairs.column  # photos that see a point more than once
    np.add.at(photo_own, parts.photo_pairs.row[twice], -off[twice] - off[twice].transpose(0, 2, 1))
    off[twice] = 0.0
    arrow = Arrow(
        diagonal=damped(system.photo, damping) - photo_own,
        off=off,
        border=mixed.transpose(0, 2, 1, 3).reshape(c * d, k * q),
        corner=corner.transpose(0, 2, 1, 3).reshape(k * q, k * q),
    )
    right = [(photo_pull - system.photo_gradient).ravel(), (camera_pull - system.camera_gradient).ravel()]
    return Reduced(arrow, np.concatenate(right), root, pull, seen, lens)


def step(sights: Sights, parts: Structure, system: System, damping: float) -> Step | None:
    """Of Levenberg and Marquardt, or None where the system cannot be solved."""
    found = reduced(sights, parts, system, damping)
    solution = solve(parts.plan, found.arrow, found.right)
    if solution is None:
        return None
    photos, cameras = np.split(solution, [system.photo_gradient.size])
    photos, cameras = photos.reshape(system.photo_gradient.shape), cameras.reshape(system.camera_gradient.shape)
    back = found.pull + _carried(parts.photos, found.seen, photos) + _carried(parts.cameras, found.lens, cameras)
    return Step(photos, cameras, -times_transposed(found.root, back))


def damped(blocks: Array, damping: float) -> Array:
    """Blocks with their diagonal enlarged (Marquardt), and kept invertible where nothing is observed."""
    out = blocks.copy()
    i = np.arange(blocks.shape[1])
    out[:, i, i] = _grown(blocks[:, i, i], damping)
    return out


def damped_points(point: Vectors, damping: float, xp: Any = np) -> Vectors:
    """Likewise of upper triangles (6, p), of numpy or torch."""
    a, b, c, d, e, f = point
    return xp.stack([_grown(a, damping, xp), b, c, _grown(d, damping, xp), e, _grown(f, damping, xp)])


def _grown(diagonal: Vectors, damping: float, xp: Any = np) -> Vectors:
    return diagonal * (1.0 + damping) + xp.where(diagonal > 0, 1e-12 * diagonal, xp.ones_like(diagonal))


def inverse_roots(point: Vectors, xp: Any = np) -> Vectors:
    """(6, p) inverses of the lower Cholesky factors, row by row, of upper triangles (6, p)."""
    a, b, c, d, e, f = point
    x = 1.0 / xp.sqrt(a)
    low_1, low_2 = b * x, c * x
    # What rounding may leave of a pivot must stay positive.
    y = 1.0 / xp.sqrt(xp.maximum(d - low_1 * low_1, 1e-15 * d))
    low_3 = (e - low_2 * low_1) * y
    z = 1.0 / xp.sqrt(xp.maximum(f - low_2 * low_2 - low_3 * low_3, 1e-15 * f))
    yx = -low_1 * x * y
    return xp.stack([x, yx, y, -(low_2 * x + low_3 * yx) * z, -low_3 * y * z, z])


def times(root: Array, w: Array) -> Array:
    """Lower triangular matrices (6, ...) times w (3, ...)."""
    out = np.empty_like(w)
    np.multiply(root[0], w[0], out=out[0])
    np.multiply(root[1], w[0], out=out[1])
    out[1] += root[2] * w[1]
    np.multiply(root[3], w[0], out=out[2])
    out[2] += root[4] * w[1]
    out[2] += root[5] * w[2]
    return out


def times_transposed(root: Array, w: Array) -> Array:
    """Their transposes times w."""
    return np.stack([root[0] * w[0] + root[1] * w[1] + root[3] * w[2], root[2] * w[1] + root[4] * w[2], root[5] * w[2]])


def _whitened(sights: Sights, cross: Array, root: Array) -> Array:
    """(m, 3, d) derivatives between points and photos, in the coordinates in which points are uncorrelated."""
    out = np.empty((cross.shape[2], 3, cross.shape[1]))
    for a, b in sights.chunks:
        part = slice(sights.bounds[a], sights.bounds[b])
        out[part] = times(root[:, None, sights.point[part]], cross[:, :, part]).transpose(2, 0, 1)
    return out


def _own(family: Family, seen: Array, pull_rows: Array) -> tuple[Array, Array]:
    """(n, d, d) and (n, d): what eliminating the points takes from each block and adds to its right side."""
    blocks, d = len(family.bounds) - 1, seen.shape[2]
    flat = seen.reshape(3 * len(seen), d)
    pulls = pull_rows[family.point].ravel()
    own, right = np.empty((blocks, d, d)), np.empty((blocks, d))
    for i in range(blocks):
        rows = slice(3 * family.bounds[i], 3 * family.bounds[i + 1])
        np.dot(flat[rows].T, flat[rows], out=own[i])
        np.dot(flat[rows].T, pulls[rows], out=right[i])
    return own, right


def _carried(family: Family, seen: Array, change: Array) -> Array:
    """(3, p) what changes of the blocks do to the points."""
    flat = seen.reshape(3 * len(seen), seen.shape[2])
    rows = np.empty(len(flat))
    for i in range(len(change)):
        part = slice(3 * family.bounds[i], 3 * family.bounds[i + 1])
        np.dot(flat[part], change[i], out=rows[part])
    return np.asarray(family.by_point @ rows.reshape(-1, 3)).T
