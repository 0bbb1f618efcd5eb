"""Bundle adjustment's damped step: points are eliminated, cameras solved for, points found from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from ..cameras import Vectors
from .arrowhead import Arrow, Plan, plan, solve
from .block_products import Pairs, between, in_order, within
from .normal_equations import System
from .observation_order import Block, Sights

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Views:
    """The shared cameras that see the points of a block: all observations of a point in a camera are one view."""

    point: Index
    camera: Index
    """(v,) sorted by camera, then by point; points are numbered within the block."""
    bounds: list[int]
    """(k + 1,) camera i has the views from bounds[i] to bounds[i + 1]."""
    by_view: csr_matrix
    """(v, m) for sums over observations."""
    photo_pairs: Pairs
    """Of observations and views; rows are photos of the block."""
    pairs: Pairs


@dataclass(frozen=True, eq=False)
class Meetings:
    """Who meets whom over the points of a block."""

    photo_pairs: Pairs
    place: Index
    """(groups,) which block of the reduced system each group of these pairs belongs to."""
    views: Views | None
    """None where no camera is shared."""


@dataclass(frozen=True, eq=False)
class Structure:
    """Who meets whom in the reduced system: found once, used in every step."""

    meetings: list[Meetings]
    """One for each block of the sights."""
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


def structure(sights: Sights, pose: int, lens: int) -> Structure:
    """Of problems with so many unknowns per pose and per camera."""
    shared = lens > 0 and not sights.own
    c = len(sights.photos)
    met, views, codes = [], [], []
    for block in sights.blocks:
        run = np.repeat(np.arange(len(block.photos)), np.diff(block.bounds))
        pairs = within(block.point, run)
        met.append(pairs)
        codes.append(block.photos[pairs.row] * c + block.photos[pairs.column])
        views.append(_views(block, run, sights.camera_of_photo[block.photos], len(sights.cameras)) if shared else None)
    every = np.sort(np.concatenate([np.zeros(0, np.int64), *codes]))
    every = every[np.diff(every, prepend=-1) > 0]
    row, column = every // c, every % c
    place = [np.searchsorted(every, own) for own in codes]
    size, border = pose + (0 if shared else lens), len(sights.cameras) * lens if shared else 0
    return Structure(
        [Meetings(*each) for each in zip(met, place, views, strict=True)], plan(row, column, c, size, border)
    )


def _views(block: Block, run: Index, camera_of_photo: Index, cameras: int) -> Views:
    """Of observations of these photos of the block (m,), which have these cameras (r,)."""
    camera = camera_of_photo[run]
    order = in_order(block.point, camera)
    point, camera = block.point[order].astype(np.int64), camera[order]
    first = np.flatnonzero((np.diff(point, prepend=-1) != 0) | (np.diff(camera, prepend=-1) != 0))
    m = len(order)
    by_view = csr_matrix((np.ones(m), order.astype(np.int32), np.append(first, m)), shape=(len(first), m))
    point, camera = point[first], camera[first]
    bounds = np.searchsorted(camera, np.arange(cameras + 1)).tolist()
    return Views(point, camera, bounds, by_view, between(block.point, run, point, camera), within(point, camera))


@dataclass(frozen=True, eq=False)
class Reduced:
    """The system of photos and cameras that remains when the points are eliminated."""

    arrow: Arrow
    right: Array
    root: Array
    """(6, p) inverse roots of the points."""


def reduced(parts: Structure, system: System, damping: float) -> Reduced:
    """Of the damped system."""
    sights = system.at.sights
    c, d = system.photo_gradient.shape
    k, q = system.camera_gradient.shape
    root = inverse_roots(damped_points(system.point, damping))
    pull = times(root, system.point_gradient)
    photo, photo_right = damped(system.photo, damping), -system.photo_gradient
    camera, camera_right = damped(system.camera, damping), -system.camera_gradient
    off = np.zeros((len(parts.plan.row), d, d))
    mixed, corner = np.zeros((c, k, d, q)), np.zeros((k, k, q, q))
    if k:
        mixed[np.arange(c), sights.camera_of_photo] = system.mixed
    for block, met in zip(sights.blocks, parts.meetings, strict=True):
        own_root, own_pull = root[:, block.points], np.ascontiguousarray(pull[:, block.points].T)
        seen, through_lens = _derivatives(system, block, own_root)
        _take(photo, photo_right, block.photos, block.bounds, seen, own_pull[block.point])
        off[met.place] -= met.photo_pairs.products(seen, seen)
        if met.views is not None:
            views = met.views
            lens = np.asarray(views.by_view @ through_lens).reshape(-1, 3, q).transpose(1, 2, 0)
            lens = np.ascontiguousarray(times(own_root[:, None, views.point], lens).transpose(2, 0, 1))
            _take(camera, camera_right, np.arange(k), views.bounds, lens, own_pull[views.point])
            pairs = views.photo_pairs
            mixed[block.photos[pairs.row], pairs.column] -= pairs.products(seen, lens)
            corner[views.pairs.row, views.pairs.column] -= views.pairs.products(lens, lens)
    corner += corner.transpose(1, 0, 3, 2)
    corner[np.arange(k), np.arange(k)] = camera
    twice = parts.plan.row == parts.plan.column  # photos that see a point more than once
    np.add.at(photo, parts.plan.row[twice], off[twice] + off[twice].transpose(0, 2, 1))
    off[twice] = 0.0
    arrow = Arrow(
        diagonal=photo,
        off=off,
        border=mixed.transpose(0, 2, 1, 3).reshape(c * d, k * q),
        corner=corner.transpose(0, 2, 1, 3).reshape(k * q, k * q),
    )
    return Reduced(arrow, np.concatenate([photo_right.ravel(), camera_right.ravel()]), root)


def step(parts: Structure, system: System, damping: float) -> Step | None:
    """Of Levenberg and Marquardt, or None where the system cannot be solved."""
    found = reduced(parts, system, damping)
    solution = solve(parts.plan, found.arrow, found.right)
    if solution is None:
        return None
    photos, cameras = np.split(solution, [system.photo_gradient.size])
    photos, cameras = photos.reshape(system.photo_gradient.shape), cameras.reshape(system.camera_gradient.shape)
    changes = np.concatenate([photos, cameras[system.at.sights.camera_of_photo]], axis=1) if len(cameras) else photos
    return Step(photos, cameras, -times_transposed(found.root, times(found.root, _pull(system, changes))))


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


def _derivatives(system: System, block: Block, root: Array) -> tuple[Array, Array]:
    """Derivatives (m, 3, d) between points and photos, in the coordinates in which points are uncorrelated, and those
    between points and shared cameras, (m, 3 q), as they are."""
    d, q = system.photo_gradient.shape[1], system.camera_gradient.shape[1]
    seen, lens = np.empty((len(block.point), 3, d)), np.empty((len(block.point), 3 * q))
    for chunk in block.chunks:
        rows = system.at.rows(block, chunk)
        cross = rows.by_point[0, :, None] * rows.by_camera[0, :-1]
        for along, row in zip(rows.by_point[1:], rows.by_camera[1:], strict=True):
            cross += along[:, None] * row[:-1]
        own = root[:, None, block.point[chunk.inside]]
        seen[chunk.inside] = times(own, cross[:, :d]).transpose(2, 0, 1)
        if q:
            lens[chunk.inside] = cross[:, d:].reshape(3 * q, -1).T
    return seen, lens


def _take(own: Array, right: Array, owner: Index, bounds: list[int], seen: Array, pull: Array) -> None:
    """What eliminating the points takes from each owner's block (n, d, d), and adds to its right side (n, d)."""
    d = seen.shape[2]
    flat, pulls = seen.reshape(-1, d), pull.ravel()
    for i, begin, end in zip(owner.tolist(), bounds, bounds[1:], strict=False):
        rows = slice(3 * begin, 3 * end)
        own[i] -= np.dot(flat[rows].T, flat[rows])
        right[i] += np.dot(flat[rows].T, pulls[rows])


def _pull(system: System, changes: Array) -> Array:
    """(3, p) gradients of the points after changes of the photos and their cameras (c, pose + lens)."""
    sights = system.at.sights
    out = np.empty_like(system.point_gradient)
    for block in sights.blocks:
        pulls = np.empty((len(block.point), 3))
        for chunk in block.chunks:
            rows = system.at.rows(block, chunk)
            change = changes.T[:, sights.photo[chunk.part]]
            residual = rows.by_camera[:, -1] + np.einsum("rjn,jn->rn", rows.by_camera[:, :-1], change)
            pulls[chunk.inside] = np.einsum("rin,rn->ni", rows.by_point, residual)
        out[:, block.points] = np.asarray(block.by_point @ pulls).T
    return out
