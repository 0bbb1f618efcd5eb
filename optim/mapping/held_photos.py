"""A few late photos beside many that are held: the points that they see, and whether the others should be held.

Points keep what held photos have observed of them as a prior, so that an adjustment has the late photos alone.

Were all poses free, the cost would fall by g^T S^-1 g / 2, with g its gradient by the poses and S its second
derivative, both after elimination of the points; of g only what the late photos add counts, since the rest is how far
an earlier adjustment was from its minimum. Noise alone lets it fall by about noise^2 / 2 times the sum over the held
photos of trace(S_i^-1 D_i), with S_i the diagonal blocks of S and D_i what late photos add to these. The tension is the
quotient. It grows where a part of the model is off as a whole, too, though its photos hold each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..arrays import Array, Index, Mask
from ..bundle.losses import Loss
from ..bundle.point_priors import PointPriors
from ..bundle.problem import Bundle, camera_points
from ..bundle.reprojection import MIN_DEPTH
from ..cameras import fisheyes, project_with_jacobians
from ..rotations import skew
from ..view_graph import Keypoints
from .triangulation import keep_observations

POSE = 6
"""Unknowns of a pose."""

MAX_TENSION = 2.0
"""Default tension up to which photos are held: right models have up to 1.2."""

ENERGY_STEPS, ENERGY_TOLERANCE = 40, 0.01
"""Steps of conjugate gradients at most, and the share of the sum below which a step is the last one."""

NO_LOSS = 1e6
"""In standard deviations: scale of a loss that no error reaches."""


@dataclass(frozen=True, eq=False)
class SeenPoints:
    """Which old points late photos see."""

    row: Index
    """(k,) key points of late photos."""
    point: Index
    """(k,) the point that each observes; no photo observes a point twice."""
    partner: Index
    """Key points that observe one of these points, and were matched with a late key point that does."""


def seen_points(keypoints: Keypoints, row_a: Index, row_b: Index, late: Mask, old: Bundle) -> SeenPoints:
    """The points of an old bundle that late photos (photos,) see by their matches.

    Of several points that a key point was matched with it gets that of most matches, and of several key points in one
    photo a point keeps that of most matches. A second round reaches those that were matched with late photos alone.
    """
    point = np.full(len(keypoints.xy), -1, np.int64)
    point[old.row] = old.point
    is_late = np.repeat(late, np.diff(keypoints.start))
    row, other = np.concatenate([row_a, row_b]), np.concatenate([row_b, row_a])
    row, other = row[is_late[row]], other[is_late[row]]
    for _ in range(2):
        votes = np.flatnonzero((point[row] < 0) & (point[other] >= 0))
        pair, count = np.unique(np.stack([row[votes], point[other[votes]]], axis=1), axis=0, return_counts=True)
        pair = pair[np.argsort(-count, kind="stable")]
        pair = pair[np.unique(pair[:, 0], return_index=True)[1]]
        point[pair[:, 0]] = pair[:, 1]
    agreed = (point[row] == point[other]) & (point[row] >= 0)
    seen = np.flatnonzero(is_late & (point >= 0))
    matches = np.bincount(row[agreed], minlength=len(point))[seen]
    photo = keypoints.photo_of(seen)
    order = np.lexsort((-matches, point[seen], photo))
    again = np.zeros(len(seen), bool)
    again[order[1:]] = (np.diff(point[seen][order]) == 0) & (np.diff(photo[order]) == 0)
    kept = seen[~again]
    return SeenPoints(kept, point[kept], np.unique(other[agreed & ~is_late[other]]))


def sorted_by_point(bundle: Bundle) -> Bundle:
    """The bundle with its observations in order, and without points that none observes."""
    order = np.lexsort((bundle.row, bundle.point))
    bundle = replace(
        bundle, xy=bundle.xy[order], photo=bundle.photo[order], point=bundle.point[order], row=bundle.row[order]
    )
    return keep_observations(bundle, np.ones(len(order), bool), 1)


def held_observations(bundle: Bundle, held: Mask, loss: Loss, loss_px: float, sigma: Array) -> PointPriors:
    """What held observations (m,) say of their points, as priors of these: to second order, at their least error."""
    own = np.flatnonzero(held)
    rows = _linearized(observations(bundle, own), loss, loss_px, sigma[own])
    inverse, shift = _of_points(rows, bundle.point[own], len(bundle.points))
    point = np.unique(bundle.point[own])
    shape = np.linalg.cholesky(np.linalg.inv(inverse[point])).transpose(0, 2, 1)
    return PointPriors(
        point,
        bundle.points[point] - shift[point],
        np.ones(len(point)),
        noise_px=1.0,
        loss_sigmas=NO_LOSS,
        shape=shape,
    )


def tension(bundle: Bundle, late: Mask, loss: Loss, loss_px: float, sigma: Array) -> float:
    """How many times more the late photos (photos,) say against the others as they are held than noise alone would; 0
    where they see no point of theirs. `sigma` (m,) as in `adjust_bundle`."""
    rows = _linearized(bundle, loss, loss_px, sigma)
    own = np.flatnonzero(~late[bundle.photo])
    inverse, shift = _of_points(rows, bundle.point, len(bundle.points))
    second, gradient = _reduced(bundle, rows, inverse, shift)
    part, old_rows = observations(bundle, own), rows.of(own)
    second_before, before = _reduced(part, old_rows, *_of_points(old_rows, part.point, len(bundle.points)))
    gradient = gradient - np.where(late[:, None], 0.0, before)
    blocks: Array = np.asarray(np.linalg.inv(_regular(second)), np.float64)
    added = float(np.einsum("cij,cji->", blocks[~late], (second - second_before)[~late]))
    unknowns = 3 * len(bundle.points) + POSE * int(late.sum())
    noise2 = float(rows.squares.sum()) / max(2 * len(bundle.xy) - unknowns, 1)
    if added <= 0.0 or noise2 == 0.0:
        return 0.0

    def curvature(x: Array) -> Array:
        along = np.einsum("mij,mj->mi", rows.by_pose, x[bundle.photo])
        of_point = _sums(np.einsum("mij,mi->mj", rows.by_point, along), bundle.point, len(bundle.points))
        moved = np.einsum("pij,pj->pi", inverse, of_point)[bundle.point]
        along -= np.einsum("mij,mj->mi", rows.by_point, moved)
        return _sums(np.einsum("mij,mi->mj", rows.by_pose, along), bundle.photo, len(x))

    return _energy(curvature, blocks, gradient) / noise2 / added


def _energy(curvature: Callable[[Array], Array], blocks: Array, gradient: Array) -> float:
    """g^T S^-1 g by conjugate gradients, preconditioned by the inverse diagonal `blocks` (c, 6, 6) of S. Each step adds
    to it."""
    left, total = gradient.copy(), 0.0
    solved = np.einsum("cij,cj->ci", blocks, left)
    along, slope = solved.copy(), float((left * solved).sum())
    for _ in range(ENERGY_STEPS):
        product = curvature(along)
        bent = float((along * product).sum())
        if bent <= 0.0 or slope <= 0.0:
            break
        gain = slope / bent
        total += gain * slope
        if gain * slope < ENERGY_TOLERANCE * total:
            break
        left -= gain * product
        solved = np.einsum("cij,cj->ci", blocks, left)
        before, slope = slope, float((left * solved).sum())
        along = solved + slope / before * along
    return total


def _regular(blocks: Array) -> Array:
    """Blocks (c, 6, 6) of which every one has an inverse: one that says nothing is the identity."""
    diagonal = np.diagonal(blocks, axis1=1, axis2=2)
    return np.asarray(blocks + np.where(diagonal > 0.0, 1e-9 * diagonal, 1.0)[:, :, None] * np.eye(POSE))


@dataclass(frozen=True, eq=False)
class _Rows:
    """Residuals of all observations times the root of their weights, and their derivatives."""

    by_pose: Array
    """(m, 2, 6)."""
    by_point: Array
    """(m, 2, 3)."""
    residual: Array
    """(m, 2)."""

    def of(self, own: Index) -> _Rows:
        """Of some of the observations."""
        return _Rows(self.by_pose[own], self.by_point[own], self.residual[own])

    @property
    def squares(self) -> Array:
        return np.asarray(np.einsum("mi,mi->m", self.residual, self.residual))


def _linearized(bundle: Bundle, loss: Loss, loss_px: float, sigma: Array) -> _Rows:
    y = camera_points(bundle)
    front = y[:, 2] > MIN_DEPTH
    y[~front] = 1.0
    camera, pose = bundle.camera_of_photo[bundle.photo], bundle.cam_from_world[bundle.photo]
    pixels, by_y, _ = project_with_jacobians(y, bundle.intrinsics[camera], fisheyes(bundle.models)[camera])
    error = (pixels - bundle.xy) / sigma[:, None]
    weight = loss.weight_and_curvature(np.einsum("mi,mi->m", error, error) / loss_px**2, np)[0] * front
    by_y *= (np.sqrt(weight) / sigma)[:, None, None]
    turned = y - pose[:, :, 3]
    by_pose = np.concatenate([-by_y @ skew(turned), by_y], axis=2)
    return _Rows(by_pose, by_y @ pose[:, :, :3], error * np.sqrt(weight)[:, None])


def observations(bundle: Bundle, own: Index | Mask) -> Bundle:
    """The bundle with some of its observations, and with all its points."""
    return replace(bundle, xy=bundle.xy[own], photo=bundle.photo[own], point=bundle.point[own], row=bundle.row[own])


def _of_points(rows: _Rows, point: Index, count: int) -> tuple[Array, Array]:
    """(count, 3, 3) inverse second derivatives by each point, and (count, 3) how far it is beyond its least error."""
    transposed = rows.by_point.transpose(0, 2, 1)
    matrix = _sums(transposed @ rows.by_point, point, count)
    scale = np.trace(matrix, axis1=1, axis2=2)[:, None, None]
    inverse = np.linalg.inv(matrix + (1e-9 * scale + 1e-300) * np.eye(3))
    gradient = _sums((transposed @ rows.residual[:, :, None])[:, :, 0], point, count)
    return inverse, np.einsum("pij,pj->pi", inverse, gradient)


def _reduced(bundle: Bundle, rows: _Rows, inverse: Array, shift: Array) -> tuple[Array, Array]:
    """(photos, 6, 6) second derivatives and (photos, 6) gradients by each pose, with the others held and the points
    where the cost is least; `inverse` and `shift` as of `_of_points`."""
    mixed = rows.by_pose.transpose(0, 2, 1) @ rows.by_point
    left = rows.residual - np.einsum("mij,mj->mi", rows.by_point, shift[bundle.point])
    second = rows.by_pose.transpose(0, 2, 1) @ rows.by_pose
    second -= mixed @ inverse[bundle.point] @ mixed.transpose(0, 2, 1)
    first, photos = np.einsum("mij,mi->mj", rows.by_pose, left), len(bundle.cam_from_world)
    return _sums(second, bundle.photo, photos), _sums(first, bundle.photo, photos)


def _sums(values: Array, at: Index, count: int) -> Array:
    """(count, ...) sums of the values (m, ...) at each place."""
    columns = values.reshape(len(values), -1).T
    sums: Array = np.stack([np.bincount(at, column, count).astype(np.float64) for column in columns], axis=1)
    return sums.reshape(count, *values.shape[1:])
