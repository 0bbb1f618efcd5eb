"""Intake: which files of a folder become photos, under which names, and what is said of the others."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from unposed.pipeline.artifacts import Exif
from unposed.pipeline.errors import InputError
from unposed.pipeline.images.photos import scan


def save(path: Path, size: tuple[int, int] = (64, 48), **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise(size, 60).convert("RGB").save(path, **options)  # type: ignore[arg-type]
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two good photos: what is added is the subject of the test."""
    for name in ("good-1.jpg", "good-2.jpg"):
        save(tmp_path / "photos" / name)
    return tmp_path / "photos"


def names(folder: Path, **options: object) -> list[str]:
    return [photo.name for photo in scan(folder, **options).photos]  # type: ignore[arg-type]


def test_reads_every_format(folder: Path) -> None:
    wanted = ["a.png", "b.tif", "c.webp", "d.bmp", "e.JPEG"]
    for name in wanted:
        save(folder / name)
    assert names(folder) == [*wanted, "good-1.jpg", "good-2.jpg"]


@pytest.mark.parametrize("suffix", ["heic", "avif"])
def test_reads_phone_formats(folder: Path, suffix: str) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    image = Image.effect_noise((64, 48), 60).convert("RGB")
    if suffix == "heic":
        pillow_heif.from_pillow(image).save(folder / "a.heic")
    else:
        image.save(folder / "a.avif")
    first = scan(folder)[0]
    assert (first.name, first.width, first.height) == (f"a.{suffix}", 64, 48)


def test_format_is_told_by_content_not_by_name(folder: Path) -> None:
    save(folder / "really.png").rename(folder / "a.jpg")
    assert names(folder)[0] == "a.jpg"


def test_names_sorted_with_spaces_unicode_folders_and_same_stem(folder: Path) -> None:
    wanted = ["Zürich/über 1.jpg", "a b.jpg", "a b.png", "b/c d/e.jpg", "写真.jpg"]
    for name in wanted:
        save(folder / name)
    assert [n for n in names(folder) if not n.startswith("good")] == sorted(wanted)


def test_pictures_in_the_result_of_a_run_are_no_photos(folder: Path) -> None:
    save(folder / "out" / "overview.jpg")
    assert "out/overview.jpg" in names(folder)
    for name in ("run.log", "summary.json"):
        (folder / "out" / name).touch()
    assert names(folder) == ["good-1.jpg", "good-2.jpg"]
    assert names(folder / "out", least=0) == ["overview.jpg"]  # where somebody asks for them


def test_passes_over_hidden_and_foreign_files_in_silence(folder: Path) -> None:
    for name in (".hidden.jpg", ".thumbnails/a.jpg", "__MACOSX/a.jpg"):
        save(folder / name)
    (folder / "notes.txt").write_text("not a photo")
    photos = scan(folder)
    assert len(photos) == 2 and not photos.rejected


def test_loops_of_links_end(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "up").symlink_to(folder, target_is_directory=True)
    (folder / "self").symlink_to(folder, target_is_directory=True)
    assert names(folder) == ["good-1.jpg", "good-2.jpg"]


def test_linked_folder_is_read(folder: Path, tmp_path: Path) -> None:
    save(tmp_path / "elsewhere" / "c.jpg")
    (folder / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert "link/c.jpg" in names(folder)


def test_patterns(folder: Path) -> None:
    for name in ("left/1.jpg", "left/2.png", "right/1.jpg"):
        save(folder / name)
    assert names(folder, include=["left/*"]) == ["left/1.jpg", "left/2.png"]
    assert names(folder, exclude=["*.png", "good*"]) == ["left/1.jpg", "right/1.jpg"]
    assert names(folder, include=["*.jpg"], exclude=["left/*", "good-1.*"]) == ["good-2.jpg", "right/1.jpg"]


def test_identity_is_the_content(folder: Path) -> None:
    (folder / "copy.jpg").write_bytes((folder / "good-1.jpg").read_bytes())
    copy, one, two = scan(folder).photos
    assert copy.content == one.content != two.content


def png_header(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return start + struct.pack(">I", 1000) + b"IDAT"


BAD = {
    "empty.jpg": (b"", "empty file"),
    "text.jpg": (b"Dear diary, this is a text and no photo at all.", "not an image"),
    "html.png": (b"<!DOCTYPE html><html><body>404 not found</body></html>", "not an image"),
    "cut.jpg": (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01", "damaged or cut off"),
    "cut.png": (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00", "damaged or cut off"),
    "cut.webp": (b"RIFF\x40\x00\x00\x00WEBPVP8 \x30\x00", "damaged or cut off"),
    "cut.tif": (b"II*\x00\xff\xff\xff\x7f", "damaged or cut off"),
    "cut.heic": (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00", "damaged or cut off"),
    "bomb.png": (png_header(60_000, 60_000), "more than the 268 megapixels"),
    "tiny.bmp": (b"", "too small"),
    "film.mp4": (b"\x00", "extract its frames"),
    "raw.NEF": (b"\x00", "develop it"),
    "old.gif": (b"GIF89a", "convert it to PNG"),
}


@pytest.mark.parametrize("name", BAD)
def test_rejected_with_one_line(folder: Path, name: str) -> None:
    data, reason = BAD[name]
    if name == "tiny.bmp":
        save(folder / name, (8, 8))
    else:
        (folder / name).write_bytes(data)
    photos = scan(folder)
    assert len(photos) == 2
    assert reason in photos.rejected[name] and "\n" not in photos.rejected[name]


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_animations_are_rejected(folder: Path, suffix: str) -> None:
    frames = [Image.effect_noise((64, 48), 60).convert("RGB") for _ in range(3)]
    frames[0].save(folder / f"moving.{suffix}", save_all=True, append_images=frames[1:], duration=100)
    assert "animation of 3 frames" in scan(folder).rejected[f"moving.{suffix}"]


def test_first_page_of_a_tiff_counts(folder: Path) -> None:
    pages = [Image.new("L", (64, 48), 10), Image.new("L", (32, 32), 20)]
    pages[0].save(folder / "pages.tif", save_all=True, append_images=pages[1:])
    photo = next(p for p in scan(folder).photos if p.name == "pages.tif")
    assert (photo.width, photo.height) == (64, 48)


def test_side_images_of_a_jpeg_do_not_count(folder: Path) -> None:
    images = [Image.effect_noise((64, 48), 60).convert("RGB") for _ in range(2)]
    images[0].save(folder / "phone.jpg", format="MPO", save_all=True, append_images=images[1:])
    assert "phone.jpg" in names(folder)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that takes any bytes as a name")
def test_unprintable_names_are_rejected(folder: Path) -> None:
    save(folder / "line\nbreak.jpg")
    assert list(scan(folder).rejected) == ["line\nbreak.jpg"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a system with named pipes")
def test_a_pipe_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe.jpg")
    assert "not a file" in scan(folder).rejected["pipe.jpg"]


def test_masks_of_both_conventions(folder: Path, tmp_path: Path) -> None:
    save(folder / "sub" / "c.jpg")
    for name in ("good-1.jpg.png", "good-2.png", "sub/c.jpg.png"):
        save(tmp_path / "masks" / name)
    photos = scan(folder, masks=tmp_path / "masks")
    assert [photo.mask and photo.mask.relative_to(tmp_path / "masks").as_posix() for photo in photos.photos] == [
        "good-1.jpg.png",
        "good-2.png",
        "sub/c.jpg.png",
    ]
    assert len({photo.mask_content for photo in photos.photos}) == 3


def test_masks_inside_the_photo_folder_are_no_photos(folder: Path) -> None:
    save(folder / "masks" / "good-1.jpg.png")
    photos = scan(folder, masks=folder / "masks")
    assert [photo.mask is not None for photo in photos.photos] == [True, False]


def test_masks_that_fit_nothing_are_an_error(folder: Path, tmp_path: Path) -> None:
    save(tmp_path / "masks" / "other.png")
    with pytest.raises(InputError, match=r"good-1\.jpg\.png"):
        scan(folder, masks=tmp_path / "masks")


def test_no_such_folder_names_the_near_one(folder: Path) -> None:
    with pytest.raises(InputError, match=r"no such photo folder: .*phtos: did you mean .*photos\?"):
        scan(folder.parent / "phtos")
    with pytest.raises(InputError, match="no such mask folder"):
        scan(folder, masks=folder / "nowhere")
    with pytest.raises(InputError, match="is a file"):
        scan(folder / "good-1.jpg")


def test_too_few_photos(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no photos in .*expected files that end in .*\.jpg"):
        scan(tmp_path)
    save(tmp_path / "a.jpg")
    with pytest.raises(InputError, match=r"only one usable photo.*at least two"):
        scan(tmp_path)
    (tmp_path / "b.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"only one usable photo.*b\.jpg cannot be used: empty"):
        scan(tmp_path)
    with pytest.raises(InputError, match="patterns"):
        scan(tmp_path, include=["*.png"])


def exif_of(folder: Path, tags: dict[int, object], photo_tags: dict[int, object], gps: dict[int, object]) -> Exif:
    exif = Image.Exif()
    for tag, value in tags.items():
        exif[tag] = value
    exif.get_ifd(0x8769).update(photo_tags)
    exif.get_ifd(0x8825).update(gps)
    save(folder / "a.jpg", exif=exif)
    return scan(folder)[0].exif


def test_exif(folder: Path) -> None:
    exif = exif_of(
        folder,
        {271: "Canon ", 272: "Canon PowerShot A10\0"},
        {37386: 5.4, 41989: 35, 41988: 2.0, 42036: "a lens"}
        | {40962: 640, 40963: 480, 41486: 3106.8, 41487: 3096.8, 41488: 2},
        {1: "S", 2: (52.0, 30.0, 36.0), 3: "E", 4: (13.0, 15.0, 0.0), 5: b"\x01", 6: 12.5},
    )
    assert (exif.make, exif.model, exif.lens) == ("Canon", "Canon PowerShot A10", "a lens")
    assert (exif.focal_mm, exif.focal_35mm, exif.digital_zoom) == (5.4, 35.0, 2.0)
    assert exif.sensor_mm == pytest.approx(640 / 3106.8 * 25.4)
    assert (exif.latitude_deg, exif.longitude_deg, exif.altitude_m) == pytest.approx((-52.51, 13.25, -12.5))


@pytest.mark.parametrize("value", [0, (5, 0), (0, 0), 1e9])
def test_exif_nonsense_is_none(folder: Path, value: object) -> None:
    number = IFDRational(*value) if isinstance(value, tuple) else value
    exif = exif_of(
        folder,
        {271: "\0\0", 272: "  "},
        {37386: number, 41988: number, 40962: 640, 40963: 480, 41486: number, 41487: number},
        {1: "N", 2: (number, number, number), 3: "Q", 4: (13.0, 15.0, 0.0)},
    )
    assert set(vars(exif).values()) == {None}


def test_exif_that_is_garbage_spoils_nothing(folder: Path) -> None:
    random = np.random.default_rng(0)
    for i in range(30):
        save(folder / f"{i:02d}.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0" + random.bytes(200))
    assert len(scan(folder)) == 32
