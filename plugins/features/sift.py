"""SIFT key points with RootSIFT descriptors, by OpenCV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

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


@dataclass(frozen=True)
class Sift:
    """At most `max_keypoints` per photo, found on photos reduced to `max_side_px`.

    The points of strongest contrast are taken, and sorted by contrast times size: the large ones are found again
    from farther away, so that they serve best where only the first few hundred are matched.
    The contrast threshold is low on purpose: textured photos fill up with strong points anyway, and plain ones
    need the weak. OpenCV searches at twice the resolution it is given; beyond 1200 pixels that costs much CPU and
    trades points that match over wide baselines for points that are located a little better.
    """

    grain: ClassVar[Grain] = Grain.PHOTO
    version: ClassVar[int] = 2

    max_keypoints: Annotated[int, Within("[16, 65536]")] = 4096
    max_side_px: Annotated[int, Within("[64, 16384]")] = 1200
    contrast_threshold: Annotated[float, Within("[0, 1]")] = 0.01

    @property
    def item_bytes(self) -> int:
        """The scale space: about 15 float pictures of twice the side."""
        return 15 * 4 * 4 * self.max_side_px**2

    def __call__(self, photos: Photo) -> Features:
        picture = read_rgb(photos, self.max_side_px)
        grey = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)
        mask = read_mask(photos)
        # OpenCV chooses the strongest before it looks at a mask: with one, all are found and the choice is ours.
        limit = self.max_keypoints if mask is None else 0
        sift = cv2.SIFT.create(limit, 3, self.contrast_threshold, 10.0, 1.6)
        if mask is None:
            points, raw = sift.detectAndCompute(grey, None)
        else:
            found = sorted(sift.detect(grey), key=lambda point: -point.response)
            at = np.array([point.pt for point in found], np.float64).reshape(-1, 2) + CENTRE_PX
            shown = np.flatnonzero(visible(mask, picture, at))[: self.max_keypoints]
            points, raw = sift.compute(grey, [found[row] for row in shown])
        return _features(photos, picture, points, raw, self.max_keypoints)


def _features(
    photo: Photo, picture: Bytes, points: Sequence[cv2.KeyPoint], raw: NDArray[np.generic] | None, limit: int
) -> Features:
    if not points or raw is None:
        points, raw = [], np.zeros((0, 128), np.float32)
    x, y, size, contrast = np.array([(*p.pt, p.size, p.response) for p in points], np.float32).reshape(-1, 4).T
    kept = np.argsort(-contrast, kind="stable")[:limit]  # OpenCV keeps more where the last ones are equally strong
    score = (contrast * size)[kept]
    kept, score = kept[order := np.argsort(-score, kind="stable")], score[order]
    xy = np.stack([x, y], axis=1)[kept] + np.float32(CENTRE_PX)
    factors = np.array(photo_per_px(photo, picture), np.float32)
    return Features(
        xy=xy * factors,
        scale=size[kept] * np.float32(0.5 * factors.mean()),  # OpenCV's size is a diameter
        descriptors=root_sift(raw[kept].astype(np.float32)),
        rgb=colours(picture, xy),
        score=score,
    )


def root_sift(descriptors: Floats) -> Bytes:
    """Square roots of the share each bin has in the descriptor's sum, as bytes: see DESCRIPTOR_UNIT."""
    total = np.maximum(descriptors.sum(1, keepdims=True), np.float32(1e-9))
    rooted: Bytes = np.minimum(np.rint(DESCRIPTOR_UNIT * np.sqrt(descriptors / total)), 255).astype(np.uint8)
    return rooted
