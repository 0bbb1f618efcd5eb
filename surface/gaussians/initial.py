"""Gaussians to begin a training with: one per seed, and some where photos show what has no seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from unposed.optim.arrays import Array, Array32

from ..stereo.thinning import thinned
from ..stereo.view import DensePoints
from .scene import SH_0, Gaussians, TrainingView

NEIGHBOURS = 3
"""Points whose distance gives the first size of a Gaussian, as Kerbl et al. take them."""
FIRST_OPACITY = 0.5
FIRST_SIZE = 0.6
"""Of that distance: seeds of stereo leave no gaps, and each pixel that a Gaussian covers costs time."""


def initial_gaussians(xyz: Array, rgb: NDArray[np.uint8], views: Sequence[TrainingView]) -> Gaussians:
    """Round Gaussians at points, as large as the distance to the next points, with their colours.

    A Gaussian is not made larger than four pixels of the photo that is closest to it: lonely points would cover half
    of an image.
    """
    if not len(xyz):
        nothing = np.zeros((0, 3), np.float32)
        return Gaussians(nothing, nothing, np.zeros((0, 4), np.float32), np.zeros(0, np.float32), nothing)
    near = min(NEIGHBOURS, len(xyz) - 1)
    apart = np.asarray(cKDTree(xyz).query(xyz, near + 1)[0])[:, 1:] if near else np.ones((len(xyz), 1))
    size = FIRST_SIZE * np.sqrt((apart**2).mean(axis=1))
    span = np.full(len(xyz), np.inf)
    for view in views:
        xy, depth = view.camera.project(xyz)
        seen = (depth > 0) & ((xy > 0) & (xy < (view.camera.width, view.camera.height))).all(axis=1)
        span[seen] = np.minimum(span[seen], depth[seen] / view.camera.fx)
    span[~np.isfinite(span)] = np.median(span[np.isfinite(span)]) if np.isfinite(span).any() else 1.0
    size = np.clip(size, 0.2 * span, 4.0 * span)
    return Gaussians(
        xyz.astype(np.float32),
        np.log(np.repeat(size[:, None], 3, axis=1)).astype(np.float32),
        np.tile(np.array([1, 0, 0, 0], np.float32), (len(xyz), 1)),
        np.full(len(xyz), np.log(FIRST_OPACITY / (1 - FIRST_OPACITY)), np.float32),
        ((rgb / 255.0 - 0.5) / SH_0).astype(np.float32),
    )


def thinned_seeds(
    xyz: Array, rgb: NDArray[np.uint8], views: Sequence[TrainingView], budget: int
) -> tuple[Array, NDArray[np.uint8]]:
    """At most so many of the points, of the density that the closest photos have of them."""
    footprint = np.full(len(xyz), np.inf)
    for view in views:
        apart = np.linalg.norm(xyz - view.camera.centre, axis=1)
        footprint = np.minimum(footprint, apart / view.camera.fx)
    one_each = np.arange(len(xyz) + 1)
    points = DensePoints(
        xyz.astype(np.float32),
        np.zeros((len(xyz), 3), np.float32),
        rgb,
        footprint.astype(np.float32),
        one_each,
        np.zeros(len(xyz), np.int32),
    )
    fewer = thinned(points, budget)
    return fewer.xyz.astype(np.float64), fewer.rgb


def with_fillers(
    xyz: Array, rgb: NDArray[np.uint8], views: Sequence[TrainingView], cell_px: int
) -> tuple[Array, NDArray[np.uint8]]:
    """The points, and one more for each cell of the photos to train on in which there is none.

    Sky and blank walls have no seeds, and Gaussians do not travel across an image. Such a point lies at the depth of
    the farthest of the three points that are nearest in the image.
    """
    more_xyz, more_rgb = [xyz], [rgb]
    for view in views:
        camera = view.camera
        if view.held_out:
            continue
        known = np.concatenate(more_xyz)
        xy, depth = camera.project(known)
        seen = (depth > 0) & ((xy > 0) & (xy < (camera.width, camera.height))).all(axis=1)
        if seen.sum() < NEIGHBOURS:
            continue
        shape = -(-camera.height // cell_px), -(-camera.width // cell_px)
        taken = np.zeros(shape, bool)
        taken[tuple((xy[seen][:, ::-1] / cell_px).astype(int).T)] = True
        rows, columns = np.nonzero(~taken)
        middle = np.stack([columns, rows], axis=1) * cell_px + 0.5 * cell_px
        middle = np.minimum(middle, (camera.width - 0.5, camera.height - 0.5))
        pixel = tuple(middle[:, ::-1].astype(int).T)
        counts = np.ones(len(middle), bool) if view.visible is None else view.visible[pixel]
        middle, colours = middle[counts], view.rgb[pixel][counts]
        if len(middle):
            nearest = cKDTree(xy[seen]).query(middle, NEIGHBOURS)[1]
            more_xyz.append(np.asarray(camera.unproject(middle, depth[seen][nearest].max(axis=1)), np.float64))
            more_rgb.append(colours)
    return np.concatenate(more_xyz), np.concatenate(more_rgb)


def as_arrays(gaussians: Gaussians) -> dict[str, Array32]:
    """The parameters by name."""
    return {name: np.asarray(value, np.float32) for name, value in vars(gaussians).items()}
