"""SIFT key points with RootSIFT descriptors, by OpenCV."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import cv2
import numpy as np

from unposed.optim.pair.matching import SIFT_LENGTH
from unposed.pipeline.artifacts import Bools, Bytes, Features, Floats, Photo
from unposed.pipeline.config import Within
from unposed.pipeline.images.pixels import photo_per_px, read_mask, read_rgb
from unposed.pipeline.stage import Grain

from .sampling import colours, no_features, visible

_OPENCV_OFFSET_PX = 0.25
"""From OpenCV's key point coordinates to ours. Its top-left pixel has its centre at (0, 0), ours at (0.5, 0.5); and
its doubled image, on which it searches, is shifted by a quarter of a pixel that it does not take back."""

DESCRIPTOR_UNIT = 512
"""Descriptors are round(512 * sqrt(d / sum(d))), at most 255: rows of norm 512, as near as bytes can be."""

_SPANNED_PERCENT = (0.5, 99.5)
"""Of the pixels, between which grey levels are said to span: single lamps and dead pixels tell nothing."""

# Calibration of the threshold's estimate: SIFT finds, over all scales, about a third as many points as there are local
# extrema at the finest one, where differences of Gaussians are a little more than a quarter of OpenCV's contrast.
_EXTREMA_PER_POINT, _CONTRAST_PER_EXTREMUM = 3, 3.75


@dataclass(frozen=True)
class Sift:
    """At most `max_keypoints` per photo, the largest first, found on photos reduced to `max_side_px`.

    Large points are found again from other distances and in other light: of equally many, they give half as many
    matches again as those of strongest contrast do. For the same reason the photo is reduced: OpenCV searches at
    twice the resolution it is given, and the finest points of a large photo cost most and match least.
    Weaker points than the contrast threshold lets through match a little more often and are located so much worse that
    the poses lose by them. It is lowered for plain and faint photos, which have hardly any stronger ones.

    Dark and hazy photos are smoothed and stretched first (`min_grey_levels`).

    Where `wanted` is wired to a scene graph, photos without a pair in it get no key points.
    """

    grain: ClassVar[Literal[Grain.PHOTO]] = Grain.PHOTO
    version: ClassVar[int] = 6

    max_keypoints: Annotated[int, Within("[16, 65536]")] = 4096
    max_side_px: Annotated[int, Within("[64, 16384]")] = 800
    contrast_threshold: Annotated[float, Within("[0, 1]")] = 0.03
    min_keypoints: Annotated[int, Within("[0, 65536]")] = 1000
    """The contrast threshold is lowered in photos with fewer points: weak ones are better than none."""
    min_contrast_share: Annotated[float, Within("(0, 1]")] = 1 / 6
    """Least contrast threshold over the given one; fainter extrema are noise."""
    min_grey_levels: Annotated[int, Within("[0, 256]")] = 50
    """Photos whose grey levels span fewer of 256, taken in little light or in haze, are smoothed and stretched over all
    of them first: noise and rounding there are as large as what is to be seen. Where they span 60 to 100, smoothing
    costs some collections more than it brings, and so does smoothing a part of the photos. 0: never."""
    least_stretched: Annotated[int, Within("[1, 256]")] = 16
    """Grey levels that are stretched at least: noise would become key points in a photo of nothing but sky."""

    @property
    def item_bytes(self) -> int:
        """The scale space: about 15 float images of twice the side."""
        return 15 * 4 * 4 * self.max_side_px**2

    def __call__(self, photos: Photo, wanted: bool = True) -> Features:
        if not wanted:
            return no_features(np.zeros((0, SIFT_LENGTH), np.uint8))
        image = read_rgb(photos, self.max_side_px)
        grey = stretched(
            np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8), self.min_grey_levels, self.least_stretched
        )
        mask = read_mask(photos)
        # All points are described before any is chosen: the scale space would be built twice to choose first.
        sift = cv2.SIFT.create(0, 3, self._threshold(grey, mask), 10.0, 1.6)
        points, raw = sift.detectAndCompute(grey, None)
        if not points or raw is None:
            points, raw = [], np.zeros((0, SIFT_LENGTH), np.float32)
        x, y, diameter = np.array([(*p.pt, p.size) for p in points], np.float32).reshape(-1, 3).T
        xy = np.stack([x, y], axis=1) + np.float32(_OPENCV_OFFSET_PX)
        order = np.argsort(-diameter, kind="stable")
        if mask is not None:
            order = order[visible(mask, image, xy[order])]
        kept = order[: self.max_keypoints]
        factors = np.array(photo_per_px(photos, image), np.float32)
        scale = diameter[kept] * np.float32(0.5 * factors.mean())
        return Features(
            xy=xy[kept] * factors,
            scale=scale,
            descriptors=root_sift(raw[kept].astype(np.float32)),
            rgb=colours(image, xy[kept]),
            score=scale,
        )

    def _threshold(self, grey: Bytes, mask: Bools | None) -> float:
        """The contrast that leaves enough points, or the one asked for if that leaves more."""
        image = grey.astype(np.float32) / np.float32(255)
        differences = cv2.GaussianBlur(image, (0, 0), 1.26) - cv2.GaussianBlur(image, (0, 0), 1.0)
        around = np.ones((3, 3), np.uint8)
        extreme = (differences == cv2.dilate(differences, around)) | (differences == cv2.erode(differences, around))
        if mask is not None:
            size = grey.shape[1], grey.shape[0]
            extreme &= cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        contrast = _CONTRAST_PER_EXTREMUM * np.abs(differences[extreme])
        least, most = self.min_contrast_share * self.contrast_threshold, self.contrast_threshold
        contrast = contrast[contrast > least]  # of a plain photo all is extreme, with no contrast at all
        wanted = _EXTREMA_PER_POINT * min(self.min_keypoints, self.max_keypoints)
        enough = float(np.partition(contrast, -wanted)[-wanted]) if len(contrast) >= wanted else 0.0
        return min(max(enough, least), most)


def stretched(grey: Bytes, min_levels: int, least_stretched: int) -> Bytes:
    """The photo smoothed by one pixel, in floats so that rounded levels become finer ones, and stretched over all grey
    levels, if all but its darkest and brightest half percent span fewer than `min_levels`; of fewer than
    `least_stretched` no more is made."""
    dark, bright = np.percentile(grey, _SPANNED_PERCENT)
    if bright - dark >= min_levels:
        return grey
    smooth = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 1.0)
    dark, bright = np.percentile(smooth, _SPANNED_PERCENT)
    wide = np.rint((smooth - dark) * (255.0 / max(bright - dark, least_stretched)))
    return np.asarray(np.clip(wide, 0.0, 255.0), np.uint8)


def root_sift(descriptors: Floats) -> Bytes:
    """Square roots of the share each bin has in the descriptor's sum, as bytes: see DESCRIPTOR_UNIT."""
    total = np.maximum(descriptors.sum(1, keepdims=True), np.float32(1e-9))
    rooted: Bytes = np.minimum(np.rint(DESCRIPTOR_UNIT * np.sqrt(descriptors / total)), 255).astype(np.uint8)
    return rooted
