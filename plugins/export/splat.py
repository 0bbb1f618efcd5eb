"""Export undistorted photos and a COLMAP model to train Gaussian splats from."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Annotated

import cv2
import numpy as np
from PIL import Image

from unposed.optim.cameras import CAMERA_MODELS, CX, CY, FX, FY, intrinsics_of
from unposed.optim.undistortion import UndistortionOptions, centred_pinhole, origins, undistorted
from unposed.pipeline.artifacts import Bools, Bytes, Camera, Floats, Photo, Photos, SparseModel, SparseModels
from unposed.pipeline.colmap_model import write_models
from unposed.pipeline.config import Within
from unposed.pipeline.errors import InputError
from unposed.pipeline.images.pixels import read_mask, read_rgb
from unposed.pipeline.stage import InputUnavailable, StageError


@dataclass(frozen=True)
class SplatExport:
    """Undistorted photos in folder/images, and a COLMAP model of them in folder/sparse/0.

    Cameras are PINHOLE with a central principal point, since some trainers ignore anything else without a warning. Only
    the largest model is written, with its photos upright in one folder, under names of ASCII letters that every program
    reads: a/1.png becomes a_1.jpg. What is masked or transparent is black in folder/masks.
    """

    quality: Annotated[int, Within("[1, 100]")] = 95
    """Of the JPEG files."""
    undistortion: UndistortionOptions = field(default_factory=UndistortionOptions)
    """Largest field of view of the undistorted photos."""

    def __call__(self, sparse: SparseModels, photos: Photos, folder: Path) -> None:
        if not sparse.models:
            raise InputError("there is no model to export: no photo was registered")
        model = sparse.models[0]
        registered = model.photos.tolist()
        names = plain_names(photos[index].name for index in registered)
        (folder / "images").mkdir(parents=True)
        cameras, xy = [], np.full(model.xy.shape, np.nan)
        for number, camera in enumerate(model.cameras):
            given, fisheye = intrinsics_of(camera.model, camera.params), CAMERA_MODELS[camera.model].fisheye
            pinhole, width, height = centred_pinhole(given, fisheye, camera.width, camera.height, self.undistortion)
            cameras.append(Camera("PINHOLE", width, height, tuple(pinhole[[FX, FY, CX, CY]].tolist())))
            seen_at = origins(pinhole, width, height, given, fisheye)
            for row in np.flatnonzero(model.camera_of_photo == number).tolist():
                own = slice(model.xy_start[row], model.xy_start[row + 1])
                new = undistorted(model.xy[own].astype(np.float64), given, fisheye, pinhole)
                outside = ~((new > 0.0) & (new < (width, height))).all(axis=1)
                new[outside] = np.nan
                xy[own] = new
                photo = photos[registered[row]]
                try:
                    self._write(photo, seen_at, folder, names[row])
                except (StageError, InputUnavailable) as error:  # readable when it was reconstructed
                    raise InputError(f"{photo.path}: {error}") from error
        renamed = list(photos.photos)
        for index, name in zip(registered, names, strict=True):
            renamed[index] = replace(renamed[index], name=name)
        whole = _only(replace(model, cameras=tuple(cameras), xy=xy), np.isfinite(xy[:, 0]))
        write_models([whole], Photos(tuple(renamed), {}), folder / "sparse")

    def _write(self, photo: Photo, seen_at: Floats, folder: Path, name: str) -> None:
        image = _resampled(read_rgb(photo), seen_at, (photo.width, photo.height))
        Image.fromarray(image).save(folder / "images" / name, quality=self.quality, subsampling=0)
        mask = read_mask(photo)
        if mask is not None:
            (folder / "masks").mkdir(exist_ok=True)
            visible = _resampled(mask.astype(np.uint8) * 255, seen_at, (photo.width, photo.height)) >= 128
            Image.fromarray(visible.astype(np.uint8) * 255).save((folder / "masks" / name).with_suffix(".png"))


def plain_names(names: Iterable[str]) -> list[str]:
    """Unique file names of ASCII letters, digits, - and _ for these names."""
    taken: set[str] = set()
    out = []
    for name in names:
        plain = re.sub(r"[^0-9A-Za-z-]+", "_", str(PurePosixPath(name).with_suffix("")))
        free, number = plain, 2
        while free.lower() in taken:  # some file systems ignore case
            free, number = f"{plain}_{number}", number + 1
        taken.add(free.lower())
        out.append(f"{free}.jpg")
    return out


def _resampled(image: Bytes, seen_at: Floats, size: tuple[int, int]) -> Bytes:
    """The image, which spans a photo of that size, resampled by the pinhole camera."""
    scale = np.array(image.shape[1::-1], np.float32) / np.array(size, np.float32)
    x, y = (np.ascontiguousarray(seen_at[..., axis] * scale[axis] - np.float32(0.5)) for axis in (0, 1))
    new: Bytes = np.asarray(cv2.remap(image, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE), np.uint8)
    return new


def _only(model: SparseModel, keep_xy: Bools) -> SparseModel:
    """The model with these key points only, and with the points that at least two of them observe."""
    keep = keep_xy[model.obs_xy]
    seen = np.bincount(model.obs_point[keep], minlength=len(model.points)) >= 2
    keep &= seen[model.obs_point]
    before = np.concatenate([[0], np.cumsum(keep_xy)])
    return replace(
        model,
        xy=model.xy[keep_xy],
        xy_start=before[model.xy_start],
        points=model.points[seen],
        rgb=model.rgb[seen],
        error_px=model.error_px[seen],
        obs_xy=before[model.obs_xy[keep]],
        obs_point=(np.cumsum(seen) - 1)[model.obs_point[keep]],
    )
