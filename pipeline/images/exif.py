"""The few EXIF facts that help a reconstruction. Files lie: what makes no sense is None, and nothing here raises."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.ExifTags import GPS, IFD, Base
from PIL.ImageFile import ImageFile

from ..artifacts import Exif
from .image_file import open_image, quiet

_MM_PER_UNIT = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}
"""EXIF ResolutionUnit codes: inch, centimetre, millimetre, micrometre."""


def read_exif(image: ImageFile) -> tuple[Exif, int]:
    """The facts, and the orientation 1 to 8 still to be applied to what the decoder gives."""
    try:
        # The base class's getexif: PNG's own would decode the whole image to find tags behind the pixels.
        with quiet():
            tags = Image.Image.getexif(image)
            main: dict[int, Any] = dict(tags)
            photo: dict[int, Any] = dict(tags.get_ifd(IFD.Exif))
            gps: dict[int, Any] = dict(tags.get_ifd(IFD.GPSInfo))
    except Exception:  # a damaged tag directory raises whatever it likes, and the image is fine all the same
        return Exif(), 1
    latitude = _angle_deg(gps.get(GPS.GPSLatitude), gps.get(GPS.GPSLatitudeRef), "NS", 90.0)
    longitude = _angle_deg(gps.get(GPS.GPSLongitude), gps.get(GPS.GPSLongitudeRef), "EW", 180.0)
    if latitude is None or longitude is None or (latitude == 0.0 and longitude == 0.0):
        latitude = longitude = None  # half a position is none, and (0, 0) is a receiver without a fix
    exif = Exif(
        make=_text(main.get(Base.Make)),
        model=_text(main.get(Base.Model)),
        lens=_text(photo.get(Base.LensModel)),
        focal_mm=_number(photo.get(Base.FocalLength), 0.5, 3000.0),
        focal_35mm=_number(photo.get(Base.FocalLengthIn35mmFilm), 3.0, 5000.0),
        digital_zoom=_number(photo.get(Base.DigitalZoomRatio), 1.0, 100.0),
        sensor_mm=_sensor_mm(photo),
        latitude_deg=latitude,
        longitude_deg=longitude,
        altitude_m=None if latitude is None else _altitude_m(gps),
    )
    return exif, _orientation(image, main.get(Base.Orientation))


def upright_exif(file: Path) -> bytes:
    """The EXIF data of a photo for an upright copy of other size: nothing where there are none, or they are damaged.

    Trainers of splats read the exposure of photos from it.
    """
    try:
        with open_image(file) as image, quiet():
            tags = Image.Image.getexif(image)
            if not len(tags):
                return b""
            tags[Base.Orientation] = 1
            photo = tags.get_ifd(IFD.Exif)
            for size in (Base.ExifImageWidth, Base.ExifImageHeight):
                photo.pop(size, None)
            for preview in (Base.JpegIFOffset, Base.JpegIFByteCount):
                tags.pop(preview, None)
            return tags.tobytes()
    except Exception:  # a damaged tag directory raises whatever it likes, and the image is fine all the same
        return b""


def _orientation(image: ImageFile, tag: object) -> int:
    if image.format in ("TIFF", "HEIF"):  # these decoders turn the image themselves
        return 1
    return tag if isinstance(tag, int) and 1 <= tag <= 8 else 1


def _number(value: object, low: float, high: float) -> float | None:
    """value as a float if it is one within [low, high]; rationals with a zero denominator are not."""
    if isinstance(value, tuple) and value:
        value = value[0]
    if isinstance(value, (str, bytes, tuple)) or value is None:
        return None
    try:
        number = float(value)  # type: ignore[arg-type]  # whatever the file holds
    except (TypeError, ValueError, ArithmeticError):
        return None
    return number if math.isfinite(number) and low <= number <= high else None


def _text(value: object) -> str | None:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        return None
    clean = " ".join("".join(c if c.isprintable() else " " for c in value).split())
    return clean[:100] or None


def _angle_deg(value: object, reference: object, signs: str, limit: float) -> float | None:
    """Degrees, minutes and seconds with a letter for the sign."""
    if not isinstance(value, tuple) or not 1 <= len(value) <= 3:
        return None
    parts = [_number(part, 0.0, bound) for part, bound in zip(value, (limit, 60.0, 60.0), strict=False)]
    letter = (_text(reference) or "").upper()[:1]
    if letter not in tuple(signs):
        return None
    angle = 0.0
    for part, unit in zip(parts, (1.0, 60.0, 3600.0), strict=False):
        if part is None:
            return None
        angle += part / unit
    return (-angle if letter == signs[1] else angle) if angle <= limit else None


def _altitude_m(gps: dict[int, Any]) -> float | None:
    altitude = _number(gps.get(GPS.GPSAltitude), 0.0, 20_000.0)
    below_sea = gps.get(GPS.GPSAltitudeRef) in (1, b"\x01")
    return -altitude if altitude is not None and below_sea else altitude


def _sensor_mm(photo: dict[int, Any]) -> float | None:
    """Longer side of the sensor from its pixels per millimetre, which Canon bodies record in place of other clues."""
    unit = _MM_PER_UNIT.get(photo.get(Base.FocalPlaneResolutionUnit, 2))
    sides = (
        (photo.get(Base.ExifImageWidth), photo.get(Base.FocalPlaneXResolution)),
        (photo.get(Base.ExifImageHeight), photo.get(Base.FocalPlaneYResolution)),
    )
    lengths = []
    for side_px, px_per_unit in sides:
        side = _number(side_px, 1.0, 1e6)
        density = _number(px_per_unit, 1e-3, 1e9)
        if unit is None or side is None or density is None:
            return None
        lengths.append(side / density * unit)
    longer = max(lengths)
    # From the smallest phone sensor to medium format; and pixels are square, or the numbers mean something else.
    return longer if 2.0 <= longer <= 60.0 and 1.0 <= longer / min(lengths) <= 2.4 else None
