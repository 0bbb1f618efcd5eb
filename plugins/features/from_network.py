"""Conversions between photos and a network's images, and between its detections and features in pixels of the photo."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from unposed.networks.detections import Detections
from unposed.pipeline.artifacts import Bools, Bytes, Features, Photo
from unposed.pipeline.config import Within
from unposed.pipeline.images.pixels import photo_per_px, read_mask, read_rgb
from unposed.pipeline.stage import Grain, Resources

from ..network_errors import pipeline_errors
from ..shared.threads import on_threads
from .sampling import colours, no_features, visible

NETWORK_PIXEL_OFFSET_PX = 0.5
"""Added to coordinates of networks, which have the centre of the top-left pixel at (0, 0); ours is at (0.5, 0.5)."""
_WINDOW_PX = 5
"""Diameter of a key point: these networks detect maxima within a window of this side."""
_MASKED_FACTOR = 4
"""Detections per wanted key point where photos have masks: masked ones are removed afterwards."""


Detector = Callable[[Tensor, int], Sequence[Detections]]
"""Detect in images (b, 3, h, w) in [0, 1] at most so many key points each."""


def read_image(photo: Photo, max_side_px: int, multiple: int = 1) -> Bytes:
    """Read a photo as (h, w, 3), reduced to `max_side_px`, with sides rounded down to a multiple (at least one)."""
    image = read_rgb(photo, max_side_px)
    height, width = (max(multiple, side // multiple * multiple) for side in image.shape[:2])
    if (height, width) == image.shape[:2]:
        return image
    smaller = width * height <= image.shape[0] * image.shape[1]
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
    return np.asarray(resized, np.uint8)


def as_tensor(images: Sequence[Bytes], device: str) -> Tensor:
    """(b, c, h, w) float32 in [0, 1] of images of one size, (h, w, 3) or (h, w)."""
    stacked = torch.from_numpy(np.stack(images)).to(device)
    planes = stacked.permute(0, 3, 1, 2) if stacked.ndim == 4 else stacked[:, None]
    return planes.to(torch.float32, memory_format=torch.contiguous_format) / 255.0


@dataclass(frozen=True)
class NetworkFeatures(ABC):
    """Features by a network. A plugin derived from this one names its weights, and detects in batches of images."""

    grain: ClassVar[Literal[Grain.PHOTO]] = Grain.PHOTO
    cpu_batch: ClassVar[int] = 1
    descriptor_length: ClassVar[int]
    bytes_per_px: ClassVar[int]
    """Memory of the activations, which are largest at full resolution, per pixel of an image."""
    side_multiple_px: ClassVar[int] = 1
    """The sides of an image are a multiple of this. Photos are resized to it here, so that positions map back
    exactly."""

    max_keypoints: Annotated[int, Within("[16, 65536]")] = 4096
    max_side_px: Annotated[int, Within("[64, 16384]")] = 1024
    """Larger photos are reduced to this."""

    @abstractmethod
    def detector(self, device: str) -> Detector:
        """Load the network, and return what detects with it."""

    @property
    def descriptor_columns(self) -> int:
        """Entries of a descriptor as it is stored."""
        return self.descriptor_length

    @property
    def item_bytes(self) -> int:
        """Memory for one photo."""
        return self.bytes_per_px * self.max_side_px**2

    def __call__(self, photos: Photo, resources: Resources, wanted: bool = True) -> Features:
        return self.batch([(photos, wanted)], resources)[0]

    def batch(self, items: Sequence[tuple[Photo, bool]], resources: Resources) -> list[Features]:
        """Photos that are not wanted have no key points."""
        photos = [photo for photo, wanted in items if wanted]
        found = iter(self._extract(photos, resources) if photos else [])
        none = no_features(np.zeros((0, self.descriptor_columns), np.float16))
        return [next(found) if wanted else none for _, wanted in items]

    def _extract(self, photos: Sequence[Photo], resources: Resources) -> list[Features]:
        """Photos of one size form one batch of the network."""
        with pipeline_errors():
            detect = self.detector(resources.device)
        images = on_threads(
            lambda photo: read_image(photo, self.max_side_px, self.side_multiple_px), photos, resources.threads
        )
        masks = [read_mask(photo) for photo in photos]
        features: dict[int, Features] = {}
        for shape in sorted({image.shape for image in images}):
            rows = [i for i, image in enumerate(images) if image.shape == shape]
            factor = _MASKED_FACTOR if any(masks[i] is not None for i in rows) else 1
            found = detect(as_tensor([images[i] for i in rows], resources.device), self.max_keypoints * factor)
            for i, each in zip(rows, found, strict=True):
                features[i] = _features(photos[i], images[i], masks[i], each, self.max_keypoints)
        return [features[i] for i in range(len(photos))]


def _features(photo: Photo, image: Bytes, mask: Bools | None, found: Detections, limit: int) -> Features:
    xy = found.xy.float().cpu().numpy() + np.float32(NETWORK_PIXEL_OFFSET_PX)
    kept = np.arange(len(xy)) if mask is None else np.flatnonzero(visible(mask, image, xy))
    kept = kept[:limit]
    factors = np.array(photo_per_px(photo, image), np.float32)
    return Features(
        xy=xy[kept] * factors,
        scale=np.full(len(kept), _WINDOW_PX / 2 * factors.mean(), np.float32),
        descriptors=found.descriptors.cpu().numpy()[kept].astype(np.float16),
        rgb=colours(image, xy[kept]),
        score=found.score.float().cpu().numpy()[kept],
    )
