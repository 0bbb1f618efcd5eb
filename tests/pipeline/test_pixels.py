"""Pixels: every kind of file gives the same upright 8-bit image, reduced exactly, or one line about what is wrong."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile

from unposed.pipeline.artifacts import Photo
from unposed.pipeline.images.content import bytes_content, file_content
from unposed.pipeline.images.known_contents import KnownContents
from unposed.pipeline.images.photos import scan
from unposed.pipeline.images.pixels import photo_per_px, read_grey, read_mask, read_rgb
from unposed.pipeline.stage import InputUnavailable, StageError

WIDTH, HEIGHT = 96, 64


@pytest.fixture
def image() -> Image.Image:
    """Smooth colours that differ in all four corners: survives JPEG, betrays every flip."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return Image.fromarray(np.stack([x * 2, y * 3, 255 - x - y], axis=2).astype(np.uint8))


def only(path: Path, **options: object) -> Photo:
    """The photo at path, as the intake sees it; a second one lies next to it because one alone is refused."""
    Image.new("RGB", (32, 32)).save(path.parent / "zz.png")
    return scan(path.parent, **options)[0]  # type: ignore[arg-type]


def alike(pixels: np.ndarray, expected: Image.Image, tolerance: float) -> bool:
    wanted = np.asarray(expected)
    return (
        pixels.shape == wanted.shape
        and pixels.dtype == np.uint8
        and bool(np.abs(pixels.astype(int) - wanted).max() <= tolerance)
    )


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("a.png", 0), ("a.bmp", 0), ("a.tif", 0), ("a.jpg", 8), ("a.webp", 12), ("a.avif", 12), ("a.heic", 12)],
)
def test_formats(tmp_path: Path, image: Image.Image, name: str, tolerance: float) -> None:
    if name.endswith("heic"):
        pytest.importorskip("pillow_heif").from_pillow(image).save(tmp_path / name, quality=95)
    else:
        image.save(tmp_path / name, quality=98)
    photo = only(tmp_path / name)
    assert alike(read_rgb(photo), image, tolerance)
    assert alike(read_grey(photo), image.convert("L"), tolerance)


@pytest.mark.parametrize(("mode", "name"), [("CMYK", "a.tif"), ("P", "a.png"), ("L", "a.png"), ("1", "a.tif")])
def test_modes(tmp_path: Path, image: Image.Image, mode: str, name: str) -> None:
    stored = image.convert(mode)
    stored.save(tmp_path / name)
    assert alike(read_rgb(only(tmp_path / name)), stored.convert("RGB"), 0)


def test_cmyk_jpeg(tmp_path: Path, image: Image.Image) -> None:
    image.convert("CMYK").save(tmp_path / "a.jpg", quality=98)
    photo = only(tmp_path / "a.jpg")
    assert alike(read_rgb(photo), image, 12)
    assert alike(read_grey(photo), image.convert("L"), 12)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_deep_grey_is_scaled_by_its_bits(tmp_path: Path, name: str, bits: int) -> None:
    ramp = np.linspace(0, 2**bits - 1, WIDTH * HEIGHT).reshape(HEIGHT, WIDTH).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / name)
    photo = only(tmp_path / name)
    expected = np.rint(ramp.astype(float) * 255 / (2**bits - 1))
    assert np.abs(read_grey(photo) - expected).max() <= 1
    assert np.array_equal(read_rgb(photo), np.repeat(read_grey(photo)[:, :, None], 3, axis=2))


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.0, 255.0), (-5.0, 65535.0)])
def test_float_grey(tmp_path: Path, low: float, high: float) -> None:
    ramp = np.linspace(low, high, WIDTH * HEIGHT, dtype=np.float32).reshape(HEIGHT, WIDTH)
    ramp[0, 1] = np.nan
    Image.fromarray(ramp).save(tmp_path / "a.tif")
    grey = read_grey(only(tmp_path / "a.tif"))
    assert grey[0, 0] == grey[0, 1] == 0 and grey[-1, -1] == 255
    assert abs(int(grey[HEIGHT // 2, 0]) - 128) <= 2


def test_deep_colour_png(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    deep = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH, 3), np.uint16)
    for name in ("a.png", "b.tif"):
        cv2.imwrite(str(tmp_path / name), deep[:, :, ::-1])
    photos = scan(tmp_path)
    for photo in photos.photos:
        assert np.abs(read_rgb(photo).astype(int) - deep / 257).max() <= 1


def test_transparency_is_black_and_hidden(tmp_path: Path, image: Image.Image) -> None:
    alpha = Image.new("L", image.size, 255)
    alpha.paste(0, (0, 0, WIDTH // 2, HEIGHT))
    image.putalpha(alpha)
    image.save(tmp_path / "a.png")
    photo = only(tmp_path / "a.png")
    rgb, mask = read_rgb(photo), read_mask(photo)
    assert mask is not None
    assert not rgb[:, : WIDTH // 2].any() and not mask[:, : WIDTH // 2].any()
    assert alike(rgb[:, WIDTH // 2 :], image.convert("RGB").crop((WIDTH // 2, 0, WIDTH, HEIGHT)), 0)
    assert mask[:, WIDTH // 2 :].all()


def test_opaque_alpha_hides_nothing(tmp_path: Path, image: Image.Image) -> None:
    image.convert("RGBA").save(tmp_path / "a.png")
    assert read_mask(only(tmp_path / "a.png")) is None


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_gives_the_same_upright_image(
    tmp_path: Path, image: Image.Image, name: str, orientation: int
) -> None:
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's transpositions: what a tilted camera has stored
    stored = image if orientation == 1 else image.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[274] = orientation
    stored.save(tmp_path / name, exif=exif, quality=98)
    with Image.open(tmp_path / name) as reference:
        assert ImageOps.exif_transpose(reference).size == image.size
    photo = only(tmp_path / name)
    assert (photo.width, photo.height) == image.size
    assert alike(read_rgb(photo), image, 12)
    assert read_rgb(photo, 48).shape == (32, 48, 3)


def test_reduced_images_keep_the_borders(tmp_path: Path) -> None:
    """A step at a known place, in sizes the JPEG decoder's blocks do not divide, found again at the same place."""
    width, height, step = 1993, 1337, 1890.0
    values = np.where(np.arange(width) < step, 40, 210).astype(np.uint8)
    Image.fromarray(np.repeat(values[None], height, axis=0)).save(tmp_path / "a.jpg", quality=95)
    Image.fromarray(np.repeat(values[None], height, axis=0)).save(tmp_path / "b.png")
    for photo in scan(tmp_path).photos:
        for max_side in (1500, 900, 700, 333, 120):
            grey = read_grey(photo, max_side)
            assert max(grey.shape) == max_side
            dark = (210.0 - grey.mean(0)).sum() / 170.0  # columns left of the step, fractions included
            assert dark * photo_per_px(photo, grey)[0] == pytest.approx(step, abs=0.3)


def test_never_enlarged(tmp_path: Path, image: Image.Image) -> None:
    image.save(tmp_path / "a.png")
    assert read_rgb(only(tmp_path / "a.png"), 1000).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp", "a.bmp"])
def test_cut_off_pixels_are_one_line(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole", format={"jpg": "JPEG", "tif": "TIFF"}.get(name[2:], name[2:]))
    data = (tmp_path / "whole").read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) * 6 // 10])
    Image.new("RGB", (32, 32)).save(tmp_path / "y.png")
    Image.new("RGB", (32, 32)).save(tmp_path / "z.png")
    photos = scan(tmp_path)
    if name in photos.rejected:  # some decoders notice before the first pixel
        assert "damaged or cut off" in photos.rejected[name]
        return
    with pytest.raises(StageError, match=r"^photo: .*damaged or cut off.*$") as caught:
        read_rgb(photos[0])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}, {"restart_marker_rows": 2}])
def test_a_jpeg_that_is_damaged_in_the_middle_is_one_line(tmp_path: Path, options: dict[str, object]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg", **options)
    data = bytearray((tmp_path / "a.jpg").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 512] = b"\xff\xc0" * 256  # and it ends as a JPEG should
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(StageError, match="damaged or cut off"):
        read_rgb(only(tmp_path / "a.jpg"))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{"subsampling": 2}, {"progressive": True, "quality": 50}])
def test_a_whole_jpeg_has_the_values_that_pillow_reads(tmp_path: Path, mode: str, options: dict[str, object]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (61, 93, 3), np.uint8)
    Image.fromarray(noise).convert(mode).save(tmp_path / "a.jpg", **options)
    with Image.open(tmp_path / "a.jpg") as file:
        np.testing.assert_array_equal(read_rgb(only(tmp_path / "a.jpg")), np.asarray(file.convert("RGB")))


def test_photo_that_vanished(tmp_path: Path, image: Image.Image) -> None:
    image.save(tmp_path / "a.png")
    photo = only(tmp_path / "a.png")
    photo.path.unlink()
    with pytest.raises(InputUnavailable, match="No such file"):
        read_rgb(photo)


def test_a_photo_that_was_replaced_is_not_taken_for_the_old_one(
    tmp_path: Path, image: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unposed.pipeline.images.pixels._OPAQUE", set())
    image.save(tmp_path / "a.png")
    photo = only(tmp_path / "a.png")
    state = photo.path.stat()
    image.rotate(180).save(photo.path)
    os.utime(photo.path, ns=(state.st_atime_ns, state.st_mtime_ns))  # by a program that keeps times
    for read in (read_rgb, read_grey, read_mask):
        with pytest.raises(InputUnavailable, match=r"^photo: the file has changed since the run began"):
            read(photo)
    image.save(photo.path)
    assert alike(read_rgb(photo), image, 0)


def test_a_mask_that_was_replaced_is_not_taken_for_the_old_one(tmp_path: Path, image: Image.Image) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "masks").mkdir()
    image.save(tmp_path / "photos" / "a.png")
    Image.new("L", image.size, 255).save(tmp_path / "masks" / "a.png")
    photo = only(tmp_path / "photos" / "a.png", masks=tmp_path / "masks")
    Image.new("L", image.size, 0).save(tmp_path / "masks" / "a.png")
    with pytest.raises(InputUnavailable, match=r"^mask a\.png: the file has changed"):
        read_mask(photo)


def test_a_photo_that_became_a_pipe_does_not_wait_for_ever(tmp_path: Path, image: Image.Image) -> None:
    image.save(tmp_path / "a.png")
    photo = only(tmp_path / "a.png")
    photo.path.unlink()
    os.mkfifo(photo.path)
    with pytest.raises(InputUnavailable, match="not a file but a pipe"):
        read_rgb(photo)


@pytest.mark.parametrize("said", [MemoryError(), OSError("out of memory error when reading image file")])
def test_a_lack_of_memory_is_no_trait_of_the_photo(
    tmp_path: Path, image: Image.Image, said: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    image.save(tmp_path / "a.png")
    photo = only(tmp_path / "a.png")

    def load(self: ImageFile) -> None:
        raise said

    monkeypatch.setattr(ImageFile, "load", load)
    with pytest.raises(MemoryError, match=r"^photo: "):
        read_rgb(photo)


def test_a_file_that_changes_while_it_is_scanned_is_left_out(
    tmp_path: Path, image: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or else the size of one image would stand beside the content of another."""
    image.save(tmp_path / "a.png")

    def content(self: KnownContents, path: Path) -> str:
        if path.name == "a.png":
            image.resize((200, 100)).save(path)
        return file_content(path)

    monkeypatch.setattr(KnownContents, "content", content)
    for name in ("y.png", "z.png"):
        image.save(tmp_path / name)
    assert scan(tmp_path).rejected == {"a.png": "it was changed while it was read: run again"}


def test_hundred_megapixels(tmp_path: Path) -> None:
    """Bounded: a 100-megapixel JPEG is reduced while it is decoded."""
    tile = np.random.default_rng(0).integers(0, 256, (50, 50), np.uint8)
    Image.fromarray(np.kron(tile, np.ones((200, 200), np.uint8))).save(tmp_path / "a.jpg", quality=60)
    photo = only(tmp_path / "a.jpg")
    assert photo.width * photo.height == 100_000_000
    grey = read_grey(photo, 1250)
    assert grey.shape == (1250, 1250)
    assert np.abs(grey[12::25, 12::25].astype(int) - tile).max() < 12


@pytest.mark.parametrize(("shows", "hides"), [(255, 0), (200, 60), (1, 0)])
def test_masks(tmp_path: Path, image: Image.Image, shows: int, hides: int) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "masks").mkdir()
    image.save(tmp_path / "photos" / "a.png")
    values = np.full((HEIGHT // 2, WIDTH // 2), hides, np.uint8)
    values[:, :10] = shows
    Image.fromarray(values).save(tmp_path / "masks" / "a.png")
    mask = read_mask(only(tmp_path / "photos" / "a.png", masks=tmp_path / "masks"))
    assert mask is not None and mask.dtype == bool
    assert np.array_equal(mask, values == shows)


def test_mask_drawn_on_the_stored_pixels_is_turned_with_them(tmp_path: Path, image: Image.Image) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "masks").mkdir()
    exif = Image.Exif()
    exif[274] = 6
    image.save(tmp_path / "photos" / "a.jpg", exif=exif)
    values = np.zeros((HEIGHT, WIDTH), np.uint8)
    values[:, :10] = 255
    Image.fromarray(values).save(tmp_path / "masks" / "a.jpg.png")
    mask = read_mask(only(tmp_path / "photos" / "a.jpg", masks=tmp_path / "masks"))
    assert mask is not None and mask.shape == (WIDTH, HEIGHT)
    assert mask[:10].all() and not mask[10:].any()


def test_broken_mask_is_one_line(tmp_path: Path, image: Image.Image) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "masks").mkdir()
    image.save(tmp_path / "photos" / "a.png")
    (tmp_path / "masks" / "a.png").write_bytes(b"no mask")
    with pytest.raises(StageError, match=r"mask a\.png: not an image"):
        read_mask(only(tmp_path / "photos" / "a.png", masks=tmp_path / "masks"))


@pytest.mark.parametrize("size", [(96, 64), (97, 65)])
def test_large_webp_are_read_by_halves(
    tmp_path: Path, image: Image.Image, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    image.resize(size).save(tmp_path / "a.webp", lossless=True)
    photo = only(tmp_path / "a.webp")
    whole = {side: read_rgb(photo, side) for side in (24, 40, 48, 60)}
    monkeypatch.setattr("unposed.pipeline.images.pixels.LARGE_WEBP", 1)
    decoded = []
    monkeypatch.setattr("cv2.imdecode", lambda *how, decode=cv2.imdecode: decoded.append(decode(*how)) or decoded[-1])
    for side in (24, 40, 48):
        assert alike(read_rgb(photo, side), Image.fromarray(whole[side]), 3)
    assert [half.shape for half in decoded] == [(size[1] // 2, size[0] // 2, 3)] * 3
    np.testing.assert_array_equal(read_rgb(photo, 60), whole[60])  # half would not be enough
    veiled = image.resize(size).convert("RGBA")
    veiled.putalpha(128)
    veiled.save(tmp_path / "a.webp", lossless=True)
    photo = replace(photo, content=file_content(photo.path))
    assert alike(read_rgb(photo, 24), Image.fromarray(whole[24] // 2), 3)
    assert len(decoded) == 3


def test_a_large_webp_that_is_cut_off(tmp_path: Path, image: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    image.save(tmp_path / "a.webp", lossless=True)
    photo = only(tmp_path / "a.webp")
    monkeypatch.setattr("unposed.pipeline.images.pixels.LARGE_WEBP", 1)
    data = photo.path.read_bytes()
    for length in (40, len(data) // 2, len(data) - 9):
        photo.path.write_bytes(data[:length])
        with pytest.raises(StageError, match="damaged or cut off"):
            read_rgb(replace(photo, content=bytes_content(data[:length])), 24)
