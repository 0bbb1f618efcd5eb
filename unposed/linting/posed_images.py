"""Images with cameras and poses as plain arrays, from a COLMAP model or from transforms.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unposed.optim.poses import camera_centres
from unposed.pipeline.artifacts import Camera
from unposed.pipeline.colmap_model import read_model

OPENGL = np.diag([1.0, -1.0, -1.0])
"""From axes of OpenCV (y down, z forward) to those of OpenGL (y up, z back), and back."""


@dataclass(frozen=True, eq=False)
class PosedImages:
    """Images with their cameras and poses, and the points that they see."""

    names: tuple[str, ...]
    """Sorted by id; of transforms.json, in the order of the frames."""
    ids: tuple[int, ...]
    cameras: Mapping[int, Camera]
    camera_ids: tuple[int, ...]
    """Per image."""
    cam_from_world: NDArray[np.float64]
    """(n, 3, 4)."""
    observations: NDArray[np.int64]
    """(n,) key points that see a point, per image; empty where the file does not say."""
    points: NDArray[np.float64]
    """(p, 3) world."""
    rgb: NDArray[np.uint8]
    """(p, 3)."""

    @property
    def centres(self) -> NDArray[np.float64]:
        """(n, 3) positions of the cameras in the world."""
        return camera_centres(self.cam_from_world)

    def camera_of(self, row: int) -> Camera:
        """The camera of an image."""
        return self.cameras[self.camera_ids[row]]


def posed_by_colmap(folder: Path) -> PosedImages:
    """Read a COLMAP model, binary or text. InputError if it cannot be read."""
    model = read_model(folder)
    images = sorted(
        (image for image in model.images.values() if image.has_pose and image.camera_id in model.cameras),
        key=lambda image: image.image_id,
    )
    points = [point for _, point in sorted(model.points3D.items())]
    return PosedImages(
        tuple(image.name for image in images),
        tuple(image.image_id for image in images),
        {key: Camera(c.model.name, c.width, c.height, tuple(map(float, c.params))) for key, c in model.cameras.items()},
        tuple(image.camera_id for image in images),
        np.array([image.cam_from_world().matrix() for image in images]).reshape(-1, 3, 4),
        np.array([image.num_points3D for image in images], np.int64),
        np.array([point.xyz for point in points]).reshape(-1, 3),
        np.array([point.color for point in points], np.uint8).reshape(-1, 3),
    )


def posed_by_transforms(content: Mapping[str, Any]) -> PosedImages:
    """Read the frames of a transforms.json; intrinsics that it lacks are not a number."""
    frames = content["frames"]
    world_from_cam = np.array([frame["transform_matrix"] for frame in frames], np.float64).reshape(len(frames), -1, 4)
    if world_from_cam.shape[1] < 3:
        raise ValueError("transform_matrix has fewer than three rows")
    rotation = world_from_cam[:, :3, :3] @ OPENGL
    inverse = np.swapaxes(rotation, 1, 2)
    cam_from_world = np.concatenate([inverse, -inverse @ world_from_cam[:, :3, 3:]], axis=2)
    cameras = {}
    for number, frame in enumerate(frames):
        given = {**frame, **content}  # what stands at the top counts for every frame
        params = tuple(float(given.get(key, "nan")) for key in ("fl_x", "fl_y", "cx", "cy"))
        cameras[number] = Camera("PINHOLE", int(given.get("w", 0)), int(given.get("h", 0)), params)
    return PosedImages(
        tuple(str(frame["file_path"]).removeprefix("./") for frame in frames),
        tuple(range(len(frames))),
        cameras,
        tuple(range(len(frames))),
        cam_from_world,
        np.empty(0, np.int64),
        np.empty((0, 3)),
        np.empty((0, 3), np.uint8),
    )
