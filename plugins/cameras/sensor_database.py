"""Sensor widths of thousands of cameras, from the database that comes with COLMAP."""

from __future__ import annotations

from functools import cache
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from PIL.TiffImagePlugin import IFDRational

MAKE, MODEL, EXIF_BLOCK, FOCAL_LENGTH = 0x010F, 0x0110, 0x8769, 0x920A
"""EXIF tags."""

WIDTH_PX, FOCAL_MM = 1000, 10
"""Of the image that asks the question; they cancel out of the answer."""


@cache
def database_sensor_mm(make: str, model: str) -> float | None:
    """Longer side of a camera's sensor in millimetres by COLMAP's database; None where it is unknown.

    pycolmap only answers for image files, by f_px = f_mm / sensor_mm * width, and decodes them. So it is given a tiny
    image with the name of the camera, which takes a millisecond however large the photo is.
    """
    import pycolmap

    exif = Image.Exif()
    exif[MAKE], exif[MODEL] = make, model
    exif.get_ifd(EXIF_BLOCK)[FOCAL_LENGTH] = IFDRational(FOCAL_MM, 1)
    content = BytesIO()
    Image.new("RGB", (WIDTH_PX, 8)).save(content, "JPEG", exif=exif)
    with TemporaryDirectory(prefix="unposed-sensor-") as folder:
        file = Path(folder) / "question.jpg"
        file.write_bytes(content.getvalue())
        bitmap = pycolmap.Bitmap.read(str(file), as_rgb=True)
    focal_px = None if bitmap is None else bitmap.exif_focal_length()
    return FOCAL_MM * WIDTH_PX / focal_px if focal_px else None
