"""The scale of a model from depths in metres of some of its photos, whoever predicts these."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from unposed.optim.alignment.depth_scale import MetricScaleOptions, combined_scale, photo_log_scale, spread_photos
from unposed.optim.alignment.metric_scale import MetricScale
from unposed.optim.poses import camera_centres
from unposed.optim.undistortion import UndistortionOptions
from unposed.pipeline.artifacts import Bytes, Floats, Photos, SparseModel
from unposed.pipeline.stage import Resources, StageError

from ..shared.pinhole_images import observed_depths, pinhole_camera, undistorted_mask, undistorted_rgb

DepthInMetres = Callable[[Bytes, float], Floats]
"""Depth (h, w) along the optical axis, in metres, from an undistorted image (height, width, 3) and its focal length in
pixels. It covers the image, at any size; not a number where nothing is known, as in the sky."""


def scale_from_depths(
    model: SparseModel,
    photos: Photos,
    predict: DepthInMetres,
    max_side_px: int,
    multiple_px: int,
    options: MetricScaleOptions,
    undistortion: UndistortionOptions,
    resources: Resources,
) -> MetricScale:
    """Predict the depth of photos that are spread over the model, and compare it with that of their points.

    Images have a bounded longer side, and sides of a multiple. StageError says why there is no scale.
    """
    chosen = _chosen(model, options)
    found = np.full(len(chosen), np.nan)
    for place, row in enumerate(chosen.tolist()):
        camera = model.cameras[model.camera_of_photo[row]]
        lens = pinhole_camera(camera, max_side_px, multiple_px, undistortion)
        posed = lens.posed(model.cam_from_world[row])
        photo = photos[int(model.photos[row])]
        metres = predict(undistorted_rgb(photo, lens), (posed.fx + posed.fy) / 2.0)
        xy, known = observed_depths(model, row, posed)
        mask = undistorted_mask(photo, lens)
        if mask is not None:
            column, line = np.floor(xy).astype(np.int64).T
            inside = (column >= 0) & (column < posed.width) & (line >= 0) & (line < posed.height)
            inside[inside] = mask[line[inside], column[inside]]
            xy, known = xy[inside], known[inside]
        size = posed.width, posed.height
        found[place] = photo_log_scale(np.asarray(metres), xy, size, known, options.min_points)
        resources.report(place + 1, len(chosen), "depth in metres")
    scale = combined_scale(chosen, found, options)
    if isinstance(scale, str):
        raise StageError(scale)
    return scale


def _chosen(model: SparseModel, options: MetricScaleOptions) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    row = model.obs_photo
    points = np.bincount(row, minlength=len(model.photos))
    seen = np.asarray(model.points, np.float64)[model.obs_point]
    total = np.stack([np.bincount(row, seen[:, axis], len(model.photos)) for axis in range(3)], axis=1)
    return spread_photos(camera_centres(model.cam_from_world), total / np.maximum(points, 1)[:, None], points, options)
