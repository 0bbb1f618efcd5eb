"""Descriptors of a collection for retrieval: finite rows of one length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
from numpy.typing import NDArray

from unposed.optim.progress import Report
from unposed.pipeline.artifacts import Features
from unposed.pipeline.stage import PerPhoto, StageError


@dataclass(frozen=True)
class Descriptors:
    """Photos with descriptors, and how to load these."""

    photos: list[int]
    rows: int
    """Descriptors of all photos together."""
    load: Callable[[int], NDArray[np.generic]]


def descriptors_of(features: PerPhoto[Features], most: int) -> Descriptors:
    """The first `most` descriptors of every photo that are finite. StageError if no photo has any, or their lengths
    differ."""

    def load(photo: int) -> NDArray[np.generic]:
        rows = features[photo].descriptors[:most]
        return rows if rows.dtype.kind in "biu" else rows[np.isfinite(rows).all(axis=1)]

    shapes = {photo: load(photo).shape for photo in sorted(features)}
    photos = [photo for photo, (rows, _) in shapes.items() if rows]
    lengths = sorted({shapes[photo][1] for photo in photos})
    if not photos:
        raise StageError("no photo has descriptors: the ranking has nothing to compare; use retrieval.exhaustive")
    if len(lengths) > 1:
        raise StageError(f"the photos have descriptors of {lengths[0]} and of {lengths[-1]} dimensions")
    if not lengths[0]:
        raise StageError("these features have no descriptors: wire `features` to the node of an extractor")
    return Descriptors(photos, sum(shapes[photo][0] for photo in photos), load)


def reported(descriptors: Descriptors, report: Report, message: str) -> Descriptors:
    """The same descriptors; each photo that is loaded, from any thread, is reported as a step."""
    loaded = count(1)

    def load(photo: int) -> NDArray[np.generic]:
        rows = descriptors.load(photo)
        report(min(next(loaded), len(descriptors.photos)), len(descriptors.photos), message)
        return rows

    return replace(descriptors, load=load)
