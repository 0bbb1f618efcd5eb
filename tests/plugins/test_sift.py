"""SIFT features: where pixels are, what is stored, and in which order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from unposed.pipeline.artifacts import Features, Photo
from unposed.pipeline.images.photos import scan
from unposed.plugins.features.colmap_sift import ColmapSift
from unposed.plugins.features.sift import DESCRIPTOR_UNIT, Sift, root_sift, stretched

SIZE = 480
Extractor = Sift | ColmapSift
both = pytest.mark.parametrize("extractor", [Sift, ColmapSift])


def blobs(centres: NDArray[np.float64], radius: float, size: int) -> NDArray[np.float64]:
    """Gaussian spots, sampled at pixel centres: (0.5, 0.5) is the centre of the top-left pixel."""
    at = np.arange(size) + 0.5
    x = np.exp(-0.5 * ((at[None] - centres[:, :1]) / radius) ** 2)
    y = np.exp(-0.5 * ((at[None] - centres[:, 1:]) / radius) ** 2)
    signs = np.where(np.arange(len(centres)) % 2, 1.0, -1.0)
    return np.asarray(128 + 90 * np.einsum("k,ky,kx->yx", signs, y, x))


def centres(step: float, size: int) -> NDArray[np.float64]:
    """A loose grid, far enough apart that spots do not disturb each other, at all fractions of a pixel."""
    at = np.arange(step, size - step / 2, step)
    grid = np.stack(np.meshgrid(at, at), axis=-1).reshape(-1, 2)
    return grid + np.random.default_rng(0).uniform(-3, 3, grid.shape)


def textured(size: int = SIZE) -> NDArray[np.uint8]:
    """Noise at all scales."""
    random = np.random.default_rng(1)
    total = np.zeros((size, size))
    for cells in (6, 15, 30, 60, 120, 240):
        coarse = Image.fromarray(random.normal(size=(cells, cells)).astype(np.float32))
        total += np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))
    return np.clip(128 + 32 * total, 0, 255).astype(np.uint8)


def photo_of(folder: Path, pixels: NDArray[np.generic], name: str = "a.png", **options: object) -> Photo:
    folder.mkdir(exist_ok=True)
    Image.fromarray(np.rint(pixels).astype(np.uint8)).save(folder / name)
    Image.new("L", (32, 32)).save(folder / "zz.png")
    return scan(folder, **options)[0]  # type: ignore[arg-type]


@pytest.mark.parametrize("extractor", [Sift(max_side_px=SIZE), ColmapSift(search_side_px=SIZE)], ids=["cv", "colmap"])
@pytest.mark.parametrize(
    ("size", "radius"), [(SIZE // 2, 3.0), (SIZE, 3.0), (SIZE, 6.0), (2 * SIZE, 8.0), (3 * SIZE + 7, 12.0)]
)
def test_spots_are_found_where_they_are(tmp_path: Path, extractor: Extractor, size: int, radius: float) -> None:
    true = centres(12 * radius, size)
    found = extractor(photo_of(tmp_path, blobs(true, radius, size))).xy
    offset = found[None] - true[:, None]
    nearest = np.take_along_axis(offset, np.linalg.norm(offset, axis=2).argmin(1)[:, None, None], axis=1)[:, 0]
    assert (np.linalg.norm(nearest, axis=1) < 0.3 * size / SIZE).mean() > 0.95
    assert np.abs(np.median(nearest, axis=0)).max() < 0.03 * size / SIZE


@both
def test_half_size_agrees(tmp_path: Path, extractor: type[Extractor]) -> None:
    """The image and its exact half (2 x 2 means) have their points at the same places."""
    full = textured()
    half = full.reshape(SIZE // 2, 2, SIZE // 2, 2).mean((1, 3))
    a = extractor()(photo_of(tmp_path / "full", full))
    b = extractor()(photo_of(tmp_path / "half", half))
    likeness = a.descriptors.astype(np.float32) @ b.descriptors.astype(np.float32).T
    row = likeness.argmax(1)
    same = (likeness.argmax(0)[row] == np.arange(len(row))) & (likeness.max(1) > 0.95 * DESCRIPTOR_UNIT**2)
    shift = 2 * b.xy[row[same]] - a.xy[same]
    assert same.sum() > 100
    assert np.abs(np.median(shift, axis=0)).max() < 0.05


@both
def test_what_is_stored(tmp_path: Path, extractor: type[Extractor]) -> None:
    features = extractor(max_keypoints=200)(photo_of(tmp_path, textured()))
    assert features.xy.shape == (200, 2) and features.xy.dtype == np.float32
    assert features.scale.shape == features.score.shape == (200,)
    assert features.scale.dtype == features.score.dtype == np.float32
    assert features.descriptors.shape == (200, 128) and features.descriptors.dtype == np.uint8
    assert features.rgb.shape == (200, 3) and features.rgb.dtype == np.uint8
    assert (np.diff(features.score) <= 0).all() and (features.scale > 0).all()
    assert (features.xy > 0).all() and (features.xy < SIZE).all()


def test_fewer_points_are_the_largest_of_more(tmp_path: Path) -> None:
    photo = photo_of(tmp_path, textured())
    few, many = Sift(max_keypoints=100)(photo), Sift(max_keypoints=300)(photo)
    np.testing.assert_array_equal(few.xy, many.xy[:100])
    assert few.scale.min() >= many.scale[100:].max()


@both
def test_same_photo_same_bytes(tmp_path: Path, extractor: type[Extractor]) -> None:
    photo = photo_of(tmp_path, textured())
    first, second = extractor()(photo), extractor()(photo)
    for name, values in vars(first).items():
        assert np.array_equal(values, getattr(second, name)), name


@both
def test_stored_turned_or_upright_is_the_same(tmp_path: Path, extractor: type[Extractor]) -> None:
    upright = textured()[:, :400]
    exif = Image.Exif()
    exif[274] = 6
    first = extractor()(photo_of(tmp_path / "upright", upright))
    photo_of(tmp_path / "turned", upright)
    Image.fromarray(np.rot90(upright)).save(tmp_path / "turned" / "a.png", exif=exif)
    second = extractor()(scan(tmp_path / "turned")[0])
    assert np.array_equal(first.xy, second.xy) and np.array_equal(first.descriptors, second.descriptors)


@both
def test_masked_parts_cost_no_points(tmp_path: Path, extractor: type[Extractor]) -> None:
    """What a mask hides has no points, and the number asked for is found in the rest."""
    pixels = textured().astype(np.float64)
    pixels[:, SIZE // 2 :] = 128 + (pixels[:, SIZE // 2 :] - 128) / 4  # the visible half is the fainter
    mask = np.zeros((60, 60), np.uint8)
    mask[:, 30:] = 255
    (tmp_path / "masks").mkdir()
    Image.fromarray(mask).save(tmp_path / "masks" / "a.png")
    open_photo = photo_of(tmp_path / "photos", pixels)
    masked_photo = photo_of(tmp_path / "photos", pixels, masks=tmp_path / "masks")
    everywhere, visible = extractor(max_keypoints=150)(open_photo), extractor(max_keypoints=150)(masked_photo)
    assert (everywhere.xy[:, 0] < SIZE / 2).mean() > 0.3
    assert len(visible.xy) == 150 and (visible.xy[:, 0] >= SIZE / 2).all()


@both
def test_colours_are_the_photos(tmp_path: Path, extractor: type[Extractor]) -> None:
    tint = np.zeros((SIZE, SIZE, 3))
    tint[:, : SIZE // 2, 0] = tint[:, SIZE // 2 :, 2] = 1
    features = extractor()(photo_of(tmp_path, textured()[:, :, None] * tint))
    left = features.xy[:, 0] < SIZE / 2
    assert left.any() and not left.all()
    assert not features.rgb[left][:, 1:].any() and not features.rgb[~left][:, :2].any()


@both
def test_blank_photo_has_no_points(tmp_path: Path, extractor: type[Extractor]) -> None:
    features = extractor()(photo_of(tmp_path, np.full((SIZE, SIZE), 90)))
    assert features.xy.shape == (0, 2) and features.descriptors.shape == (0, 128)
    assert features.rgb.shape == (0, 3) and features.score.shape == (0,)


def test_faint_photos_still_have_points(tmp_path: Path) -> None:
    faint = 128 + (textured().astype(np.float64) - 128) / 12
    assert len(Sift()(photo_of(tmp_path, faint)).xy) > 100


def test_root_sift() -> None:
    raw = np.zeros((3, 128), np.float32)
    raw[0] = 1
    raw[1, :4] = (16, 9, 0, 75)
    rooted = root_sift(raw)
    assert (rooted[0] == round(DESCRIPTOR_UNIT / 128**0.5)).all()
    assert rooted[1, :4].tolist() == [205, 154, 0, 255]  # 512 * (0.4, 0.3, 0, 0.87), the last cut off
    assert not rooted[2].any()


def test_descriptors_of_both_are_of_one_kind(tmp_path: Path) -> None:
    """Points of one can be matched with points of the other, and lie at the same places."""
    photo = photo_of(tmp_path, textured())
    a, b = Sift()(photo), ColmapSift()(photo)
    likeness = a.descriptors.astype(np.float32) @ b.descriptors.astype(np.float32).T
    row = likeness.argmax(1)
    same = (likeness.argmax(0)[row] == np.arange(len(row))) & (likeness.max(1) > 0.95 * DESCRIPTOR_UNIT**2)
    shift = b.xy[row[same]] - a.xy[same]
    assert same.sum() > 100
    assert (np.linalg.norm(shift, axis=1) < 1).mean() > 0.9
    assert np.abs(np.median(shift, axis=0)).max() < 0.05


def test_a_faint_photo_is_searched_for_weaker_points(tmp_path: Path) -> None:
    """A tenth of the contrast leaves hardly a point above the usual threshold, and yet most are found."""
    pixels = textured().astype(np.float64)
    faint = photo_of(tmp_path / "faint", 128 + (pixels - 128) / 10)
    clear, found = Sift()(photo_of(tmp_path / "clear", pixels)), Sift()(faint)
    assert len(found.xy) > 0.3 * min(Sift.min_keypoints, len(clear.xy))


def test_weak_points_are_not_wanted_where_there_are_enough(tmp_path: Path) -> None:
    photo = photo_of(tmp_path, textured())
    usual, weaker = (Sift(max_keypoints=65536, contrast_threshold=contrast)(photo) for contrast in (0.03, 0.01))
    assert len(usual.xy) > Sift.min_keypoints
    assert len(weaker.xy) > len(usual.xy)


def test_points_of_a_hazy_photo_are_those_of_the_clear_one(tmp_path: Path) -> None:
    clear = textured()
    hazy = 150.0 + clear / 255.0 * 24.0
    extractor = Sift(max_side_px=SIZE, max_keypoints=300)
    wanted = extractor(photo_of(tmp_path / "clear", clear)).xy

    def found_again(features: Features) -> float:
        apart = np.linalg.norm(wanted[:, None] - features.xy[None], axis=2)
        return float((apart.min(axis=1) < 1.0).mean())

    as_it_is = replace(extractor, min_grey_levels=0)(photo_of(tmp_path / "hazy", hazy))
    assert found_again(extractor(photo_of(tmp_path / "hazy", hazy))) > 0.8 > 0.6 > found_again(as_it_is)


def test_clear_photos_stay_as_they_are_and_noise_of_a_blank_one_stays_faint() -> None:
    clear = textured()
    assert stretched(clear, 50, 16) is clear
    sky = (np.random.default_rng(0).normal(200.0, 1.0, (SIZE, SIZE))).round().astype(np.uint8)
    assert np.std(stretched(sky, 50, 16).astype(float)) < 8.0
