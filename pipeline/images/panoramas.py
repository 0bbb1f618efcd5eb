"""Panoramas that show all directions, and the perspective views that they are cut into.

An equirectangular panorama of width w shows the direction of longitude a and latitude b (down is positive) at

    x = w (a / 2 pi + 1/2),    y = w/2 (b / pi + 1/2),    ray = (cos b sin a, sin b, cos b cos a).

Its six views are the sides of a cube around the camera, in the frame of the panorama: z ahead, y down. Together they
are a rig whose centres coincide. Nothing is written: a view is cut whenever its pixels are asked for.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..artifacts import Bytes, Exif, Photo, View

if TYPE_CHECKING:
    from PIL.Image import Image

VIEWS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "front": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "right": ((0, 0, -1), (0, 1, 0), (1, 0, 0)),
    "back": ((-1, 0, 0), (0, 1, 0), (0, 0, -1)),
    "left": ((0, 0, 1), (0, 1, 0), (-1, 0, 0)),
    "up": ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
    "down": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
}
"""Rotation view_from_panorama by the name of the view; the first one is the reference of the rig."""

GPANO = re.compile(rb"""GPano:ProjectionType(?:\s*=\s*["']|>)\s*equirectangular""", re.IGNORECASE)
CROPPED = re.compile(rb"""GPano:(CroppedAreaImageWidthPixels|FullPanoWidthPixels)(?:\s*=\s*["']|>)\s*(\d+)""")

TESTED_WIDTH = 512
"""Width at which a picture is looked at to tell whether it closes."""
MAX_SEAM_RATIO = 2.0
"""Largest difference between the first and the last column of a panorama, in median differences of neighbouring
columns: these two are neighbours in the scene."""
MAX_POLE_RATIO = 0.25
"""Largest difference of neighbouring pixels along the first and the last row, in those along the middle: a pole is one
direction, and its row shows little else. Skies are as smooth, but are not at the lower border as well."""
MIN_SEAM_CONTRAST = 2.5
"""Least standard deviation along these two columns, in differences between them: two plain borders are as alike, of an
object before a plain background for instance. None of 3,015 crops of that shape from 22 sets of photos passes all three
tests."""
ROUNDING = 1.0
"""Grey levels that both are allowed beyond: what compression does to a smooth picture."""


def views_of(panorama: Photo) -> list[Photo]:
    """The views of a panorama as photos that are named below it, as by a folder. Of EXIF they keep the position."""
    side = round(panorama.width / np.pi)  # as many pixels per degree in the middle of a view as in the panorama
    there = panorama.exif
    exif = Exif(
        make=there.make,
        model=there.model,
        latitude_deg=there.latitude_deg,
        longitude_deg=there.longitude_deg,
        altitude_m=there.altitude_m,
    )
    return [
        replace(
            panorama,
            name=f"{panorama.name}/{name}",
            width=side,
            height=side,
            exif=exif,
            view=View(name, panorama.width),
        )
        for name in VIEWS
    ]


def panorama_name(photo: Photo) -> str:
    """The name of the file that a view was cut from."""
    return photo.name.rpartition("/")[0]


def is_panorama(image: Image, exif: Exif) -> bool:
    """Whether an opened file is a whole equirectangular panorama: twice as wide as high, and its metadata (GPano) say
    so, or it closes.

    Pixels are read of pictures of that shape only, and small.
    """
    width, height = image.size
    if width != 2 * height:
        return False
    metadata = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    metadata = metadata.encode("utf-8", "replace") if isinstance(metadata, str) else bytes(metadata)
    if GPANO.search(metadata):
        sizes = {int(size) for _, size in CROPPED.findall(metadata)}
        return len(sizes) < 2
    try:
        return exif.focal_35mm is None and closes(_small(image))
    except Exception:  # a decoder may raise anything on nonsense, and says so when the photo is read
        return False


def closes(grey: Bytes) -> bool:
    """Whether a small picture (h, w) goes on at its right border as it begins at its left, and shows one direction
    along its upper and its lower border."""
    values = grey.astype(np.float64)
    across = np.abs(np.diff(values, axis=1))
    seam = np.abs(values[:, 0] - values[:, -1]).mean()
    contrast = min(values[:, 0].std(), values[:, -1].std())
    middle = across[len(across) // 4 : -(len(across) // 4)].mean()
    poles = max(across[0].mean(), across[-1].mean())
    return bool(
        seam <= MAX_SEAM_RATIO * np.median(across.mean(axis=0)) + ROUNDING
        and poles <= MAX_POLE_RATIO * middle + ROUNDING
        and contrast >= MIN_SEAM_CONTRAST * (seam + ROUNDING)
    )


def cut_view(panorama: NDArray[Any], view: View, side: int, *, smooth: bool = True) -> NDArray[Any]:
    """The view (side, side, ...) of a panorama (h, w, ...) of any resolution; not `smooth`: nearest pixels."""
    import cv2  # here, since few will need it, and starting up must not wait for it

    height, width = panorama.shape[:2]
    at = (np.arange(side) + 0.5) * (2.0 / side) - 1.0
    rays = np.stack([*np.meshgrid(at, at), np.ones((side, side))], axis=-1) @ np.array(VIEWS[view.name], np.float64)
    longitude = np.arctan2(rays[..., 0], rays[..., 2])
    latitude = np.arctan2(rays[..., 1], np.hypot(rays[..., 0], rays[..., 2]))
    margin = 4  # columns that interpolation needs beyond the seam
    x = (longitude / (2.0 * np.pi) + 0.5) * width - 0.5 + margin
    y = (latitude / np.pi + 0.5) * height - 0.5
    closed = np.concatenate([panorama[:, -margin:], panorama, panorama[:, :margin]], axis=1)
    how = cv2.INTER_CUBIC if smooth else cv2.INTER_NEAREST
    return np.asarray(
        cv2.remap(closed, x.astype(np.float32), y.astype(np.float32), how, borderMode=cv2.BORDER_REPLICATE)
    )


def panorama_pixels(rays: NDArray[np.floating], width: int) -> NDArray[np.float64]:
    """(n, 2) pixels of a panorama of that width that show the directions `rays` (n, 3) of its frame."""
    x, y, z = np.asarray(rays, np.float64).T
    longitude, latitude = np.arctan2(x, z), np.arctan2(y, np.hypot(x, z))
    return np.stack([(longitude / (2.0 * np.pi) + 0.5) * width, (latitude / np.pi + 0.5) * width / 2.0], axis=1)


def _small(image: Image) -> Bytes:
    size = (TESTED_WIDTH, TESTED_WIDTH // 2)
    image.draft("L", size)
    return np.asarray(image.convert("L").resize(size, reducing_gap=2.0), np.uint8)
