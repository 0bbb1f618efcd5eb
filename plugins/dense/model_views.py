"""What depth is estimated from: the undistorted photos of a model, their neighbours, and the sparse points in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unposed.optim.arrays import Array, Index
from unposed.optim.undistortion import UndistortionOptions
from unposed.pipeline.artifacts import Bools, Bytes, Depths, Photo, Photos, SparseModel
from unposed.surface.stereo.fusion import FusionOptions, fused_points
from unposed.surface.stereo.neighbours import NeighbourOptions, choose_sources
from unposed.surface.stereo.thinning import thinned
from unposed.surface.stereo.view import DepthEstimate, Pinhole

from ..shared.pinhole_images import PinholeCamera, observed_depths, pinhole_cameras, undistorted_mask, undistorted_rgb


@dataclass(frozen=True, eq=False)
class ModelViews:
    """The photos of a model, by their rows in it."""

    model: SparseModel
    photos: Sequence[Photo]
    lenses: Sequence[PinholeCamera]
    """Camera of each photo."""
    cameras: Sequence[Pinhole]
    """The same with poses."""
    sources: Sequence[Index]
    """The photos that each is compared with, best first."""

    def __len__(self) -> int:
        return len(self.photos)

    def rgb(self, row: int) -> Bytes:
        """(height, width, 3) undistorted image of a photo."""
        return undistorted_rgb(self.photos[row], self.lenses[row])

    def mask(self, row: int) -> Bools | None:
        """(height, width) what of it is not hidden; None: all."""
        return undistorted_mask(self.photos[row], self.lenses[row])

    def points_in(self, row: int) -> tuple[Array, Array]:
        """Pixels (n, 2) in the undistorted image, and depths (n,), of the points that a photo observes."""
        return observed_depths(self.model, row, self.cameras[row])

    def fused(self, maps: Sequence[DepthEstimate], options: FusionOptions, most_points: int) -> Depths:
        """Depth maps of all photos with the points that several of them agree on."""
        points, agreed = fused_points(maps, _mutual(self.sources), self.rgb, options)
        return Depths(self.model.photos, tuple(maps), tuple(agreed), thinned(points, most_points))


def model_views(
    model: SparseModel,
    photos: Photos,
    max_side_px: int,
    multiple_px: int,
    undistortion: UndistortionOptions,
    neighbours: NeighbourOptions,
) -> ModelViews:
    """Views of a bounded longer side, with sides of a multiple."""
    per_camera = pinhole_cameras(model, max_side_px, multiple_px, undistortion)
    lenses = [per_camera[camera] for camera in model.camera_of_photo.tolist()]
    cameras = [lens.posed(pose) for lens, pose in zip(lenses, model.cam_from_world, strict=True)]
    centres = np.array([camera.centre for camera in cameras]).reshape(-1, 3)
    rows = model.obs_photo
    world, seen = np.asarray(model.points, np.float64), np.asarray(model.obs_point, np.int64)
    sources = choose_sources(centres, world, rows, seen, neighbours)
    return ModelViews(model, [photos[index] for index in model.photos.tolist()], lenses, cameras, sources)


def nothing_known(camera: Pinhole) -> DepthEstimate:
    """No depth anywhere."""
    nothing = np.zeros((camera.height, camera.width), np.float32)
    return DepthEstimate(camera, nothing, nothing)


def _mutual(sources: Sequence[Index]) -> list[Index]:
    """The sources of each photo, and the photos that it is a source of: both have depths to compare with."""
    both = [set(each.tolist()) for each in sources]
    for row, each in enumerate(sources):
        for other in each.tolist():
            both[other].add(row)
    return [np.array(sorted(each), np.int64) for each in both]
