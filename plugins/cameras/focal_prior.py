"""Focal length in pixels from EXIF."""

from __future__ import annotations

import math

from unposed.pipeline.artifacts import Exif

from .sensor_database import database_sensor_mm

FILM_DIAGONAL_MM = math.hypot(36.0, 24.0)
"""The 35 mm equivalent compares diagonals (CIPA DCG-001), which matters for 4:3 sensors: widths differ by 4 %."""

# Longer side of the light-sensitive area, of cameras that COLMAP's database does not know, or not well. Cameras with
# several lenses over different sensors are not here: their model does not say which one was used, and they record the
# 35 mm equivalent of the one that was.
_MODELS_BY_SENSOR_MM = {
    36.0: """
        canon eos 5d|canon eos r|canon eos r5|nikon d3|nikon d4|nikon d5|sony ilce-7r|sony ilce-7m2|sony ilce-7rm2
        sony ilce-7m3|sony ilce-7rm3|sony ilce-7rm4|sony ilce-9|sony dsc-rx1|sony dsc-rx1r""",
    23.6: """
        nikon d70|nikon d80|nikon d300|nikon d500|sony ilce-6000|sony ilce-6300|sony ilce-6400|sony ilce-6500|sony nex-5
        sony nex-5n|fujifilm x-t2|fujifilm x-t3|fujifilm x-t20|pentax k-5|ricoh gr|nikon d3100""",
    22.3: """
        canon eos 100d|canon eos 550d|canon eos 600d|canon eos 650d|canon eos 700d|canon eos 750d|canon eos 760d
        canon eos 1100d|canon eos 1200d|canon eos m|canon eos digital rebel xti|canon eos digital rebel xsi
        canon eos rebel t2i|canon eos rebel t3|canon eos rebel t3i|canon eos rebel t4i|canon eos rebel t5
        canon eos rebel t5i|canon eos rebel t6|canon eos rebel t6i""",
    17.3: """
        olympus e-m1|olympus e-m5|olympus e-m5markii|olympus e-m10|olympus e-m10markii|olympus e-pl1|panasonic dmc-g1
        dji fc550""",
    13.2: """
        sony dsc-rx100|sony dsc-rx100m2|sony dsc-rx100m3|sony dsc-rx100m4|sony dsc-rx100m5|sony dsc-rx10
        hasselblad l1d-20c""",
    6.3: "dji fc220",
}
SENSOR_MM = {
    model.strip(): mm
    for mm, models in _MODELS_BY_SENSOR_MM.items()
    for line in models.splitlines()
    for model in line.split("|")
    if model.strip()
}


def focal_px(exif: Exif, width: int, height: int) -> float | None:
    """Focal length in pixels of a photo of this size; None where EXIF does not determine it.

    Sources in order: a sensor of known size; the density of its pixels; the 35 mm equivalent, which is rounded to whole
    millimetres and taken to include digital zoom. A phone has several cameras under one name, and databases list the
    sensor of the main one: where that is far from the 35 mm equivalent, the latter is used.
    """
    longer = max(width, height)
    zoom = exif.digital_zoom or 1.0
    known_mm = sensor_mm(exif)
    film_px = None
    if exif.focal_35mm is not None:
        aspect = _aspect_of_film_crop(exif, longer / min(width, height))
        film_px = exif.focal_35mm / FILM_DIAGONAL_MM * _full_side(width, height, aspect) * math.hypot(1.0, 1.0 / aspect)
    if exif.focal_mm is not None and known_mm is not None:
        focal = exif.focal_mm * zoom / known_mm * _full_side(width, height, _aspect(known_mm))
        if film_px is not None and not 0.85 < focal / film_px < 1.18:
            focal = film_px
    elif exif.focal_mm is not None and exif.sensor_mm is not None:
        focal = exif.focal_mm * zoom / exif.sensor_mm * longer
        if film_px is not None and not 0.8 < focal / film_px < 1.25:
            focal = film_px  # the pixel density outlived a change of size
    elif film_px is not None:
        focal = film_px
    else:
        return None
    return focal if 0.2 * longer < focal < 50.0 * longer else None  # 157 and 1.1 degrees across


def sensor_mm(exif: Exif) -> float | None:
    """Longer side of the sensor of a known camera, by make and model or by the name of a phone's built-in lens."""
    model = (exif.model or "").lower()
    maker = (exif.make or "").lower().split(" ")[0].removesuffix(",")
    for name in (model, f"{maker} {model}"):
        if name in SENSOR_MM:
            return SENSOR_MM[name]
    if exif.model:  # the database wants the model with or without the maker's name, as the case may be
        bare = model.removeprefix(maker).strip()
        return database_sensor_mm(maker, bare) or database_sensor_mm(exif.make or "", exif.model)
    phone, camera, _ = (exif.lens or "").partition(" back camera")
    return database_sensor_mm("Apple", phone) if camera else None


def _aspect(longer_mm: float) -> float:
    """Aspect ratio of a sensor: 4:3 for phones and Four Thirds, 3:2 for larger ones."""
    return 4 / 3 if longer_mm < 10.0 or 17.0 <= longer_mm <= 18.0 else 3 / 2


def _aspect_of_film_crop(exif: Exif, aspect: float) -> float:
    """Aspect ratio of the sensor behind a 35 mm equivalent."""
    if exif.focal_mm is not None and exif.focal_35mm is not None:
        diagonal_mm = FILM_DIAGONAL_MM * exif.focal_mm / exif.focal_35mm
        return 4 / 3 if diagonal_mm < 12.0 or 20.5 < diagonal_mm < 22.5 else 3 / 2
    return 4 / 3 if aspect < 1.42 else 3 / 2


def _full_side(width: int, height: int, aspect: float) -> float:
    """Pixels along the sensor's longer side. Other aspect ratios are crops: 16:9 loses height, 1:1 loses width."""
    return max(float(max(width, height)), min(width, height) * aspect)
