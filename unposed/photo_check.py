"""Look at photos before a reconstruction: what is amiss, what overlaps, which preset suits them, and what it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from unposed.optim.arrays import Array32, Index, Mask
from unposed.optim.pair.matching import SIFT_LENGTH
from unposed.optim.pair.still_keypoints import COMPARED, PLACED_SIDE_PX, PlacedKeypoints, still_keypoints
from unposed.optim.spread import spread
from unposed.pipeline.artifacts import Bytes, Features, Photo, Photos
from unposed.pipeline.config import build
from unposed.pipeline.images.pixels import read_grey
from unposed.pipeline.registry import Registry
from unposed.pipeline.resources import machine
from unposed.pipeline.stage import InputUnavailable, Resources, StageError
from unposed.pipeline.threads import one_thread_each
from unposed.report.expected_cost import ExpectedCost, expected_cost, slowness
from unposed.report.photo_findings import (
    LEAST_KEYPOINTS,
    LINK_MATCHES,
    STILL_LEAST,
    ScenePreset,
    bare_findings,
    header_findings,
    overlap_findings,
    pixel_findings,
    still_findings,
    suggested,
    unreadable,
)
from unposed.report.photo_quality import QUALITY_SIDE_PX, PhotoQuality, photo_quality
from unposed.report.words import Advice
from unposed.retrieval.coarse import largest_rows

from .options import DEFAULTS, RunOptions
from .photo_sources import PhotoSource, collect, paths_given
from .run_setup import cache_folder
from .still_masks import new_mask_folder, write_still_masks

KEYPOINTS = 512
CONTRAST = 0.02
MOST_COMPARED = 300
"""Of more photos, every n-th is compared with the others of these."""
ALL_BELOW, SHORTLIST = 80, 30
"""Of more photos, each is compared with those only that look most like it by their visual words, so many: comparing all
pairs of 252 takes most of a check."""


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
    masks: tuple[str, ...] = ()
    """Photos for which a mask was written."""

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "photos": len(self.photos),
            "rejected": dict(self.photos.rejected),
            "findings": [asdict(each) for each in self.findings],
            "partners": dict(zip(self.compared, self.partners, strict=True)),
            "suggested": asdict(self.suggested),
            "cost": None if self.cost is None else asdict(self.cost),
            "masks": list(self.masks),
        }


@dataclass(frozen=True, eq=False)
class _Look:
    """What the pixels of a photo say."""

    quality: PhotoQuality
    keypoints: PlacedKeypoints
    """The largest first; none where they are not needed."""
    descriptors: Bytes
    """(n, SIFT_LENGTH), the square roots of their shares."""


def check(
    photos: PhotoSource,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    write_masks: str | Path | None = None,
    cache: str | Path | None = None,
    workers: int | None = None,
) -> PhotoCheck:
    """Look at photos before work: copies, blur, exposure, cameras, zoom, EXIF data, overlap, what stands still; and
    what a run will take.

    Nothing is matched exactly: key points of reduced photos are compared, as retrieval does. `write_masks` is a new
    folder for masks that hide what is at the same pixels of many photos, such as the background of a turntable or a
    logo: `reconstruct` takes it as `masks`. The other arguments are those of `reconstruct`.
    """
    folder = None if write_masks is None else new_mask_folder(write_masks)
    options = RunOptions(cache=cache, workers=workers)
    found, place = collect(photos, cache_folder(options), include=include, exclude=exclude)
    resources = machine("cpu", workers, DEFAULTS.ram_bytes, DEFAULTS.vram_bytes)
    compared = range(0, len(found), -(-len(found) // MOST_COMPARED))
    wanted = set(range(len(found)) if folder else [*compared, *spread(len(found), COMPARED).tolist()])
    with one_thread_each(), ThreadPoolExecutor(resources.threads) as pool:
        looks = list(pool.map(lambda i: looked_at(found[i], i in wanted), range(len(found))))
        seen = {i: look for i, look in enumerate(looks) if look is not None}
        still = _standing_still(seen, everywhere=folder is not None)
        rows = {i: _moving_rows(seen[i], still.get(i)) for i in compared if i in seen}
        pairs, matches = _coarse_matches(rows, resources)
        here = slowness()
    names = [found[i].name for i in sorted(rows)]
    findings = [*unreadable(found), *header_findings(found)]
    findings += [
        Advice("warning", f"{found[i].name} is damaged or cut off.") for i, look in enumerate(looks) if look is None
    ]
    findings += pixel_findings([found[i].name for i in seen], [look.quality for look in seen.values()])
    counts = np.array([still[i].sum() for i in still], np.int64), np.array([len(still[i]) for i in still], np.int64)
    findings += still_findings(paths_given(photos) or [str(place)], *counts)
    bare = [found[i].name for i in sorted(rows) if len(seen[i].keypoints.xy) < LEAST_KEYPOINTS]
    findings += bare_findings(bare)
    findings += overlap_findings(names, pairs, matches, bare)
    partners = np.bincount(pairs[matches >= LINK_MATCHES].ravel(), minlength=len(names))
    masks: tuple[str, ...] = ()
    if folder is not None:
        masks = write_still_masks(folder, {found[i].name: (found[i], seen[i].keypoints, still[i]) for i in still})
    preset = suggested(found)
    if masks:
        preset = replace(preset, options=(*preset.options, "--masks", str(folder)))
    loose = bool(np.any(partners < min(2, len(names) - 1)))
    cost = expected_cost(found, preset.preset, resources.threads, loose=loose, slowness=here)
    order = {"problem": 0, "warning": 1, "hint": 2}
    ordered = tuple(sorted(findings, key=lambda each: order[each.level]))
    return PhotoCheck(found, ordered, tuple(partners.tolist()), tuple(names), preset, cost, masks)


def looked_at(photo: Photo, compare: bool) -> _Look | None:
    """Quality of a photo, and key points to compare it by; None if it cannot be decoded."""
    try:
        grey = read_grey(photo, QUALITY_SIDE_PX)
    except (StageError, InputUnavailable, MemoryError):
        return None
    if not compare:  # the copy of one pixel: a view would keep all others in memory
        return _Look(photo_quality(grey), PlacedKeypoints(grey[:1, :1].copy(), np.zeros((0, 2))), _rooted(None))
    return _Look(photo_quality(grey), *_keypoints(grey))


def _keypoints(grey: Bytes) -> tuple[PlacedKeypoints, Bytes]:
    """Of the reduced photo."""
    import cv2

    scale = min(1.0, PLACED_SIDE_PX / max(grey.shape))
    size = max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale))
    small: Bytes = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)
    keypoints, found = cv2.SIFT.create(nfeatures=3 * KEYPOINTS, contrastThreshold=CONTRAST).detectAndCompute(
        small, None
    )
    rows = largest_rows(np.array([each.size for each in keypoints]), len(keypoints))
    xy = np.array([keypoints[row].pt for row in rows], float).reshape(-1, 2)
    return PlacedKeypoints(small, xy), _rooted(None if found is None else found[rows].astype(np.float32))


def _rooted(descriptors: Array32 | None) -> Bytes:
    if descriptors is None:
        return np.zeros((0, SIFT_LENGTH), np.uint8)
    share = descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-6)
    rooted: Bytes = np.clip(KEYPOINTS * np.sqrt(share), 0, 255).astype(np.uint8)
    return rooted


def _standing_still(looks: Mapping[int, _Look], everywhere: bool) -> dict[int, Mask]:
    """By photo whether its key points stand still: of some, evenly spread; of all if asked to, or where these do."""
    photos = [i for i, look in looks.items() if len(look.keypoints.xy)]
    chosen = [photos[i] for i in spread(len(photos), COMPARED).tolist()]
    found = dict(zip(chosen, still_keypoints([looks[i].keypoints for i in chosen]), strict=True))
    if not everywhere and not any(each.sum() >= STILL_LEAST for each in found.values()):
        return found
    return dict(zip(photos, still_keypoints([looks[i].keypoints for i in photos]), strict=True))


def _moving_rows(look: _Look, still: Mask | None) -> Bytes:
    """Descriptors of the largest key points, without those that stand still: they would connect all photos."""
    return (look.descriptors if still is None else look.descriptors[~still])[:KEYPOINTS]


def _coarse_matches(rows: dict[int, Bytes], resources: Resources) -> tuple[Index, Index]:
    """Pairs (n, 2) of numbers among the photos that were compared, and their matches (n,), as retrieval finds them."""
    options = {"keypoints": KEYPOINTS, "all_below": ALL_BELOW, "shortlist": SHORTLIST}
    compare: Any = build(Registry().find("retrieval", "coarse"), options, "retrieval.coarse")
    photos = sorted(rows)
    found = compare({photo: _largest_first(rows[photo]) for photo in photos}, resources)
    pairs = np.searchsorted(photos, found.pairs).reshape(-1, 2)
    return pairs, np.rint(found.similarity * KEYPOINTS).astype(np.int64)


def _largest_first(descriptors: Bytes) -> Features:
    """As features whose places nobody asks for."""
    count = len(descriptors)
    order = np.arange(count, 0, -1, dtype=np.float32)
    return Features(np.zeros((count, 2), np.float32), order, descriptors, np.zeros((count, 3), np.uint8), order)
