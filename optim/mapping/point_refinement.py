"""Refinement of points alone, under cameras that stay: where they were triangulated linearly, before an adjustment of
everything from cameras that are nearly right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..arrays import Array
from ..bundle.losses import Loss
from ..bundle.problem import ROWS_AT_ONCE, Bundle, camera_points
from ..bundle.reprojection import MIN_DEPTH
from ..cameras import fisheyes, project_with_jacobians


def refine_points(bundle: Bundle, loss: Loss, loss_px: float, sigma: Array | None, iterations: int) -> Bundle:
    """Move each point to the least robust reprojection error: X' = X - (sum_i w_i J_i^T J_i)^-1 sum_i w_i J_i^T e_i,
    over the observations of the point, with w_i the weight of the loss over the variance `sigma` (m,) squared.

    A linear triangulation is a tenth of a pixel off, which an adjustment of everything takes as many of its steps to
    mend.
    """
    for _ in range(iterations):
        matrix, gradient = np.zeros((len(bundle.points), 9)), np.zeros((len(bundle.points), 3))
        for begin in range(0, len(bundle.xy), ROWS_AT_ONCE):
            part = _part(bundle, slice(begin, begin + ROWS_AT_ONCE))
            own = np.ones(len(part.xy)) if sigma is None else sigma[begin : begin + ROWS_AT_ONCE]
            _add_equations(part, loss, loss_px, own, matrix, gradient)
        normal = matrix.reshape(-1, 3, 3)
        normal += 1e-9 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(3) + 1e-300 * np.eye(3)
        step = np.linalg.solve(normal, gradient[:, :, None])[:, :, 0]
        bundle = replace(bundle, points=bundle.points - step)
    return bundle


def _part(bundle: Bundle, rows: slice) -> Bundle:
    return replace(bundle, xy=bundle.xy[rows], photo=bundle.photo[rows], point=bundle.point[rows], row=bundle.row[rows])


def _add_equations(part: Bundle, loss: Loss, loss_px: float, sigma: Array, matrix: Array, gradient: Array) -> None:
    """Add the normal equations (points, 9) and (points, 3) of some observations."""
    y = camera_points(part)
    front = y[:, 2] > MIN_DEPTH
    y[~front] = 1.0
    camera = part.camera_of_photo[part.photo]
    pixels, by_y, _ = project_with_jacobians(y, part.intrinsics[camera], fisheyes(part.models)[camera])
    error = (pixels - part.xy) / sigma[:, None]
    by_point = by_y @ part.cam_from_world[part.photo][:, :, :3] / sigma[:, None, None]
    weight = loss.weight_and_curvature(np.einsum("mi,mi->m", error, error) / loss_px**2, np)[0] * front
    first = np.flatnonzero(np.diff(part.point, prepend=-1))
    weighted = weight[:, None, None] * by_point
    products = np.matmul(weighted.transpose(0, 2, 1), by_point).reshape(-1, 9)
    matrix[part.point[first]] += np.add.reduceat(products, first, axis=0)
    gradient[part.point[first]] += np.add.reduceat(np.einsum("mij,mi->mj", weighted, error), first, axis=0)
