"""Depth maps by plane sweeps over inverse depth, and the points that several of them agree on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Annotated

import cv2
import numpy as np
import torch

from unposed.optim.arrays import Index
from unposed.optim.parallel import parallel_map
from unposed.optim.undistortion import UndistortionOptions
from unposed.pipeline.artifacts import Bytes, Depths, Photos, SparseModel
from unposed.pipeline.config import Within
from unposed.pipeline.slots import DenseStereo
from unposed.pipeline.stage import Resources
from unposed.surface.stereo.fusion import FusionOptions, fused_points
from unposed.surface.stereo.neighbours import NeighbourOptions, choose_sources, inverse_depth_range
from unposed.surface.stereo.sweep import SweepOptions, sweep_depth
from unposed.surface.stereo.thinning import thinned
from unposed.surface.stereo.view import DepthEstimate, StereoView

from ..shared.pinhole_images import pinhole_cameras, undistorted_mask, undistorted_rgb

VIEWS_HELD = 64
"""Images that are kept between the photos that are compared with them."""


@dataclass(frozen=True)
class PlaneSweep:
    """Depth of every pixel by comparing photos with their neighbours, on the CPU or a GPU; needs no network.

    Photos are undistorted and compared at a bounded size, in a range of depths that the sparse points give. A point is
    one that several photos agree on, with its colour, its normal, and the photos that see it.
    """

    max_side_px: Annotated[int, Within("[64, inf)")] = 1024
    """Longer side that photos are reduced to. Time grows with its square."""
    points: Annotated[int, Within("[1, inf)")] = 200_000
    """Points at most; where there are more, they are thinned evenly."""
    neighbours: NeighbourOptions = field(default_factory=NeighbourOptions)
    sweep: SweepOptions = field(default_factory=SweepOptions)
    fusion: FusionOptions = field(default_factory=FusionOptions)
    undistortion: UndistortionOptions = field(default_factory=UndistortionOptions)
    """Largest field of view of the undistorted photos."""

    def __call__(self, model: SparseModel, photos: Photos, resources: Resources) -> Depths:
        lenses = pinhole_cameras(model, self.max_side_px, 2**self.sweep.coarse_halvings, self.undistortion)
        lens_of = [lenses[camera] for camera in model.camera_of_photo.tolist()]
        cameras = [lens.posed(pose) for lens, pose in zip(lens_of, model.cam_from_world, strict=True)]
        members = [photos[index] for index in model.photos.tolist()]

        def rgb_of(row: int) -> Bytes:
            return undistorted_rgb(members[row], lens_of[row])

        @lru_cache(maxsize=VIEWS_HELD)
        def view_of(row: int) -> StereoView:
            grey = cv2.cvtColor(rgb_of(row), cv2.COLOR_RGB2GRAY).astype(np.float32) / np.float32(255)
            return StereoView(cameras[row], grey, undistorted_mask(members[row], lens_of[row]))

        rows = np.searchsorted(model.xy_start, model.obs_xy, side="right") - 1
        world, seen = np.asarray(model.points, np.float64), np.asarray(model.obs_point, np.int64)
        centres = np.array([camera.centre for camera in cameras]).reshape(-1, 3)
        sources = choose_sources(centres, world, rows, seen, self.neighbours)
        device = resources.device if resources.device.startswith("cuda") else "cpu"
        finished: list[int] = []

        def estimate(row: int) -> DepthEstimate:
            camera = cameras[row]
            depths = np.asarray(camera.project(world[seen[rows == row]])[1], np.float64)
            depths = depths[depths > 0]
            if len(sources[row]) and len(depths) >= self.neighbours.min_shared:
                found = sweep_depth(
                    view_of(row),
                    [view_of(each) for each in sources[row].tolist()],
                    inverse_depth_range(depths, self.neighbours.range_margin),
                    self.sweep,
                    device,
                )
            else:
                nothing = np.zeros((camera.height, camera.width), np.float32)
                found = DepthEstimate(camera, nothing, nothing)
            finished.append(row)
            resources.report(len(finished), len(cameras) + 1, "depth")
            return found

        # Threads that share a GPU wait for each other; single-threaded arithmetic gives the same bits for any number.
        threads = 1 if device != "cpu" else resources.threads
        maps = parallel_map(partial(_without_gradients, estimate), range(len(cameras)), threads)
        points, agreed = fused_points(maps, _mutual(sources), rgb_of, self.fusion)
        resources.report(len(cameras) + 1, len(cameras) + 1, "points")
        return Depths(model.photos, tuple(maps), tuple(agreed), thinned(points, self.points))


def _without_gradients(estimate: Callable[[int], DepthEstimate], row: int) -> DepthEstimate:
    with torch.inference_mode():
        return estimate(row)


def _mutual(sources: Sequence[Index]) -> list[Index]:
    """The sources of each photo, and the photos that it is a source of: both have depths to compare with."""
    both = [set(each.tolist()) for each in sources]
    for row, each in enumerate(sources):
        for other in each.tolist():
            both[other].add(row)
    return [np.array(sorted(each), np.int64) for each in both]


_: DenseStereo = PlaneSweep()
