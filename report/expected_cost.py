"""What a run will take, from the number and size of the photos, their overlap, and how fast this machine is."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median

import cv2
import numpy as np

from unposed.pipeline.artifacts import Photos


@dataclass(frozen=True)
class CostModel:
    """CPU seconds of a preset, see docs/benchmarks/expected-cost.md."""

    side_px: int
    """Longer side of the images that key points are looked for in."""
    megapixel_s: float
    """Per megapixel of these, of all stages: what is found in a photo grows with its pixels, and all else with that."""
    neighbours: int
    """Partners that a photo is matched with, where there are many."""


COSTS = {"fast": CostModel(640, 1.9, 6), "classic": CostModel(800, 2.0, 7), "best": CostModel(800, 2.1, 7)}
START_S, DECODED_S = 2.5, 0.05
"""To import what a run needs and to write its report; per megapixel of the photos as they are, to decode them."""
LOOSE = 1.25
"""Factor where a photo hangs by fewer than two others at first sight: all are looked at closer, and drafts compete."""
BASE_BYTES, PHOTO_BYTES = 380e6, 1.0e6
"""Memory of a run, and what each photo adds."""
PROBE_S = 0.125
"""CPU seconds of `_probe` on the machine that the rest was measured on."""


@dataclass(frozen=True)
class ExpectedCost:
    """Of a run without a GPU and without stored results."""

    cpu_s: float
    memory_bytes: float
    pairs: int


def expected_cost(
    photos: Photos, preset: str, workers: int, *, loose: bool = False, slowness: float = 1.0
) -> ExpectedCost | None:
    """CPU time and memory to expect of a preset; None for presets that were not measured.

    loose: whether some photos hang by fewer than two others. slowness: that of this machine, see `slowness`.
    """
    model = COSTS.get(preset)
    if model is None:
        return None
    reduced = decoded = 0.0
    for photo in photos.photos:
        megapixels = photo.width * photo.height / 1e6
        decoded += megapixels
        reduced += megapixels * min(1.0, model.side_px / max(photo.width, photo.height)) ** 2
    count = len(photos)
    pairs = min(count * (count - 1) // 2, model.neighbours * count)
    seconds = START_S + (model.megapixel_s * reduced + DECODED_S * decoded) * (LOOSE if loose else 1.0)
    largest = max((photo.decoding_bytes for photo in photos.photos), default=0)
    return ExpectedCost(slowness * seconds, BASE_BYTES + PHOTO_BYTES * count + workers * largest, pairs)


def slowness() -> float:
    """How many times as long as on the machine that was measured the same work takes here and now."""
    image = cv2.resize(np.random.default_rng(0).integers(0, 256, (96, 128), dtype=np.uint8), (512, 384))
    extractor = cv2.SIFT.create(nfeatures=1536)
    return median(_probe(extractor, image) for _ in range(3)) / PROBE_S


def _probe(extractor: cv2.SIFT, image: cv2.typing.MatLike) -> float:
    begin = time.thread_time()
    extractor.detectAndCompute(image, None)
    return time.thread_time() - begin
