"""What EXIF says about the focal length in pixels, and how wide the sensors of common cameras are."""

from __future__ import annotations

import math

from unposed.pipeline.artifacts import Exif

FILM_DIAGONAL_MM = math.hypot(36.0, 24.0)
"""The 35 mm equivalent compares diagonals (CIPA DCG-001), which matters for 4:3 sensors: widths differ by 4 %."""

# Longer side of the light-sensitive area. Cameras with several lenses over different sensors are not here: their
# model does not tell which one was used, and they record the 35 mm equivalent of the one that was.
_MODELS_BY_SENSOR_MM = {
    36.0: """
        canon eos 5d|canon eos 5d mark ii|canon eos 5d mark iii|canon eos 5d mark iv|canon eos 5ds|canon eos 5ds r
        canon eos 6d|canon eos 6d mark ii|canon eos-1d x|canon eos-1ds mark ii|canon eos-1ds mark iii|canon eos r
        canon eos rp|canon eos r5|canon eos r6|nikon d3|nikon d3s|nikon d3x|nikon d4|nikon d4s|nikon d5|nikon d600
        nikon d610|nikon d700|nikon d750|nikon d780|nikon d800|nikon d800e|nikon d810|nikon d850|nikon z 5|nikon z 6
        nikon z 7|nikon z 6_2|nikon z 7_2|sony ilce-7|sony ilce-7r|sony ilce-7s|sony ilce-7m2|sony ilce-7rm2
        sony ilce-7m3|sony ilce-7rm3|sony ilce-7rm4|sony ilce-9|sony dslr-a900|sony slt-a99v|sony dsc-rx1
        sony dsc-rx1r""",
    23.6: """
        nikon d40|nikon d50|nikon d60|nikon d70|nikon d70s|nikon d80|nikon d90|nikon d200|nikon d300|nikon d300s
        nikon d500|nikon d3000|nikon d3100|nikon d3200|nikon d3300|nikon d3400|nikon d5000|nikon d5100|nikon d5200
        nikon d5300|nikon d5500|nikon d5600|nikon d7000|nikon d7100|nikon d7200|nikon d7500|sony ilce-5100
        sony ilce-6000|sony ilce-6300|sony ilce-6400|sony ilce-6500|sony nex-5|sony nex-5n|sony nex-6|sony nex-7
        sony slt-a55v|sony slt-a77v|sony dslr-a100|sony dslr-a700|fujifilm x-t1|fujifilm x-t2|fujifilm x-t3
        fujifilm x-t10|fujifilm x-t20|fujifilm x-e1|fujifilm x-e2|fujifilm x-pro1|fujifilm x-pro2|fujifilm x100s
        fujifilm x100t|pentax k-5|pentax k-7|pentax k10d|pentax k20d|ricoh gr|ricoh gr ii""",
    22.3: """
        canon eos 20d|canon eos 30d|canon eos 40d|canon eos 50d|canon eos 60d|canon eos 70d|canon eos 77d|canon eos 80d
        canon eos 7d|canon eos 7d mark ii|canon eos 100d|canon eos 200d|canon eos 350d digital|canon eos 400d digital
        canon eos 450d|canon eos 500d|canon eos 550d|canon eos 600d|canon eos 650d|canon eos 700d|canon eos 750d
        canon eos 760d|canon eos 800d|canon eos 1000d|canon eos 1100d|canon eos 1200d|canon eos 1300d|canon eos m
        canon eos digital rebel xt|canon eos digital rebel xti|canon eos digital rebel xsi|canon eos rebel t1i
        canon eos rebel t2i|canon eos rebel t3|canon eos rebel t3i|canon eos rebel t4i|canon eos rebel t5
        canon eos rebel t5i|canon eos rebel t6|canon eos rebel t6i""",
    17.3: """
        olympus e-m1|olympus e-m1markii|olympus e-m5|olympus e-m5markii|olympus e-m10|olympus e-m10markii|olympus e-p1
        olympus e-pl1|olympus e-pl5|olympus e-pl7|panasonic dmc-g1|panasonic dmc-g7|panasonic dmc-gf1
        panasonic dmc-gh2|panasonic dmc-gh3|panasonic dmc-gh4|panasonic dmc-gx7|panasonic dc-gh5|dji fc550""",
    13.2: """
        sony dsc-rx100|sony dsc-rx100m2|sony dsc-rx100m3|sony dsc-rx100m4|sony dsc-rx100m5|sony dsc-rx10
        canon powershot g7 x|canon powershot g9 x|dji fc6310|dji fc6310s|hasselblad l1d-20c""",
    6.3: "dji fc300x|dji fc330|dji fc220",
    4.92: "apple iphone 6s|apple iphone 7|apple iphone 8",
    4.90: "apple iphone 5s|apple iphone 6|apple iphone 6 plus",
    4.57: "apple iphone 4|apple iphone 4s|apple iphone 5|apple iphone 5c",
}
SENSOR_MM = {
    model.strip(): mm
    for mm, models in _MODELS_BY_SENSOR_MM.items()
    for line in models.splitlines()
    for model in line.split("|")
    if model.strip()
}


def focal_px(exif: Exif, width: int, height: int) -> float | None:
    """Focal length in pixels of a photo of this size; None where the file tells nothing usable.

    The best witness first: a sensor of known size; the density of its pixels; the 35 mm equivalent, which is rounded
    to whole millimetres and taken to include digital zoom.
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
    """Longer side of the sensor of a camera we know, by make and model or by the name of a phone's built-in lens."""
    model = (exif.model or "").lower()
    maker = (exif.make or "").lower().split(" ")[0].removesuffix(",")
    for name in (model, f"{maker} {model}"):
        if name in SENSOR_MM:
            return SENSOR_MM[name]
    lens = (exif.lens or "").lower()
    phone, camera, _ = lens.partition(" back camera")
    return SENSOR_MM.get(f"apple {phone}") if camera else None


def _aspect(longer_mm: float) -> float:
    """Shape of a bare sensor: phones and Four Thirds are 4:3, larger ones 3:2."""
    return 4 / 3 if longer_mm < 10.0 or 17.0 <= longer_mm <= 18.0 else 3 / 2


def _aspect_of_film_crop(exif: Exif, picture_aspect: float) -> float:
    """Shape of the sensor behind a 35 mm equivalent."""
    if exif.focal_mm is not None and exif.focal_35mm is not None:
        diagonal_mm = FILM_DIAGONAL_MM * exif.focal_mm / exif.focal_35mm
        return 4 / 3 if diagonal_mm < 12.0 or 20.5 < diagonal_mm < 22.5 else 3 / 2
    return 4 / 3 if picture_aspect < 1.42 else 3 / 2


def _full_side(width: int, height: int, aspect: float) -> float:
    """Pixels along the sensor's longer side. Other shapes are cut out of it: 16:9 loses height, 1:1 loses width."""
    return max(float(max(width, height)), min(width, height) * aspect)
