"""Masks that hide what stands still in photos, as files for `reconstruct --masks`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from unposed.optim.arrays import Mask
from unposed.optim.pair.still_keypoints import PlacedKeypoints, still_region
from unposed.pipeline.artifacts import Photo
from unposed.pipeline.errors import InputError
from unposed.pipeline.images.pixels import read_mask


def new_mask_folder(folder: str | Path) -> Path:
    """The folder, which must not hold anything: masks may be somebody's work."""
    path = Path(folder)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path} is there already, and masks are never replaced: name another folder, or remove it")
    return path


def write_still_masks(folder: Path, photos: Mapping[str, tuple[Photo, PlacedKeypoints, Mask]]) -> tuple[str, ...]:
    """Write `<folder>/<name>.png` for every photo with key points that stand still, black around those;
    what is transparent stays hidden. Gives the names of these photos.

    photos: by name the photo, its key points, and which of these stand still. A view of a panorama has no mask.
    """
    written = []
    for name, (photo, keypoints, still) in photos.items():
        hidden = still_region(keypoints, still)
        if photo.view is not None or not hidden.any():
            continue
        shown = ~hidden & _shown(photo, keypoints.grey.shape)
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.where(shown, np.uint8(255), np.uint8(0))).save(path)
        written.append(name)
    return tuple(written)


def _shown(photo: Photo, shape: tuple[int, ...]) -> Mask:
    """(h, w) what the photo's own transparency shows."""
    opaque, (height, width) = read_mask(photo), shape
    if opaque is None:
        return np.ones(shape, bool)
    return np.asarray(Image.fromarray(opaque).resize((width, height), Image.Resampling.NEAREST))
