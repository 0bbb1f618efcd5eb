"""Export points, and cameras as wire frames, as PLY files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from unposed.pipeline.artifacts import Photos, SparseModel, SparseModels
from unposed.pipeline.config import Within
from unposed.pipeline.ply_files import vertices, write_ply

EDGE = np.dtype([("vertex1", "<i4"), ("vertex2", "<i4")])

FRUSTUM_EDGES = np.array([(0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (2, 3), (3, 4), (4, 1)])
"""From the camera centre to the corners of the image, and around it."""

Channel = Annotated[int, Within("[0, 255]")]


@dataclass(frozen=True)
class PlyExport:
    """Writes folder/points-0.ply with colours, points-1.ply for the next model, and so on."""

    cameras: bool = False
    """Also write cameras-0.ply: every camera as a pyramid of lines."""
    camera_size: Annotated[float, Within("(0, inf)")] = 0.02
    """Height of a pyramid over the median absolute depth of the points in its camera."""
    camera_rgb: tuple[Channel, Channel, Channel] = (255, 64, 32)
    """Colour of the pyramids, red, green and blue."""

    def __call__(self, sparse: SparseModels, photos: Photos, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for number, model in enumerate(sparse.models):
            write_ply(folder / f"points-{number}.ply", {"vertex": vertices(model.points, model.rgb)})
            if self.cameras:
                write_ply(folder / f"cameras-{number}.ply", _frusta(model, self.camera_size, self.camera_rgb))


def _frusta(model: SparseModel, size: float, rgb: tuple[int, int, int]) -> dict[str, NDArray[np.void]]:
    xyz, ends = camera_frusta(model, size)
    edges = np.empty(len(ends), EDGE)
    edges["vertex1"], edges["vertex2"] = ends.T
    return {"vertex": vertices(xyz, np.broadcast_to(np.array(rgb), xyz.shape)), "edge": edges}


def camera_frusta(model: SparseModel, size: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Five vertices (5 p, 3) and eight edges (8 p, 2) of the pyramids of all cameras."""
    corners = [_image_corners(model, row, size) for row in range(len(model.photos))]
    ends = (5 * np.arange(len(corners))[:, None, None] + FRUSTUM_EDGES).reshape(-1, 2)
    return np.concatenate([np.empty((0, 3)), *corners]), ends


def _image_corners(model: SparseModel, row: int, size: float) -> NDArray[np.float64]:
    """World positions (5, 3) of the camera centre and the corners of its image, at a depth in proportion to the
    model."""
    rotation, translation = model.cam_from_world[row, :, :3], model.cam_from_world[row, :, 3]
    depths = model.points @ rotation[2] + translation[2]
    depth = size * (float(np.median(np.abs(depths))) if len(depths) else 1.0)
    camera = model.cameras[model.camera_of_photo[row]]
    # Parameters begin with a focal length; half the image over it is the slope of the pyramid's sides.
    half = depth * np.array([camera.width, camera.height]) / (2 * camera.params[0])
    in_camera = np.full((5, 3), depth)
    in_camera[0], in_camera[1:, :2] = 0.0, half * [(-1, -1), (1, -1), (1, 1), (-1, 1)]
    corners: NDArray[np.float64] = (in_camera - translation) @ rotation
    return corners
