"""Depth maps by Depth Anything 3, which is told the cameras of the finished model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch

from unposed.networks.manyview.cameras import normalize_poses
from unposed.networks.manyview.checkpoint import shared_many_view
from unposed.networks.manyview.config import PATCH_PX
from unposed.networks.manyview.da3 import Da3Network, GivenCameras
from unposed.networks.manyview.images import normalised
from unposed.networks.precision import Precision
from unposed.optim.arrays import Array32, Index
from unposed.optim.undistortion import UndistortionOptions
from unposed.pipeline.artifacts import Bytes, Depths, Photos, SparseModel
from unposed.pipeline.config import Within
from unposed.pipeline.slots import DenseStereo
from unposed.pipeline.stage import Resources
from unposed.pipeline.weights.files import WeightFile
from unposed.surface.stereo.depth_correction import CorrectionOptions, corrected_depth
from unposed.surface.stereo.fusion import FusionOptions
from unposed.surface.stereo.neighbours import NeighbourOptions
from unposed.surface.stereo.view import DepthEstimate

from ..network_errors import pipeline_errors
from .model_views import ModelViews, model_views, nothing_known


def _lenient() -> FusionOptions:
    """Confidence is a rank here, of which the last tenth is sky and edges; an error of a hundredth is left."""
    return FusionOptions(min_score=0.1, max_error_px=1.0, max_depth_error=0.02)


@dataclass(frozen=True)
class DepthAnything3Depths:
    """Depth of every pixel by a network that sees a photo with its neighbours, and knows their cameras: also where
    surfaces have no texture, and where two photos show a place.

    Its scale, and what is left of its error over a photo, are corrected by the sparse points; points are what several
    photos agree on. Not judged on real photos yet: its published weights could not be had where it was written.
    """

    model: Literal["small", "base", "large", "giant"] = "base"
    """Large and giant are for non-commercial use."""
    weights: Annotated[Path | None, WeightFile("da3-{model}.safetensors")] = None
    """File of the parameters, where it is not found by its name; its size is that of its shapes."""
    precision: Precision = "auto"
    """Of matrix products; auto is bfloat16 on a GPU (float16 or float32 on old ones) and float32 elsewhere."""
    max_side_px: Annotated[int, Within("[56, 2016]")] = 504
    """Longer side of the images, as in the training of the network."""
    points: Annotated[int, Within("[1, inf)")] = 200_000
    """Points at most; where there are more, they are thinned evenly."""
    neighbours: NeighbourOptions = field(default_factory=lambda: NeighbourOptions(sources=7))
    """Photos that are seen with a photo: groups of eight are what the network was published with."""
    correction: CorrectionOptions = field(default_factory=CorrectionOptions)
    fusion: FusionOptions = field(default_factory=_lenient)
    undistortion: UndistortionOptions = field(default_factory=UndistortionOptions)
    """Largest field of view of the undistorted photos."""

    def __call__(self, model: SparseModel, photos: Photos, resources: Resources) -> Depths:
        with pipeline_errors():
            net = shared_many_view(Da3Network, self.weights, resources.device, self.precision)
        views = model_views(model, photos, self.max_side_px, PATCH_PX, self.undistortion, self.neighbours)
        maps = [nothing_known(camera) for camera in views.cameras]
        groups = covering_groups(views.sources)
        for done, (members, wanted) in enumerate(groups, start=1):
            for row, depth, confidence in zip(members, *self._predicted(net, views, members), strict=True):
                if row in wanted:
                    maps[row] = self._estimate(views, row, depth, confidence)
            resources.report(done, len(groups) + 1, "depth")
        depths = views.fused(maps, self.fusion, self.points)
        resources.report(len(groups) + 1, len(groups) + 1, "points")
        return depths

    def _predicted(self, net: Da3Network, views: ModelViews, members: Sequence[int]) -> tuple[Array32, Array32]:
        """Depth and confidence (s, h, w) of the members, cropped about their middles to one size."""
        images = [views.rgb(row) for row in members]
        height, width = (min(image.shape[axis] for image in images) for axis in (0, 1))
        cropped = [_middle(image, height, width) for image in images]
        poses = torch.tensor(np.stack([views.cameras[row].cam_from_world for row in members]))[None]
        focal = torch.tensor([[[views.cameras[row].fx, views.cameras[row].fy] for row in members]])
        given = GivenCameras(normalize_poses(poses).float(), focal.float())
        given = GivenCameras(*(each.to(_device(net)) for each in given))
        seen = net(normalised([cropped], _device(net)), given=given)
        return seen.depth[0].float().cpu().numpy(), seen.confidence[0].float().cpu().numpy()

    def _estimate(self, views: ModelViews, row: int, depth: Array32, confidence: Array32) -> DepthEstimate:
        """Depth of a photo in units of the model; its trust is the rank of its confidence."""
        camera, mask = views.cameras[row], views.mask(row)
        height, width = depth.shape
        top, left = (camera.height - height) // 2, (camera.width - width) // 2
        good = np.isfinite(depth) & (depth > 0)
        if mask is not None:
            good &= mask[top : top + height, left : left + width]
        xy, known = views.points_in(row)
        fitted = corrected_depth(np.where(good, depth, np.float32(0)), xy - (left, top), known, self.correction)
        if fitted is None:
            return nothing_known(camera)
        order = confidence.ravel().argsort(kind="stable").argsort(kind="stable").reshape(depth.shape)
        found = nothing_known(camera)
        inverse, score = found.inverse.copy(), found.score.copy()
        inner = np.s_[top : top + height, left : left + width]
        inverse[inner] = np.where(good, 1.0 / np.where(good, fitted, 1.0), 0.0)
        score[inner] = np.where(good, (order + 1.0) / order.size, 0.0)
        return DepthEstimate(camera, inverse, score)


def covering_groups(sources: Sequence[Index]) -> list[tuple[list[int], set[int]]]:
    """Groups of photos, and of each the members whose depth it gives, such that every photo is given once.

    A group is a photo that none has given yet, with its sources, and gives all of them that are left: views are two to
    three times as many as photos, where a group for each photo would make them eight times as many.
    """
    left, groups = set(range(len(sources))), []
    for row in range(len(sources)):
        if row in left:
            members = [row, *sources[row].tolist()]
            groups.append((members, left.intersection(members)))
            left.difference_update(members)
    return groups


def _middle(image: Bytes, height: int, width: int) -> Bytes:
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def _device(net: Da3Network) -> torch.device:
    return next(net.parameters()).device


_: DenseStereo = DepthAnything3Depths()
