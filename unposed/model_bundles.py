"""Finished models as bundle adjustment takes them, and back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from unposed.optim.bundle.problem import Bundle, errors_px
from unposed.optim.cameras import intrinsics_of, params_of
from unposed.pipeline.artifacts import Camera, SparseModel


def bundle_of_model(model: SparseModel) -> Bundle:
    """A model as bundle adjustment takes it; rows are those of its own key points."""
    return Bundle(
        models=tuple(camera.model for camera in model.cameras),
        intrinsics=np.array([intrinsics_of(camera.model, camera.params) for camera in model.cameras]).reshape(-1, 8),
        camera_of_photo=np.asarray(model.camera_of_photo, np.int64),
        cam_from_world=np.array(model.cam_from_world, np.float64),
        points=np.array(model.points, np.float64),
        xy=np.asarray(model.xy, np.float64)[model.obs_xy],
        photo=model.obs_photo,
        point=np.asarray(model.obs_point, np.int64),
        row=np.asarray(model.obs_xy, np.int64),
        rigs=model.rigs,
    )


def model_of_bundle(model: SparseModel, bundle: Bundle) -> SparseModel:
    """The model with the values of a bundle that has its photos, points and observations."""
    cameras = tuple(
        Camera(each.model, each.width, each.height, params_of(each.model, values))
        for each, values in zip(model.cameras, bundle.intrinsics, strict=True)
    )
    count = np.bincount(bundle.point, minlength=len(bundle.points))
    error = np.bincount(bundle.point, errors_px(bundle), minlength=len(bundle.points)) / np.maximum(count, 1)
    return replace(
        model,
        cameras=cameras,
        cam_from_world=bundle.cam_from_world,
        points=bundle.points,
        error_px=error,
        rigs=bundle.rigs,
    )
