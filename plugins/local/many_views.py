"""Local scenes by networks that see many views: Depth Anything 3, VGGT and Pi3."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch

from unposed.networks.manyview.checkpoint import ManyViewNetwork, shared_many_view
from unposed.networks.manyview.config import PATCH_PX
from unposed.networks.manyview.da3 import Da3Network
from unposed.networks.manyview.images import fit_da3, fit_pi3, fit_vggt, normalised, view_frames
from unposed.networks.manyview.overlap import view_overlap
from unposed.networks.manyview.pi3 import Pi3Network
from unposed.networks.manyview.prediction import GroupPrediction, one_group
from unposed.networks.manyview.vggt import VggtNetwork
from unposed.networks.mast3r.images import ImageFrame
from unposed.networks.precision import Precision
from unposed.optim.rotations import nearest_rotation
from unposed.pipeline.artifacts import Bytes, DepthGrid, LocalScene, Photo
from unposed.pipeline.config import Within
from unposed.pipeline.images.pixels import read_rgb
from unposed.pipeline.stage import Grain, Members, Resources, StageError
from unposed.pipeline.weights.files import WeightFile

from ..matching.dense import shown_pixels
from ..network_errors import pipeline_errors
from ..shared.threads import on_threads

_BYTES_PER_PX = 700
"""Memory of one view beside the network: four layers of tokens of 1536 numbers for 196 pixels each, and maps."""
_MIN_SHARE = 0.05
"""Share of pixels with a usable depth below which a photo has none, as where all is sky."""


@dataclass(frozen=True)
class _ManyViews:
    """What the three plugins have in common."""

    grain: ClassVar[Literal[Grain.GROUP]] = Grain.GROUP
    version: ClassVar[int] = 1
    cpu_batch: ClassVar[int] = 1
    network: ClassVar[type[Any]]

    precision: Precision = "auto"
    """Of matrix products; auto is bfloat16 on a GPU (float16 or float32 on old ones) and float32 elsewhere."""
    compiled: bool = False
    """Let torch.compile make kernels for each shape of image, a minute each, on a GPU; see also `side_step_px`."""
    side_step_px: Annotated[int, Within("[14, 140]")] = PATCH_PX
    """Sides of the network's images are multiples of this, cropped, for few shapes; itself a multiple of 14, as 42 is,
    of which 4:3 at 504 pixels loses nothing."""
    grid_px: Annotated[int, Within("[1, 64]")] = 7
    """Distance of depth samples in pixels of the network's image. Seven is half a patch, the detail that it knows."""
    max_return_px: Annotated[float, Within("(0, inf)")] = 4.0
    """Distance, in pixels of the network's image, from which on a sample that was carried into another view and back
    does not count as seen there: two to three percent of error in depth move it so far at usual baselines."""

    def __post_init__(self) -> None:
        if self.side_step_px % PATCH_PX:
            raise ValueError(f"side_step_px must be a multiple of {PATCH_PX}, got {self.side_step_px}")

    @property
    def item_bytes(self) -> int:
        """Working memory of a group of eight."""
        return 8 * _BYTES_PER_PX * 504 * 378

    def _scenes(
        self,
        groups: Sequence[Members[Photo]],
        weights: Path | None,
        fit: Callable[[Bytes], Bytes],
        predict: Callable[[Any, torch.Tensor], GroupPrediction],
        resources: Resources,
    ) -> list[LocalScene]:
        """Groups whose images have one size, and which have as many photos, form one batch of the network."""
        with pipeline_errors():
            net = shared_many_view(self.network, weights, resources.device, self.precision, compiled=self.compiled)
            views = [_views(photos, fit, self.side_step_px, resources) for photos in groups]
        scenes: dict[int, LocalScene] = {}
        kinds = [(len(images), images[0].shape) for images, _ in views]
        for kind in sorted(set(kinds)):
            rows = [row for row, each in enumerate(kinds) if each == kind]
            seen = predict(net, normalised([views[row][0] for row in rows], resources.device))
            for place, row in enumerate(rows):
                alone = one_group(seen, place)
                scenes[row] = self._scene(alone, views[row][1], groups[row])
        return [scenes[row] for row in range(len(groups))]

    def _scene(self, seen: GroupPrediction, frames: Sequence[ImageFrame], photos: Members[Photo]) -> LocalScene:
        pose = seen.cam_from_world[0].double().cpu().numpy()
        pose[:, :, :3] = nearest_rotation(np.nan_to_num(pose[:, :, :3]))  # to the precision of the arithmetic to come
        # The frame of the group is that of its first camera.
        turn, move = pose[0, :, :3].T, -pose[0, :, :3].T @ pose[0, :, 3]
        local = np.concatenate([pose[:, :, :3] @ turn, (pose[:, :, :3] @ move + pose[:, :, 3])[..., None]], axis=2)
        focal = (seen.focal_px[0].double().cpu().numpy() * [frame.step_px for frame in frames]).mean(axis=1)
        if not (np.isfinite(local).all() and np.isfinite(focal).all() and (focal > 0).all()):
            raise StageError("the network gives no cameras for this group: are these photos of one place?")
        grids = tuple(
            self._grid(seen, view, frame, photo, float(focal[view]))
            for view, (frame, photo) in enumerate(zip(frames, photos, strict=True))
        )
        if not any(np.isfinite(grid.depth).any() for grid in grids):
            raise StageError("the network gives no depth for this group: its photos are sky, or its weights damaged")
        overlap = view_overlap(seen, self.grid_px, self.max_return_px).numpy().astype(np.float32)
        return LocalScene(local, focal, grids, overlap)

    def _grid(self, seen: GroupPrediction, view: int, frame: ImageFrame, photo: Photo, focal_px: float) -> DepthGrid:
        step, start = self.grid_px, self.grid_px // 2
        depth, confidence = (each[0, view, start::step, start::step].float().cpu().numpy() for each in seen[:2])
        row, column = np.indices(depth.shape).reshape(2, -1)
        xy = frame.to_photo(np.stack([start + step * column, start + step * row], axis=1))
        good = np.isfinite(depth) & (depth > 0) & shown_pixels(photo)(xy).reshape(depth.shape)
        middle = float(np.median(depth[good])) if good.mean() >= _MIN_SHARE else np.nan
        # A float16 holds a thousandfold of the median either way; beyond it depths mean nothing.
        good &= np.isfinite(middle) & (np.abs(np.log(np.where(good, depth, 1.0) / middle)) < np.log(1e3))
        order = confidence.ravel().argsort(kind="stable").argsort(kind="stable")
        rank = 1 + (254 * order / max(1, order.size - 1)).astype(np.uint8)
        return DepthGrid(
            origin_px=(float(xy[0, 0]), float(xy[0, 1])),
            step_px=(step * frame.step_px[0], step * frame.step_px[1]),
            depth=np.where(good, depth, np.nan).astype(np.float16),
            confidence=rank.reshape(depth.shape),
            focal_px=focal_px,
        )


def _views(
    photos: Members[Photo], fit: Callable[[Bytes], Bytes], step: int, resources: Resources
) -> tuple[list[Bytes], list[ImageFrame]]:
    images = on_threads(lambda photo: fit(read_rgb(photo)), photos, resources.threads)
    return view_frames([(photo.width, photo.height) for photo in photos], images, step)


@dataclass(frozen=True)
class DepthAnything3(_ManyViews):
    """Depth Anything 3 sees the photos of a group at once. Small and Base may be used for any purpose (Apache-2.0).

    Not judged on real photos yet: its published weights could not be had where it was written.
    """

    network: ClassVar[type[Any]] = Da3Network

    model: Literal["small", "base", "large", "giant"] = "base"
    """Large and giant are for non-commercial use."""
    weights: Annotated[Path | None, WeightFile("da3-{model}.safetensors")] = None
    """File of the parameters, where it is not found by its name; its size is that of its shapes."""
    size_px: Annotated[int, Within("[56, 2016]")] = 504
    """Longer side of the network's images, as in its training."""
    cameras: Literal["token", "rays"] = "token"
    """Where cameras are read from: a token of each view, or rays predicted for all its pixels, at a third more time;
    the latter are published as more accurate, and find principal points off the middle as well."""

    def __call__(self, photos: Members[Photo], resources: Resources) -> LocalScene:
        return self.batch([(photos,)], resources)[0]

    def batch(self, items: Sequence[tuple[Members[Photo]]], resources: Resources) -> list[LocalScene]:
        """Groups of equal shape form one batch of the network. The centre is the reference view."""

        def predict(net: Da3Network, images: torch.Tensor) -> GroupPrediction:
            found: GroupPrediction = net(images, reference="first", from_rays=self.cameras == "rays")
            return found

        groups = [photos for (photos,) in items]
        return self._scenes(groups, self.weights, lambda photo: fit_da3(photo, self.size_px), predict, resources)


@dataclass(frozen=True)
class Vggt(_ManyViews):
    """VGGT-1B sees the photos of a group at once. Its original weights are for non-commercial use.

    Not judged on real photos yet: its published weights could not be had where it was written.
    """

    network: ClassVar[type[Any]] = VggtNetwork

    weights: Annotated[Path | None, WeightFile("vggt.safetensors", "vggt.pt", "vggt_1B_commercial.pt")] = None
    """File of the parameters, where it is not found by its name."""
    size_px: Annotated[int, Within("[56, 2016]")] = 518
    """Longer side of the network's images, as in its training."""

    def __call__(self, photos: Members[Photo], resources: Resources) -> LocalScene:
        return self.batch([(photos,)], resources)[0]

    def batch(self, items: Sequence[tuple[Members[Photo]]], resources: Resources) -> list[LocalScene]:
        """Groups of equal shape form one batch of the network. The centre is the reference view."""
        groups = [photos for (photos,) in items]
        return self._scenes(groups, self.weights, lambda photo: fit_vggt(photo, self.size_px), _run, resources)


@dataclass(frozen=True)
class Pi3(_ManyViews):
    """Pi3 sees the photos of a group at once, with none as reference. Its weights are for non-commercial use.

    Not judged on real photos yet: its published weights could not be had where it was written.
    """

    network: ClassVar[type[Any]] = Pi3Network

    weights: Annotated[Path | None, WeightFile("pi3.safetensors")] = None
    """File of the parameters, where it is not found by its name."""
    pixels: Annotated[int, Within("[3136, 4000000]")] = 255_000
    """Most pixels of the network's images, as in its training."""

    def __call__(self, photos: Members[Photo], resources: Resources) -> LocalScene:
        return self.batch([(photos,)], resources)[0]

    def batch(self, items: Sequence[tuple[Members[Photo]]], resources: Resources) -> list[LocalScene]:
        """Groups of equal shape form one batch of the network."""
        groups = [photos for (photos,) in items]
        return self._scenes(groups, self.weights, lambda photo: fit_pi3(photo, self.pixels), _run, resources)


def _run(net: ManyViewNetwork, images: torch.Tensor) -> GroupPrediction:
    found: GroupPrediction = net(images)
    return found
