"""Small pictures inside a page: thumbnails of photos, two photos with their matches, maps and matrices."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unposed.optim.arrays import Array, Index, Mask
from unposed.pipeline.artifacts import Bytes, Photo, Photos
from unposed.pipeline.errors import UnposedError
from unposed.pipeline.images.pixels import read_rgb
from unposed.pipeline.stage import InputUnavailable, StageError

QUALITY = 72
"""Of JPEGs in the page."""
THUMBNAIL_PX, PAIR_PX = 168, 440
"""Longer side of a thumbnail, and of a photo that is drawn with its matches."""
FEW_PHOTOS = 250
"""Of more photos, thumbnails are smaller."""
SMALL_THUMBNAIL_PX = 112
MATRIX_MOST = 500
"""Pixels of the similarity matrix along a side; of more photos, neighbours share one."""

SIMILAR, VERIFIED, DOUBTED = (126, 134, 156), (38, 120, 180), (214, 69, 56)
"""Colours of the matrix that can be told on white and on black."""
COVERAGE = ((1, (201, 85, 64)), (3, (232, 164, 84)), (4, (178, 196, 120)), (6, (86, 164, 140)), (10, (31, 111, 139)))
"""Least number of photos, and the colour of places that so many see."""


def small_images(photos: Photos, large: Iterable[int]) -> dict[int, Bytes]:
    """Reduced images by photo; those in `large` at the size for drawings of pairs. Photos that can no longer be read
    are left out."""
    side = THUMBNAIL_PX if len(photos) <= FEW_PHOTOS else SMALL_THUMBNAIL_PX
    wanted, found = set(large), {}
    for index, photo in enumerate(photos.photos):
        image = readable_rgb(photo, PAIR_PX if index in wanted else side)
        if image is not None:
            found[index] = image
    return found


def thumbnails(images: Mapping[int, Bytes], photos: int) -> dict[int, str]:
    """Data URI of a thumbnail by photo; `photos` is the size of the collection."""
    side = THUMBNAIL_PX if photos <= FEW_PHOTOS else SMALL_THUMBNAIL_PX
    return {index: jpeg_uri(_reduced(image, side)) for index, image in images.items()}


def jpeg_uri(image: Image.Image, quality: int = QUALITY) -> str:
    """The image as a JPEG in a data URI."""
    return _uri(image, "jpeg", quality=quality)


def png_uri(values: Bytes) -> str:
    """(h, w, 4) RGBA as a PNG in a data URI."""
    return _uri(Image.fromarray(values), "png")


def base64_of(values: NDArray[Any]) -> str:
    """The bytes of an array, little-endian."""
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")


def similarity_matrix(
    photos: int, ranked: Index, similarity: Array, verified: Index, matches: Array, doubted: Mask
) -> Bytes:
    """(n, n, 4) RGBA: similarity of the ranked pairs above the diagonal, verified matches below it, doubted pairs in
    red; transparent where there is nothing."""
    matrix = np.zeros((photos, photos, 4), np.uint8)
    matrix[np.arange(photos), np.arange(photos)] = (*SIMILAR, 255)
    if len(ranked):
        matrix[ranked[:, 0], ranked[:, 1]] = _tinted(SIMILAR, similarity)
    if len(verified):
        matrix[verified[:, 1], verified[:, 0]] = _tinted(VERIFIED, matches)
        rows = verified[doubted]
        matrix[rows[:, 1], rows[:, 0]] = (*DOUBTED, 255)
    if photos <= MATRIX_MOST:
        return matrix
    return np.asarray(Image.fromarray(matrix).resize((MATRIX_MOST, MATRIX_MOST), Image.Resampling.BOX))


def coverage_picture(photos: Index) -> Bytes:
    """(rows, columns, 4) RGBA of a map of coverage."""
    picture = np.zeros((*photos.shape, 4), np.uint8)
    for least, colour in COVERAGE:
        picture[photos >= least] = (*colour, 255)
    return picture


def side_by_side(a: Bytes, b: Bytes) -> tuple[Image.Image, int]:
    """Two images next to each other, on black, and the column where the second one begins."""
    height, left = max(len(a), len(b)), a.shape[1] + 4
    both = Image.new("RGB", (left + b.shape[1], height))
    both.paste(Image.fromarray(a), (0, (height - len(a)) // 2))
    both.paste(Image.fromarray(b), (left, (height - len(b)) // 2))
    return both, left


def _tinted(colour: tuple[int, int, int], strength: Array) -> Bytes:
    """(n, 4) a colour, the more opaque the stronger; in a nonlinear scale, as few pairs are many times as strong as all
    others."""
    top = max(float(np.quantile(strength, 0.98)), 1e-9)
    alpha = 255.0 * np.sqrt(np.asarray(strength, np.float64) / top).clip(0.0, 1.0)
    return np.column_stack([np.tile(np.array(colour), (len(alpha), 1)), np.maximum(alpha, 24.0)]).astype(np.uint8)


def readable_rgb(photo: Photo, side: int) -> Bytes | None:
    """The reduced photo (h, w, 3); None if it has moved, or cannot be decoded."""
    try:
        return read_rgb(photo, side)
    except (UnposedError, StageError, InputUnavailable, MemoryError):
        return None


def _reduced(image: Bytes, side: int) -> Image.Image:
    small = Image.fromarray(image)
    small.thumbnail((side, side), Image.Resampling.BICUBIC)
    return small


def _uri(image: Image.Image, kind: str, **options: int) -> str:
    data = io.BytesIO()
    image.save(data, kind.upper(), **options)
    return f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode('ascii')}"
