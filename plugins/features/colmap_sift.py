"""SIFT key points with RootSIFT descriptors, by COLMAP's own extractor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import cv2
import numpy as np
import pycolmap
from numpy.typing import NDArray

from unposed.pipeline.artifacts import Bytes, Features, Photo
from unposed.pipeline.config import Within
from unposed.pipeline.images.pixels import photo_per_px, read_mask, read_rgb
from unposed.pipeline.stage import Grain

from .sampling import colours, visible


@dataclass(frozen=True)
class ColmapSift:
    """At most `max_keypoints` per photo, the largest first: they are detected again at other distances.

    Photos are resized to `search_side_px` before detection, and small ones enlarged up to twice, which SIFT's doubled
    first octave is for, at a cost that does not depend on the photo. Descriptors are those of `features.sift`: rounded
    square roots of norm 512. Compared with it: more and more often correct matches over wide baselines, slightly less
    exact positions, twice the CPU time for small photos, and one photo at a time, since pycolmap does not release the
    interpreter's lock.
    """

    grain: ClassVar[Literal[Grain.PHOTO]] = Grain.PHOTO
    version: ClassVar[int] = 1

    max_keypoints: Annotated[int, Within("[16, 65536]")] = 4096
    search_side_px: Annotated[int, Within("[64, 16384]")] = 1600
    contrast_threshold: Annotated[float, Within("[0, 1]")] = 0.005

    @property
    def item_bytes(self) -> int:
        """The scale space: about 20 float images."""
        return 20 * 4 * self.search_side_px**2

    def __call__(self, photos: Photo) -> Features:
        image = read_rgb(photos, self.search_side_px)
        mask = read_mask(photos)
        enlarge = min(2.0, self.search_side_px / max(image.shape))
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        if enlarge > 1.0:
            size = round(grey.shape[1] * enlarge), round(grey.shape[0] * enlarge)
            grey = cv2.resize(grey, size, interpolation=cv2.INTER_CUBIC)
        # Masked points are removed afterwards, so more of them are needed.
        points, raw = _extract(np.asarray(grey, np.uint8), self.max_keypoints * (1 if mask is None else 4), self)
        xy = points[:, :2] * (image.shape[1] / grey.shape[1], image.shape[0] / grey.shape[0])
        kept = np.argsort(-points[:, 2], kind="stable")
        if mask is not None:
            kept = kept[visible(mask, image, xy[kept])]
        kept = kept[: self.max_keypoints]
        factors = np.array(photo_per_px(photos, image))
        scale = (points[kept, 2] * (photos.width / grey.shape[1])).astype(np.float32)
        return Features(
            xy=(xy[kept] * factors).astype(np.float32),
            scale=scale,
            descriptors=raw[kept],
            rgb=colours(image, xy[kept]),
            score=scale,
        )


def _extract(grey: Bytes, limit: int, options: ColmapSift) -> tuple[NDArray[np.float64], Bytes]:
    """(n, 3) x, y and scale in pixels of grey, and (n, 128) uint8 descriptors."""
    pycolmap.logging.minloglevel = 2  # it logs every extractor that it creates
    settings = pycolmap.FeatureExtractionOptions(use_gpu=False, num_threads=1)
    settings.max_image_size = max(grey.shape)
    settings.sift.max_num_features = limit
    settings.sift.first_octave = 0
    settings.sift.peak_threshold = options.contrast_threshold
    points, descriptors = pycolmap.FeatureExtractor.create(settings).extract(pycolmap.Bitmap.from_array(grey))
    table = np.array([(p.x, p.y, p.compute_scale()) for p in points], np.float64).reshape(-1, 3)
    return table, np.asarray(descriptors.data, np.uint8).reshape(-1, 128)
