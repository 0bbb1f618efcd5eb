"""How much memory it takes to decode an image, from its header: the file may be a thousand times smaller."""

from __future__ import annotations

from PIL.ImageFile import ImageFile

LARGE_WEBP = 16_000_000
"""Pixels from which a WebP is read by halves, see `pixels`."""

BYTES_PER_PX = {"1": 2.4, "L": 1.3, "P": 5.2, "RGB": 5.2, "CMYK": 9.2, "YCbCr": 9.2, "LAB": 9.2}
"""At most at once of a mode without transparency: the decoded image, and the copies of it until it is reduced. Pillow
takes four bytes for three colours. Measured on 24 megapixels, with a tenth added."""
DEEP_BYTES_PER_PX = 22.0
"""The same of deep grey values, which are scaled as floats."""
TRANSPARENT_BYTES_PER_PX = {"RGBA": 9.6, "LA": 9.6, "PA": 9.6, "P": 9.6}
"""The same with transparency, which is multiplied in; RGB with one transparent colour takes the most."""
MOST_TRANSPARENT = 13.8
WEBP_BYTES_PER_PX, HALF_WEBP_BYTES_PER_PX, VIDEO_BYTES_PER_PX = 18.5, 4.3, 9.9
"""WebP whole and by halves; AVIF and HEIC, whose planes are kept beside the image."""
JPEG_BYTES_PER_PX = 1.4
"""At half its size, since a baseline JPEG is reduced while it is decoded."""


def decoding_bytes(image: ImageFile, file_bytes: int) -> int:
    """Bytes that decoding takes beside what is left of it when it is reduced, with those of the file itself.

    An upper bound for photos that are reduced to half their size or less, as stages do with large ones.
    """
    return int(image.width * image.height * _bytes_per_px(image)) + file_bytes * (2 if image.format == "TIFF" else 1)


def _bytes_per_px(image: ImageFile) -> float:
    transparent = image.has_transparency_data
    if image.format == "JPEG":
        # A progressive one is kept whole as coefficients of two bytes until the last of its passes.
        progressive = bool(image.info.get("progressive"))
        return JPEG_BYTES_PER_PX + (2.0 * _samples_per_px(image) if progressive else 0.0)
    if image.format == "WEBP":
        halves = not transparent and image.width * image.height > LARGE_WEBP
        return HALF_WEBP_BYTES_PER_PX if halves else WEBP_BYTES_PER_PX
    if image.format in ("AVIF", "HEIF"):
        return VIDEO_BYTES_PER_PX + (BYTES_PER_PX["RGB"] if transparent else 0.0)
    if image.mode.startswith(("I", "F")):
        return DEEP_BYTES_PER_PX
    if transparent:
        return TRANSPARENT_BYTES_PER_PX.get(str(image.mode), MOST_TRANSPARENT)
    return BYTES_PER_PX.get(str(image.mode), MOST_TRANSPARENT)


def _samples_per_px(image: ImageFile) -> float:
    """Samples of all components together: 1.5 where both colours have a quarter of the resolution."""
    factors = [(int(layer[1]), int(layer[2])) for layer in getattr(image, "layer", ())]
    if not factors:
        return 3.0
    most = max(across for across, _ in factors) * max(down for _, down in factors)
    return sum(across * down for across, down in factors) / max(most, 1)
