"""SIFT key points with RootSIFT descriptors, by OpenCV."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import cv2
import numpy as np

from unposed.pipeline.artifacts import Bytes, Features, Floats, Photo
from unposed.pipeline.config import Within
from unposed.pipeline.pixels import photo_per_px, read_mask, read_rgb
from unposed.pipeline.stage import Grain

from .sampling import colours, visible

CENTRE_PX = 0.25
"""From OpenCV's key point coordinates to ours. Its top-left pixel has its centre at (0, 0), ours at (0.5, 0.5); and
its doubled picture, on which it searches, is shifted by a quarter of a pixel that it does not take back."""

DESCRIPTOR_UNIT = 512
"""Descriptors are round(512 * sqrt(d / sum(d))), at most 255: rows of norm 512, as near as bytes can be."""

PLAIN = 500
"""A photo with fewer points has little to match with, and weak ones are better than none."""


@dataclass(frozen=True)
class Sift:
    """At most `max_keypoints` per photo, the largest first, found on photos reduced to `max_side_px`.

    Large points are found again from other distances and in other light: of equally many, they give half as many
    matches again as those of strongest contrast do. For the same reason the photo is reduced: OpenCV searches at
    twice the resolution it is given, and the finest points of a large photo cost most and match least.
    Weaker points than the contrast threshold lets through, half of OpenCV's own, match a little more often and are
    located so much worse that the poses lose by them. Plain and faint photos, which have hardly any stronger ones, are
    searched again for these.
    """

    grain: ClassVar[Grain] = Grain.PHOTO
    version: ClassVar[int] = 4

    max_keypoints: Annotated[int, Within("[16, 65536]")] = 4096
    max_side_px: Annotated[int, Within("[64, 16384]")] = 800
    contrast_threshold: Annotated[float, Within("[0, 1]")] = 0.02

    @property
    def item_bytes(self) -> int:
        """The scale space: about 15 float pictures of twice the side."""
        return 15 * 4 * 4 * self.max_side_px**2

    def __call__(self, photos: Photo) -> Features:
        picture = read_rgb(photos, self.max_side_px)
        grey = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)
        # All points are described before any is chosen: the scale space would be built twice to choose first.
        for threshold in (self.contrast_threshold, self.contrast_threshold / 4):
            points, raw = cv2.SIFT.create(0, 3, threshold, 10.0, 1.6).detectAndCompute(grey, None)
            if len(points) >= min(PLAIN, self.max_keypoints):
                break
        if not points or raw is None:
            points, raw = [], np.zeros((0, 128), np.float32)
        x, y, diameter = np.array([(*p.pt, p.size) for p in points], np.float32).reshape(-1, 3).T
        xy = np.stack([x, y], axis=1) + np.float32(CENTRE_PX)
        order = np.argsort(-diameter, kind="stable")
        mask = read_mask(photos)
        if mask is not None:
            order = order[visible(mask, picture, xy[order])]
        kept = order[: self.max_keypoints]
        factors = np.array(photo_per_px(photos, picture), np.float32)
        scale = diameter[kept] * np.float32(0.5 * factors.mean())
        return Features(
            xy=xy[kept] * factors,
            scale=scale,
            descriptors=root_sift(raw[kept].astype(np.float32)),
            rgb=colours(picture, xy[kept]),
            score=scale,
        )


def root_sift(descriptors: Floats) -> Bytes:
    """Square roots of the share each bin has in the descriptor's sum, as bytes: see DESCRIPTOR_UNIT."""
    total = np.maximum(descriptors.sum(1, keepdims=True), np.float32(1e-9))
    rooted: Bytes = np.minimum(np.rint(DESCRIPTOR_UNIT * np.sqrt(descriptors / total)), 255).astype(np.uint8)
    return rooted
