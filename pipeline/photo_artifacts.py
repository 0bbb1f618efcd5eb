"""Artifacts about photos as they were found, before any stage: see pipeline.artifacts for the conventions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
"""float32 or float64; each field says which where it matters."""
Ints = NDArray[np.integer]
Bools = NDArray[np.bool_]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Exif:
    """EXIF fields that are used; None where they are missing or not plausible."""

    make: str | None = None
    model: str | None = None
    lens: str | None = None
    focal_mm: float | None = None
    focal_35mm: float | None = None
    """Focal length of the 35 mm film equivalent, in millimetres."""
    digital_zoom: float | None = None
    sensor_mm: float | None = None
    """Longer side of the sensor, from the file's pixels per millimetre."""
    latitude_deg: float | None = None
    longitude_deg: float | None = None
    altitude_m: float | None = None


@dataclass(frozen=True)
class View:
    """A perspective view of 90 degrees that is cut from a panorama of all directions."""

    name: str
    """As in pipeline.images.panoramas.VIEWS."""
    panorama_width: int
    """Pixels; the height is half of it."""


@dataclass(frozen=True)
class Photo:
    """One readable photo file. Its pixels are read on demand (pipeline.images.pixels)."""

    name: str
    """Path below the photo folder, with forward slashes: the name users see, and the one in the COLMAP model."""
    path: Path
    """Empty for photos that are made up, and have no pixels."""
    content: str
    """Hash of the file's bytes: the photo's identity in the store."""
    width: int
    height: int
    """Size of the upright photo in pixels."""
    orientation: int = 1
    """EXIF orientation, 1 to 8, still to be applied to what the decoder gives; pipeline.images.pixels does so."""
    exif: Exif = field(default_factory=Exif)
    mask: Path | None = None
    """Single-channel image of any size; black hides. None: nothing is hidden."""
    mask_content: str = ""
    decoding_bytes: int = 0
    """Memory that it takes to decode the photo, from its header. It enters no key."""
    view: View | None = None
    """Which view of a panorama this is; path and content are the panorama's. None: the photo is the whole file."""


@dataclass(frozen=True)
class Photos:
    """The collection, sorted by name, and the files that were rejected."""

    photos: tuple[Photo, ...]
    rejected: Mapping[str, str]
    """Reason by name of files in the folder that cannot be used."""

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> Photo:
        return self.photos[index]
