"""Cameras as pyramids, with or without their photo."""

from __future__ import annotations

from typing import Any

import numpy as np
from viser.transforms import SO3

from unposed.optim.arrays import Array
from unposed.optim.cameras import CAMERA_MODELS, FX, FY, intrinsics_of
from unposed.optim.poses import camera_centres
from unposed.pipeline.artifacts import Camera

Rgb = tuple[int, int, int]
INK, CHOSEN, OTHER, EDGE = (70, 78, 92), (240, 160, 40), (205, 80, 60), (90, 160, 200)


def add_frustum(scene: Any, name: str, cam_from_world: Array, camera: Camera, scale: float, colour: Rgb) -> Any:
    """Draw a camera, (3, 4) in the world, at this depth; gives its handle."""
    known = camera.model in CAMERA_MODELS
    focal = intrinsics_of(camera.model, camera.params)[[FX, FY]] if known else np.full(2, camera.params[0])
    return scene.add_camera_frustum(
        name,
        fov=float(2.0 * np.arctan2(camera.height / 2.0, focal[1])),
        aspect=camera.width / focal[0] * focal[1] / camera.height,
        scale=scale,
        thickness=1.5,
        thickness_units="screen",
        color=colour,
        wxyz=SO3.from_matrix(cam_from_world[:, :3].T).wxyz,
        position=camera_centres(cam_from_world[None])[0],
    )
