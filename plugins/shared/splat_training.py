"""What all trainers of splats have in common: the photos at their size, those held out, and the first Gaussians."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from unposed.optim.arrays import Array
from unposed.optim.undistortion import UndistortionOptions
from unposed.pipeline.artifacts import Bytes, Photos, SparseModel
from unposed.pipeline.errors import InputError
from unposed.surface.gaussians.initial import initial_gaussians, thinned_seeds, with_fillers
from unposed.surface.gaussians.scene import SplatRun, SplatState, TrainingOptions, TrainingView
from unposed.surface.gaussians.training import Draw, first_state, trained

from .pinhole_images import pinhole_cameras, undistorted_mask, undistorted_rgb

LEAST_SIGMA_RAD = 1e-9
"""Least uncertainty of a pose. One that was given and held has a standard deviation of zero, while motions are counted
in and divided by standard deviations. It moves nothing by as much as an image can show."""


def training_views(
    model: SparseModel,
    photos: Photos,
    sigma_deg: Array,
    options: TrainingOptions,
    undistortion: UndistortionOptions,
) -> tuple[TrainingView, ...]:
    """The undistorted photos of a model, in its order. Of every `test_every` the middle one is held out: the first and
    the last of a walk show what no other photo does. A position is taken to be known as well as a rotation: to turn a
    camera by its standard deviation or to shift it moves the scene by the same in the photo."""
    lenses = pinhole_cameras(model, options.max_side_px, 1, undistortion)
    views = []
    for row, index in enumerate(model.photos.tolist()):
        lens, photo = lenses[int(model.camera_of_photo[row])], photos[index]
        held_out = len(model.photos) >= options.held_out_from and row % options.test_every == min(
            options.test_every // 2, len(model.photos) // 2
        )
        camera = lens.posed(np.asarray(model.cam_from_world[row], np.float64))
        depth = camera.project(np.asarray(model.points, np.float64))[1]
        sigma_rad = max(float(np.radians(sigma_deg[row])), LEAST_SIGMA_RAD)
        away = float(np.median(depth[depth > 0])) if (depth > 0).any() else np.inf
        image, visible = undistorted_rgb(photo, lens), undistorted_mask(photo, lens)
        views.append(TrainingView(photo.name, camera, image, visible, held_out, sigma_rad, sigma_rad * away))
    return tuple(views)


def splat_run(
    views: tuple[TrainingView, ...],
    xyz: Array,
    rgb: Bytes,
    options: TrainingOptions,
    resume: SplatState | None,
    draw: Draw,
    device: str,
) -> SplatRun:
    """Prepare a training, from the first step or from where it was left."""
    if resume is None:
        xyz, rgb = thinned_seeds(xyz, rgb, views, options.seeds)
        xyz, rgb = with_fillers(xyz, rgb, views, options.cell_px)
        if not len(xyz):
            raise InputError("there are no points to begin with: run unposed dense and give --seeds DIR")
        resume = first_state(initial_gaussians(xyz, rgb, views), len(views))
    states: Iterator[SplatState] = trained(resume, views, options, draw, device)
    return SplatRun(views, states)
