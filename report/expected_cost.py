"""What a run will take, from the number and size of the photos."""

from __future__ import annotations

from dataclasses import dataclass

from unposed.pipeline.artifacts import Photos


@dataclass(frozen=True)
class CostModel:
    """CPU seconds and memory of a preset on one core of a Xeon with AVX-512 (docs/benchmarks): good to a factor of two.
    Elsewhere the seconds of a feature, measured on the photos themselves, scale them."""

    side_px: int
    """Longer side of the images that key points are looked for in."""
    feature_s: float
    """Per megapixel of these."""
    pair_s: float
    mapping_s: float
    """Per photo, all stages over the collection together."""
    neighbours: int
    """Partners that a photo is matched with, where there are many."""


COSTS = {
    "fast": CostModel(640, 0.35, 0.009, 0.09, 6),
    "classic": CostModel(800, 0.42, 0.022, 0.09, 7),
    "best": CostModel(800, 0.42, 0.022, 0.14, 7),
}
START_S = 1.2
"""To import what a run needs."""
BASE_BYTES, PHOTO_BYTES = 320e6, 1.4e6
"""Memory of a run, and what each photo adds."""


@dataclass(frozen=True)
class ExpectedCost:
    """Of a run without a GPU and without stored results."""

    cpu_s: float
    memory_bytes: float
    pairs: int


def expected_cost(photos: Photos, preset: str, workers: int) -> ExpectedCost | None:
    """CPU time and memory to expect of a preset; None for presets that were not measured."""
    model = COSTS.get(preset)
    if model is None:
        return None
    megapixels = 0.0
    for photo in photos.photos:
        scale = min(1.0, model.side_px / max(photo.width, photo.height))
        megapixels += photo.width * photo.height * scale**2 / 1e6
    count = len(photos)
    pairs = min(count * (count - 1) // 2, model.neighbours * count)
    seconds = START_S + model.feature_s * megapixels + model.pair_s * pairs + model.mapping_s * count
    largest = max((photo.decoding_bytes for photo in photos.photos), default=0)
    return ExpectedCost(seconds, BASE_BYTES + PHOTO_BYTES * count + workers * largest, pairs)
