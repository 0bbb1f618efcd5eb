"""SIFT key points with RootSIFT descriptors, by OpenCV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from unposed.pipeline.artifacts import Bools, Bytes, Features, Floats, Photo
from unposed.pipeline.config import Within
from unposed.pipeline.pixels import photo_per_px, read_mask, read_rgb
from unposed.pipeline.stage import Grain

CENTRE_PX = 0.25
"""From OpenCV's key point coordinates to ours. Its top-left pixel has its centre at (0, 0), ours at (0.5, 0.5); and
its doubled picture, on which it searches, is shifted by a quarter of a pixel that it does not take back."""

DESCRIPTOR_UNIT = 512
"""Descriptors are round(512 * sqrt(d / sum(d))), at most 255: rows of norm 512, as near as bytes can be."""


@dataclass(frozen=True)
class Sift:
    """At most `max_keypoints` per photo, the strongest first, found on photos no longer than `max_side_px`.

    The contrast threshold is low on purpose: textured photos fill up with strong points anyway, and plain ones
    need the weak.
    """

    grain: ClassVar[Grain] = Grain.PHOTO
    version: ClassVar[int] = 1

    max_keypoints: Annotated[int, Within("[16, 65536]")] = 4096
    max_side_px: Annotated[int, Within("[64, 16384]")] = 1600
    contrast_threshold: Annotated[float, Within("[0, 1]")] = 0.01

    @property
    def item_bytes(self) -> int:
        """The scale space holds about 15 float pictures of twice the side."""
        return 15 * 4 * 4 * self.max_side_px**2

    def __call__(self, photos: Photo) -> Features:
        picture = read_rgb(photos, self.max_side_px)
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        mask = read_mask(photos)
        detector = cv2.SIFT_create(0 if mask is not None else self.max_keypoints, 3, self.contrast_threshold, 10, 1.6)
        if mask is None:
            points, raw = detector.detectAndCompute(grey, None)
        else:
            # OpenCV would spend the number of points asked for on what the mask hides.
            found = [p for p in detector.detect(grey, None) if _visible(p.pt, grey, mask)]
            strongest = sorted(found, key=lambda p: -p.response)[: self.max_keypoints]
            points, raw = detector.compute(grey, strongest)
        return _features(photos, picture, points, raw, self.max_keypoints)


def _visible(xy: Sequence[float], grey: Bytes, mask: Bools) -> bool:
    row = int((xy[1] + CENTRE_PX) / grey.shape[0] * mask.shape[0])
    column = int((xy[0] + CENTRE_PX) / grey.shape[1] * mask.shape[1])
    return bool(mask[min(row, mask.shape[0] - 1), min(column, mask.shape[1] - 1)])


def _features(
    photo: Photo, picture: Bytes, points: Sequence[cv2.KeyPoint], raw: NDArray[np.float32] | None, limit: int
) -> Features:
    if not points or raw is None:
        points, raw = [], np.zeros((0, 128), np.float32)
    table = np.array([(*p.pt, p.size, p.response) for p in points], np.float32).reshape(-1, 4)
    best = np.argsort(-table[:, 3], kind="stable")[:limit]
    table, raw = table[best], raw[best]
    xy = table[:, :2] + np.float32(CENTRE_PX)
    column, row = np.minimum(xy.astype(np.int64), (picture.shape[1] - 1, picture.shape[0] - 1)).T
    factors = np.array(photo_per_px(photo, picture), np.float32)
    return Features(
        xy=xy * factors,
        scale=table[:, 2] * np.float32(0.5 * factors.mean()),  # OpenCV's size is a diameter
        descriptors=root_sift(raw),
        rgb=picture[row, column],
        score=table[:, 3],
    )


def root_sift(descriptors: Floats) -> Bytes:
    """Square roots of the share each bin has in the descriptor's sum, as bytes: see DESCRIPTOR_UNIT."""
    total = np.maximum(descriptors.sum(1, keepdims=True), np.float32(1e-9))
    return np.minimum(np.rint(DESCRIPTOR_UNIT * np.sqrt(descriptors / total)), 255).astype(np.uint8)
