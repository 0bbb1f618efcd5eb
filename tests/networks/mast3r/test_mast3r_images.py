"""Preprocessing pixel by pixel as published, and the way from its pixels to those of the photo."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from unposed.networks.errors import ImageSizeError
from unposed.networks.mast3r.images import fit_image, image_batch, resize_and_crop


@pytest.fixture(scope="module")
def expected(reference: Callable[[str], Any]) -> dict[str, NDArray[np.uint8]]:
    return dict(reference("fixtures/images_expected.safetensors"))


def test_images_are_the_published_ones(
    reference: Callable[[str], Path], expected: dict[str, NDArray[np.uint8]]
) -> None:
    slack = 0 if PIL.__version__.startswith("13.") else 1  # resampling is rounded differently in other versions
    for name, wanted in expected.items():
        kind, file = name.split(".", 1)
        photo = ImageOps.exif_transpose(Image.open(reference(f"fixtures/images/{file}"))).convert("RGB")
        size, squares = int(kind.removeprefix("size").removesuffix("_sq")), kind.endswith("_sq")
        image, frame = fit_image(np.asarray(photo), size, squares=squares)
        assert image.shape == wanted.shape and frame.size == wanted.shape[:2], name
        assert np.abs(image.astype(int) - wanted.astype(int)).max() <= slack, name


def test_sizes_are_the_published_ones(reference: Callable[[str], Any]) -> None:
    table = reference("fixtures/images_expected.json")["size_table"]
    assert len(table) > 5
    for row in table:
        for column, size, squares in (("out_512", 512, False), ("out_512_sq", 512, True), ("out_224", 224, False)):
            _, (left, top, right, bottom) = resize_and_crop(row["W"], row["H"], size, squares=squares)
            assert [right - left, bottom - top] == row[column], (row, column)


@pytest.mark.parametrize(("width", "height", "size"), [(400, 300, 96), (131, 97, 64), (90, 90, 64), (300, 200, 224)])
def test_a_spot_in_the_image_is_where_it_is_in_the_photo(width: int, height: int, size: int) -> None:
    """A photo whose red and green are its own coordinates: the image's colours say where its pixels come from."""
    row, column = np.mgrid[:height, :width] + 0.5
    photo = np.stack([column * 250 / width, row * 250 / height, 0 * row], axis=-1).round().astype(np.uint8)
    image, frame = fit_image(photo, size)
    y, x = np.mgrid[8 : frame.size[0] - 8 : 5, 8 : frame.size[1] - 8 : 5]
    said = image[y, x, :2] * (width / 250, height / 250)
    claimed = frame.to_photo(np.stack([x, y], axis=-1))
    assert np.abs(said - claimed).max() < 0.012 * max(width, height)
    assert abs((said - claimed).mean()) < 0.002 * max(width, height)
    np.testing.assert_allclose(frame.from_photo(claimed), np.stack([x, y], axis=-1), atol=1e-9)


def test_corners_of_an_uncropped_image_are_corners_of_the_photo() -> None:
    _, frame = fit_image(np.zeros((768, 1024, 3), np.uint8), 512)
    np.testing.assert_allclose(frame.to_photo(np.array([[-0.5, -0.5], [511.5, 383.5]])), [[0, 0], [1024, 768]])


def test_extreme_photos() -> None:
    assert fit_image(np.zeros((1, 1, 3), np.uint8), 512)[0].shape == (384, 512, 3)
    assert fit_image(np.zeros((50, 1000, 3), np.uint8), 512)[0].shape == (16, 512, 3)
    assert fit_image(np.zeros((1000, 50, 3), np.uint8), 512)[0].shape == (512, 16, 3)
    with pytest.raises(ImageSizeError, match=r"2000 x 50 px is too narrow"):
        fit_image(np.zeros((50, 2000, 3), np.uint8), 512)


def test_a_collection_of_all_proportions_has_few_shapes_where_sides_are_multiples() -> None:
    photos = [np.zeros((height, 1000, 3), np.uint8) for height in range(130, 1001, 29)]
    shapes = {step: {fit_image(photo, 512, step=step)[1].size for photo in photos} for step in (16, 64)}
    assert len(shapes[16]) > 20
    assert shapes[64] == {(side, 512) for side in range(64, 513, 64)} - {(512, 512)}
    image, frame = fit_image(np.zeros((720, 1280, 3), np.uint8), 512, step=64)
    assert image.shape == (256, 512, 3)
    middle = frame.to_photo(np.array([255.5, 127.5]))
    np.testing.assert_allclose(middle, (640.0, 360.0))  # what is cropped is the same above and below
    assert fit_image(np.zeros((50, 1000, 3), np.uint8), 512, step=64)[0].shape == (16, 512, 3)


def test_black_and_white_span_the_range() -> None:
    images = image_batch([np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 255, np.uint8)])
    assert images.shape == (2, 3, 16, 16)
    assert float(images[0].max()) == -1.0 and float(images[1].min()) == 1.0
