"""Undistorted images of the photos of a model, at a bounded size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np

from unposed.optim.arrays import Array, Array32
from unposed.optim.cameras import CAMERA_MODELS, CX, CY, FX, FY, intrinsics_of
from unposed.optim.undistortion import UndistortionOptions, centred_pinhole, origins
from unposed.pipeline.artifacts import Bools, Bytes, Camera, Photo, SparseModel
from unposed.pipeline.errors import InputError
from unposed.pipeline.images.pixels import read_mask, read_rgb, reduced_size
from unposed.pipeline.stage import InputUnavailable, StageError
from unposed.surface.stereo.view import Pinhole


@dataclass(frozen=True, eq=False)
class PinholeCamera:
    """The camera of undistorted images: its intrinsics, and where each of their pixels lies in the photo."""

    width: int
    height: int
    intrinsics: Array
    """(8,) focal lengths and principal point, in pixels of the undistorted image; no distortion."""
    seen_at: Array32
    """(height, width, 2) as a share of the photo's width and height."""

    def posed(self, cam_from_world: Array) -> Pinhole:
        """With the pose of a photo."""
        fx, fy, cx, cy = (float(self.intrinsics[each]) for each in (FX, FY, CX, CY))
        return Pinhole(self.width, self.height, fx, fy, cx, cy, np.asarray(cam_from_world, np.float64))


def pinhole_camera(camera: Camera, max_side_px: int, multiple_px: int, options: UndistortionOptions) -> PinholeCamera:
    """The camera of undistorted images of photos that are reduced to a longer side, with sides of a multiple."""
    width, height = reduced_size(camera.width, camera.height, max_side_px)
    given, fisheye = intrinsics_of(camera.model, camera.params), CAMERA_MODELS[camera.model].fisheye
    given[[FX, CX]] *= width / camera.width
    given[[FY, CY]] *= height / camera.height
    pinhole, new_width, new_height = centred_pinhole(given, fisheye, width, height, options, multiple_px)
    seen_at = origins(pinhole, new_width, new_height, given, fisheye)
    seen_at /= np.array((width, height), np.float32)
    return PinholeCamera(new_width, new_height, pinhole, seen_at)


def pinhole_cameras(
    model: SparseModel, max_side_px: int, multiple_px: int, options: UndistortionOptions
) -> list[PinholeCamera]:
    """One for each camera of a model."""
    return [pinhole_camera(each, max_side_px, multiple_px, options) for each in model.cameras]


def undistorted_rgb(photo: Photo, camera: PinholeCamera) -> Bytes:
    """(height, width, 3) undistorted image of a photo."""
    with _named(photo):
        image = read_rgb(photo, round(max(camera.width, camera.height) * 1.5))
    return _resampled(image, camera, cv2.INTER_LINEAR)


def undistorted_mask(photo: Photo, camera: PinholeCamera) -> Bools | None:
    """(height, width) what of the undistorted image is not hidden; None: all."""
    with _named(photo):
        mask = read_mask(photo)
    if mask is None:
        return None
    visible: Bools = _resampled(mask.astype(np.uint8), camera, cv2.INTER_NEAREST) > 0
    return visible


def observed_depths(model: SparseModel, row: int, camera: Pinhole) -> tuple[Array, Array]:
    """Pixels (n, 2) in the undistorted image of a photo, and depths (n,), of the points that it observes."""
    first, last = model.xy_start[row : row + 2]
    seen = model.obs_point[(model.obs_xy >= first) & (model.obs_xy < last)]
    xy, depth = camera.project(np.asarray(model.points[seen], np.float64))
    ahead = depth > 0
    return np.asarray(xy[ahead]), np.asarray(depth[ahead])


@contextmanager
def _named(photo: Photo) -> Iterator[None]:
    """Name a photo that was readable when it was reconstructed, and is not now."""
    try:
        yield
    except (StageError, InputUnavailable) as error:
        raise InputError(f"{photo.path}: {error}") from error


def _resampled(image: Bytes, camera: PinholeCamera, how: int) -> Bytes:
    height, width = image.shape[:2]
    x = np.ascontiguousarray(camera.seen_at[..., 0] * np.float32(width) - np.float32(0.5))
    y = np.ascontiguousarray(camera.seen_at[..., 1] * np.float32(height) - np.float32(0.5))
    return np.asarray(cv2.remap(image, x, y, how, borderMode=cv2.BORDER_REPLICATE), np.uint8)
