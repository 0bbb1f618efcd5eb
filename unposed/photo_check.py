"""Look at photos before a reconstruction: what is amiss, what overlaps, which preset suits them, and what it takes."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unposed.optim.arrays import Index
from unposed.optim.pair.matching import DescriptorRows, byte_rows
from unposed.pipeline.artifacts import Bytes, Photo, Photos
from unposed.pipeline.images.pixels import read_grey
from unposed.pipeline.resources import machine
from unposed.pipeline.stage import InputUnavailable, StageError
from unposed.pipeline.threads import one_thread_each
from unposed.report.expected_cost import ExpectedCost, expected_cost
from unposed.report.photo_findings import (
    LINK_MATCHES,
    ScenePreset,
    header_findings,
    overlap_findings,
    pixel_findings,
    suggested,
    unreadable,
)
from unposed.report.photo_quality import QUALITY_SIDE_PX, PhotoQuality, photo_quality
from unposed.report.words import Advice
from unposed.retrieval.coarse import coarse_similarity, largest_rows

from .options import DEFAULTS, RunOptions
from .photo_sources import PhotoSource, collect
from .run_setup import cache_folder

OVERLAP_SIDE_PX = 512
KEYPOINTS = 512
MAX_RATIO, DIMS = 0.8, 62
"""As retrieval by coarse matching has them."""
CONTRAST = 0.02
MOST_COMPARED = 300
"""Of more photos, every n-th is compared with the others of these."""


@dataclass(frozen=True, eq=False)
class PhotoCheck:
    """What was found about a collection."""

    photos: Photos
    findings: tuple[Advice, ...]
    partners: tuple[int, ...]
    """Photos that each of `compared` shares key points with."""
    compared: tuple[str, ...]
    suggested: ScenePreset
    cost: ExpectedCost | None
    """Of the suggested preset."""

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "photos": len(self.photos),
            "rejected": dict(self.photos.rejected),
            "findings": [asdict(each) for each in self.findings],
            "partners": dict(zip(self.compared, self.partners, strict=True)),
            "suggested": asdict(self.suggested),
            "cost": None if self.cost is None else asdict(self.cost),
        }


def check(
    photos: PhotoSource,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    cache: str | Path | None = None,
    workers: int | None = None,
) -> PhotoCheck:
    """Look at photos before work: copies, blur, exposure, cameras, zoom, EXIF data, overlap; and what a run will take.

    Nothing is matched exactly: key points of reduced photos are compared, as retrieval does. The other arguments are
    those of `reconstruct`.
    """
    options = RunOptions(cache=cache, workers=workers)
    found, _ = collect(photos, cache_folder(options), include=include, exclude=exclude)
    threads = machine("cpu", workers, DEFAULTS.ram_bytes, DEFAULTS.vram_bytes).threads
    step = -(-len(found) // MOST_COMPARED)
    compared = list(range(0, len(found), step))
    with one_thread_each(), ThreadPoolExecutor(threads) as pool:
        looks = list(pool.map(lambda i: _looked_at(found[i], i % step == 0), range(len(found))))
        seen = [i for i in range(len(found)) if looks[i] is not None]
        rows = {i: look[1] for i in seen if (look := looks[i]) is not None and i in compared}
        pairs, matches = _coarse_matches(rows, threads)
    quality = [look[0] for i in seen if (look := looks[i]) is not None]
    names = [found[i].name for i in sorted(rows)]
    findings = [*unreadable(found), *header_findings(found)]
    findings += [
        Advice("warning", f"{found[i].name} is damaged or cut off.") for i, look in enumerate(looks) if look is None
    ]
    findings += pixel_findings([found[i].name for i in seen], quality)
    findings += overlap_findings(names, pairs, matches)
    partners = np.bincount(pairs[matches >= LINK_MATCHES].ravel(), minlength=len(names))
    preset = suggested(found)
    cost = expected_cost(found, preset.preset, threads)
    order = {"problem": 0, "warning": 1, "hint": 2}
    ordered = tuple(sorted(findings, key=lambda each: order[each.level]))
    return PhotoCheck(found, ordered, tuple(partners.tolist()), tuple(names), preset, cost)


def _looked_at(photo: Photo, compare: bool) -> tuple[PhotoQuality, DescriptorRows] | None:
    """Quality and coarse descriptors of a photo; None if it cannot be decoded."""
    try:
        grey = read_grey(photo, QUALITY_SIDE_PX)
    except (StageError, InputUnavailable, MemoryError):
        return None
    return photo_quality(grey), _descriptors(grey) if compare else byte_rows(np.zeros((0, 128), np.uint8), DIMS)


def _descriptors(grey: Bytes) -> DescriptorRows:
    """Of the largest key points of the reduced photo."""
    import cv2

    scale = min(1.0, OVERLAP_SIDE_PX / max(grey.shape))
    size = max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale))
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    keypoints, found = cv2.SIFT.create(nfeatures=3 * KEYPOINTS, contrastThreshold=CONTRAST).detectAndCompute(
        small, None
    )
    if found is None:
        return byte_rows(np.zeros((0, 128), np.uint8), DIMS)
    rows = largest_rows(np.array([each.size for each in keypoints]), KEYPOINTS)
    share = found[rows] / np.maximum(found[rows].sum(axis=1, keepdims=True), 1e-6)
    return byte_rows(np.clip(KEYPOINTS * np.sqrt(share), 0, 255).astype(np.uint8), DIMS)


def _coarse_matches(rows: dict[int, DescriptorRows], threads: int) -> tuple[Index, Index]:
    """Pairs (n, 2) of numbers among the photos that were compared, and their matches (n,)."""
    photos = sorted(rows)
    pairs, similarity = coarse_similarity(
        rows.__getitem__, photos, rows=KEYPOINTS, max_ratio=MAX_RATIO, block=max(1, len(photos)), threads=threads
    )
    return np.searchsorted(photos, pairs).reshape(-1, 2), np.rint(similarity * KEYPOINTS).astype(np.int64)
