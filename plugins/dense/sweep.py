"""Depth maps by plane sweeps over inverse depth, and the points that several of them agree on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Annotated

import cv2
import numpy as np
import torch

from unposed.optim.parallel import lent_threads, parallel_map
from unposed.optim.undistortion import UndistortionOptions
from unposed.pipeline.artifacts import Depths, Photos, SparseModel
from unposed.pipeline.config import Within
from unposed.pipeline.slots import DenseStereo
from unposed.pipeline.stage import Resources
from unposed.surface.stereo.fusion import FusionOptions
from unposed.surface.stereo.neighbours import NeighbourOptions, inverse_depth_range
from unposed.surface.stereo.sweep import SweepOptions, sweep_depth
from unposed.surface.stereo.view import DepthEstimate, StereoView

from .model_views import model_views, nothing_known

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
        multiple = 2**self.sweep.coarse_halvings
        views = model_views(model, photos, self.max_side_px, multiple, self.undistortion, self.neighbours)

        @lru_cache(maxsize=VIEWS_HELD)
        def view_of(row: int) -> StereoView:
            grey = cv2.cvtColor(views.rgb(row), cv2.COLOR_RGB2GRAY).astype(np.float32) / np.float32(255)
            return StereoView(views.cameras[row], grey, views.mask(row))

        device = resources.device if resources.device.startswith("cuda") else "cpu"
        finished: list[int] = []

        def estimate(row: int) -> DepthEstimate:
            sources, (_, depths) = views.sources[row].tolist(), views.points_in(row)
            if sources and len(depths) >= self.neighbours.min_shared:
                found = sweep_depth(
                    view_of(row),
                    [view_of(each) for each in sources],
                    inverse_depth_range(depths, self.neighbours.range_margin),
                    self.sweep,
                    device,
                )
            else:
                found = nothing_known(views.cameras[row])
            finished.append(row)
            resources.report(len(finished), len(views) + 1, "depth")
            return found

        # Threads that share a GPU wait for each other; single-threaded arithmetic gives the same bits for any number.
        threads = 1 if device != "cpu" else resources.threads
        with lent_threads(threads):
            maps = parallel_map(partial(_without_gradients, estimate), range(len(views)))
        depths = views.fused(maps, self.fusion, self.points)
        resources.report(len(views) + 1, len(views) + 1, "points")
        return depths


def _without_gradients(estimate: Callable[[int], DepthEstimate], row: int) -> DepthEstimate:
    with torch.inference_mode():
        return estimate(row)


_: DenseStereo = PlaneSweep()
