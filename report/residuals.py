"""Reprojection errors of a model: of every observation, as a histogram, and as a field over the sensor of a camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unposed.optim.arrays import Array, Index, Mask
from unposed.optim.cameras import CAMERA_MODELS, fisheyes, intrinsics_of, project
from unposed.pipeline.artifacts import SparseModel

FIELD_COLUMNS = 14
"""Cells of a residual field along the longer side of the sensor."""
MIN_PER_CELL = 8
"""A cell with fewer observations shows noise, and is left empty."""
PATTERN = 0.5
"""Share of the usual error that all photos have in common at a place of the sensor, from which on it is a finding."""


@dataclass(frozen=True, eq=False)
class ObservationErrors:
    """Reprojection errors of the observations of a model, for the camera models in CAMERA_MODELS."""

    photo: Index
    """(m,) row of the photo in the model."""
    camera: Index
    """(m,)."""
    xy: Array
    """(m, 2) pixels: the key point."""
    offset_px: Array
    """(m, 2) projected point minus key point."""

    @property
    def length_px(self) -> Array:
        """(m,)."""
        return np.asarray(np.hypot(self.offset_px[:, 0], self.offset_px[:, 1]))


def observation_errors(model: SparseModel) -> ObservationErrors:
    """Project the points of a model into the photos that observe them, and subtract the key points."""
    known = np.array([camera.model in CAMERA_MODELS for camera in model.cameras], bool)
    rows = [intrinsics_of(c.model, c.params) if c.model in CAMERA_MODELS else np.full(8, np.nan) for c in model.cameras]
    photo = model.obs_photo
    keep = known[model.camera_of_photo[photo]]
    photo, row, point = photo[keep], model.obs_xy[keep], model.obs_point[keep]
    pose, camera = model.cam_from_world[photo], np.asarray(model.camera_of_photo[photo], np.int64)
    y = np.einsum("mij,mj->mi", pose[:, :, :3], model.points[point]) + pose[:, :, 3]
    round_eye = fisheyes([each.model for each in model.cameras])[camera]
    xy = np.asarray(model.xy[row], np.float64)
    return ObservationErrors(photo, camera, xy, project(y, np.array(rows).reshape(-1, 8)[camera], round_eye) - xy)


@dataclass(frozen=True, eq=False)
class ResidualField:
    """Mean reprojection error by place on the sensor: zero on average where the camera model is right."""

    width: int
    height: int
    """Of the sensor in pixels."""
    centre: Array
    """(n, 2) pixels: middle of each cell with enough observations."""
    mean_px: Array
    """(n, 2) mean error of its observations."""
    noise_px: Array
    """(n,) standard deviation that this mean would have if errors were independent."""
    median_length_px: float
    """Of all errors of the camera."""
    observations: int

    @property
    def pattern(self) -> float:
        """What the places of the sensor have in common, over the median error: the root of the mean over cells of
        |mean|^2 - noise^2. Zero on average where only noise is left."""
        if not len(self.mean_px) or self.median_length_px <= 0.0:
            return 0.0
        square = float((np.square(self.mean_px).sum(axis=1) - np.square(self.noise_px)).mean())
        return float(np.sqrt(max(square, 0.0))) / self.median_length_px


def residual_field(errors: ObservationErrors, own: Mask, width: int, height: int) -> ResidualField:
    """Average reprojection errors over the cells of a grid on the sensor. `own` (m,) are the observations that count,
    all by cameras of this size."""
    xy, offset, length = errors.xy[own], errors.offset_px[own], errors.length_px[own]
    side = max(width, height) / FIELD_COLUMNS
    columns, rows = max(1, round(width / side)), max(1, round(height / side))
    column = np.clip((xy[:, 0] * columns / width).astype(np.int64), 0, columns - 1)
    row = np.clip((xy[:, 1] * rows / height).astype(np.int64), 0, rows - 1)
    cell = row * columns + column
    count = np.bincount(cell, minlength=rows * columns)
    full = np.flatnonzero(count >= MIN_PER_CELL)
    mean = np.stack([np.bincount(cell, offset[:, i], minlength=rows * columns)[full] for i in (0, 1)], axis=1)
    centre = np.stack([(full % columns + 0.5) * width / columns, (full // columns + 0.5) * height / rows], axis=1)
    median = float(np.median(length)) if len(length) else 0.0
    noise = np.sqrt(np.bincount(cell, length**2, minlength=rows * columns)[full]) / count[full]
    return ResidualField(width, height, centre, mean / count[full, None], noise, median, len(xy))
