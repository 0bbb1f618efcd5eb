"""Export undistorted photos and a COLMAP model to train Gaussian splats from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import numpy as np

from unposed.optim.cameras import CAMERA_MODELS, CX, CY, FX, FY, intrinsics_of
from unposed.optim.undistortion import UndistortionOptions, centred_pinhole, origins, undistorted
from unposed.pipeline.artifacts import Bools, Camera, Photos, SparseModel, SparseModels
from unposed.pipeline.colmap_model import write_models
from unposed.pipeline.config import Within
from unposed.pipeline.errors import InputError

from .splat_files import held_out_names, link_colmap, write_points, write_readme, write_split, write_transforms
from .splat_images import SplatImages, have_masks, named_if_unreadable, plain_names


@dataclass(frozen=True)
class SplatExport:
    """A folder that programs for Gaussian splatting train from as it is: undistorted photos in images, a COLMAP model
    of them in sparse/0, transforms.json, and README.txt with a command for each program.

    Cameras are PINHOLE with a central principal point, since some trainers ignore anything else without a warning. Only
    the largest model is written, with its photos upright in one folder, under names of ASCII letters that every program
    reads: a/1.png becomes a_1.jpg. What is masked or transparent is black in folder/masks.
    """

    quality: Annotated[int, Within("[1, 100]")] = 95
    """Of the JPEG files."""
    halvings: Annotated[int, Within("[0, 5]")] = 3
    """Smaller copies in images_2, images_4, ...; sides of the images are multiples of the largest factor."""
    test_every: Annotated[int, Within("[2, inf)")] = 8
    """Every so many photos, by name, are listed as held out from training."""
    undistortion: UndistortionOptions = field(default_factory=UndistortionOptions)
    """Largest field of view of the undistorted photos."""

    def __call__(self, sparse: SparseModels, photos: Photos, folder: Path) -> None:
        if not sparse.models:
            raise InputError("there is no model to export: no photo was registered")
        model = sparse.models[0]
        registered = model.photos.tolist()
        names = plain_names([photos[index].name for index in registered])
        factors = tuple(2**number for number in range(1, self.halvings + 1))
        files = SplatImages(folder, self.quality, factors, have_masks(photos[index] for index in registered))
        files.begin()
        cameras, xy = [], np.full(model.xy.shape, np.nan)
        for number, camera in enumerate(model.cameras):
            given, fisheye = intrinsics_of(camera.model, camera.params), CAMERA_MODELS[camera.model].fisheye
            pinhole, width, height = centred_pinhole(
                given, fisheye, camera.width, camera.height, self.undistortion, multiple_px=2**self.halvings
            )
            cameras.append(Camera("PINHOLE", width, height, tuple(pinhole[[FX, FY, CX, CY]].tolist())))
            seen_at = origins(pinhole, width, height, given, fisheye)
            for row in np.flatnonzero(model.camera_of_photo == number).tolist():
                own = slice(model.xy_start[row], model.xy_start[row + 1])
                new = undistorted(model.xy[own].astype(np.float64), given, fisheye, pinhole)
                outside = ~((new > 0.0) & (new < (width, height))).all(axis=1)
                new[outside] = np.nan
                xy[own] = new
                photo = photos[registered[row]]
                with named_if_unreadable(photo):
                    files.write(photo, seen_at, names[row])
        renamed = list(photos.photos)
        for index, name in zip(registered, names, strict=True):
            renamed[index] = replace(renamed[index], name=name)
        whole = _only(replace(model, cameras=tuple(cameras), xy=xy), np.isfinite(xy[:, 0]))
        write_models([whole], Photos(tuple(renamed), {}), folder / "sparse")
        held_out = held_out_names(names, self.test_every)
        write_points(whole, folder)
        write_transforms(whole, names, held_out, files.with_masks, folder / "transforms.json")
        write_split(names, held_out, folder)
        link_colmap(folder)
        left_out = [photo.name for index, photo in enumerate(photos.photos) if index not in set(registered)]
        write_readme(whole, len(photos), left_out, factors, folder / "README.txt")


def _only(model: SparseModel, keep_xy: Bools) -> SparseModel:
    """The model with these key points only, and with the points that at least two of them observe.

    Of points at exactly one place, as two key points at one pixel make them, the first stays: trainers take the
    distance to the nearest points as the first size of a splat.
    """
    first = np.unique(model.points, axis=0, return_index=True)[1]
    keep = keep_xy[model.obs_xy] & np.isin(model.obs_point, first)
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
