"""Focal lengths of single photos by vanishing points, from the line segments that OpenCV's detector (LSD) finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import cv2
import numpy as np

from unposed.optim.arrays import Array
from unposed.optim.vanishing_points import VanishingPointOptions, focal_from_segments
from unposed.pipeline.artifacts import Bytes, Photo, PhotoCalibration
from unposed.pipeline.config import Within
from unposed.pipeline.images.pixels import read_grey
from unposed.pipeline.stage import Grain

_OPENCV_OFFSET_PX = 0.625
"""From OpenCV's line segments to our coordinates: 0.5, over the 0.8 of its size at which it searches the image."""


@dataclass(frozen=True)
class VanishingPoints(VanishingPointOptions):
    """Focal lengths of photos of buildings, rooms, tables and boxes; of others there is no estimate."""

    grain: ClassVar[Literal[Grain.PHOTO]] = Grain.PHOTO
    version: ClassVar[int] = 1

    max_side_px: Annotated[int, Within("[64, 16384]")] = 1000
    """Longer side of the photo in which segments are found: lines of larger photos are no more exact, and broken."""

    def __call__(self, photos: Photo) -> PhotoCalibration:
        image = read_grey(photos, self.max_side_px)
        height, width = image.shape
        found = focal_from_segments(line_segments(image), width, height, self)
        if found is None:
            return PhotoCalibration(float("nan"), float("inf"))
        return PhotoCalibration(found.focal_px * max(photos.width, photos.height) / max(width, height), found.log_sigma)


def line_segments(image: Bytes) -> Array:
    """(n, 2, 2) both ends of the line segments of a grey image, in pixels."""
    found = cv2.createLineSegmentDetector().detect(image)[0]
    if found is None:
        return np.zeros((0, 2, 2))
    return found.reshape(-1, 2, 2).astype(np.float64) + _OPENCV_OFFSET_PX
