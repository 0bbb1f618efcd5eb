"""Readers of untrusted bytes, each as a function that raises nothing but what it promises; mutants of sound files.

`benchmarks/fuzz.py` lets atheris look for bytes that break a promise; tests try some thousand mutants, always the same.
"""

from __future__ import annotations

import io
import json
import pickle
import random
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pycolmap
from PIL import Image

from unposed.pipeline.artifacts import Features, Photo, Photos
from unposed.pipeline.colmap_model import from_colmap, read_model
from unposed.pipeline.errors import ConfigError, InputError
from unposed.pipeline.images.content import bytes_content
from unposed.pipeline.images.exif import read_exif
from unposed.pipeline.images.image_file import UnreadableImage, frames, open_image
from unposed.pipeline.images.pixels import read_mask, read_rgb
from unposed.pipeline.pose_files import read_poses
from unposed.pipeline.presets import read_preset
from unposed.pipeline.stage import StageError
from unposed.pipeline.store.codec import CodecError, decode, encode
from unposed.pipeline.yaml_text import read_yaml
from unposed.plugins.cameras.given import given_cameras, given_poses
from unposed.plugins.retrieval.unpickle import read_arrays


@dataclass(frozen=True)
class Target:
    """A reader, and sound input of it."""

    read: Callable[[bytes], object]
    promised: tuple[type[Exception], ...]
    """What it may raise, with one line."""
    seeds: Callable[[], list[bytes]]

    def __call__(self, data: bytes) -> None:
        """Reads the bytes. Raises whatever was not promised."""
        try:
            self.read(data)
        except self.promised as error:
            line = str(error)
            if not line or len(line.splitlines()) != 1:
                raise AssertionError(f"not one line: {line!r}") from error


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="unposed-fuzz-"))


def _file(name: str, data: bytes) -> Path:
    path = _folder() / name
    path.write_bytes(data)
    return path


def _image(data: bytes) -> None:
    """Header, EXIF and pixels, as the intake and a stage read them."""
    path = _file("photo", data)
    with open_image(path) as image:
        if frames(image) > 1 or image.width * image.height > 4_000_000:
            return
        exif, orientation = read_exif(image)
        width, height = image.size if orientation < 5 else image.size[::-1]
    photo = Photo("photo", path, bytes_content(data), width, height, orientation, exif)
    assert max(read_rgb(photo, 64).shape[:2]) <= 64
    read_mask(photo)


def _images() -> list[bytes]:
    rng, made = np.random.default_rng(0), []
    pixels = Image.fromarray(rng.integers(0, 256, (40, 56, 3), np.uint8))
    exif = Image.Exif()
    exif[274], exif[271] = 6, "Maker"
    exif.get_ifd(34665)[37386] = 35.0
    for kind, options in (
        ("JPEG", {"exif": exif}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("WEBP", {}),
        ("BMP", {}),
    ):
        file = io.BytesIO()
        pixels.save(file, kind, **options)
        made.append(file.getvalue())
    for compression in ("raw", "tiff_lzw"):
        file = io.BytesIO()
        pixels.save(file, "TIFF", compression=compression)
        made.append(file.getvalue())
    for mode in ("RGBA", "P", "I;16"):
        file = io.BytesIO()
        (Image.fromarray(rng.integers(0, 60000, (40, 56), np.uint16)) if mode == "I;16" else pixels.convert(mode)).save(
            file, "PNG"
        )
        made.append(file.getvalue())
    return made


@cache
def _model() -> Path:
    folder = _folder() / "sound"
    folder.mkdir()
    pycolmap.synthesize_dataset(
        pycolmap.SyntheticDatasetOptions(num_rigs=2, num_cameras_per_rig=2, num_frames_per_rig=3, num_points3D=12)
    ).write_binary(folder)
    return folder


def _colmap(name: str) -> Target:
    def read(data: bytes) -> None:
        folder = _folder() / "model"
        if not folder.exists():
            shutil.copytree(_model(), folder)
        (folder / f"{name}.bin").write_bytes(data)
        try:
            model = read_model(folder)
            names = sorted({image.name for image in model.images.values()})
            photos = Photos(tuple(Photo(each, Path(each), "", 1, 1) for each in names), {})
            from_colmap(model, photos)
            with suppress(InputError):
                read_poses(folder)
        finally:
            shutil.copy(_model() / f"{name}.bin", folder)

    return Target(read, (InputError,), lambda: [(_model() / f"{name}.bin").read_bytes()])


def _entry() -> dict[str, object]:
    return {"R_w2c": np.eye(3).tolist(), "t_w2c": [0, 1, 2], "K": np.eye(3).tolist(), "width": 40, "height": 30}


def _known() -> list[bytes]:
    truth = {"images": {"a.png": {**_entry(), "dist": [0.1, 0, 0, 0]}, "b.png": _entry()}, "units": "m"}
    frame = {"file_path": "a.png", "transform_matrix": np.eye(4).tolist(), "fl_x": 9.0, "w": 40, "h": 30}
    return [json.dumps(truth).encode(), json.dumps({"frames": [frame, {**frame, "file_path": "b.png"}]}).encode()]


def _given(data: bytes) -> None:
    photos = Photos(tuple(Photo(name, Path(name), "", 40, 30) for name in ("a.png", "b.png")), {})
    with suppress(InputError):
        given_poses(_file("known.json", data), photos)
    with suppress(InputError):
        given_cameras(_file("known.txt", data), photos)
    given_cameras(_file("known.json", data), photos)


def _features() -> list[bytes]:
    ones = np.ones(3, np.float32)
    value = Features(np.zeros((3, 2), np.float32), ones, np.zeros((3, 4), np.uint8), np.zeros((3, 3), np.uint8), ones)
    return [encode(value)]


TARGETS: dict[str, Target] = {
    "image": Target(_image, (UnreadableImage, StageError, OSError), _images),
    **{f"colmap-{name}": _colmap(name) for name in ("cameras", "frames", "images", "points3D", "rigs")},
    "poses": Target(lambda data: read_poses(_file("poses.json", data)), (InputError,), _known),
    "given": Target(_given, (InputError,), lambda: _known()[:1]),
    "yaml": Target(
        lambda data: read_yaml(data.decode("utf-8", "replace"), "text"),
        (ConfigError,),
        lambda: [b"features: {use: sift, max: [1, 2.5e-3]}\nmatching: &m {use: x}\nmore: *m\n", b"- a\n- {b: c}\n"],
    ),
    "preset": Target(
        lambda data: read_preset(_file("preset.yaml", data)),
        (ConfigError,),
        lambda: [b"about: text\nextends: classic\nfeatures: {use: sift}\nfine: null\n"],
    ),
    "pickle": Target(
        lambda data: read_arrays(_file("arrays.pkl", data)),
        (ValueError,),
        lambda: [pickle.dumps({"a": [np.arange(6.0).reshape(2, 3), (1, "x")]}, protocol) for protocol in (0, 2, 5)],
    ),
    "stored": Target(lambda data: decode(data, Features), (CodecError,), _features),
}


def mutants(seeds: list[bytes], count: int, seed: int = 0) -> Iterator[bytes]:
    """Sound files with bits turned, pieces cut, repeated or moved, and numbers that readers may believe."""
    rng = random.Random(seed)
    numbers = [struct.pack(kind, value) for kind in ("<I", "<Q", ">I") for value in (0, 1, 0x7FFFFFFF, 0xFFFFFFFF)]
    numbers += [struct.pack("<Q", 1 << 40), struct.pack("<d", float("nan")), b"1e999", b"-1", b"null", b"[[", b"&a *a"]
    for _ in range(count):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
            at, length = rng.randrange(len(data) + 1), rng.choice((1, 2, 4, 8, 32, 200))
            kind = rng.randrange(7)
            if kind == 0 and at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            elif kind == 1 and at < len(data):
                data[at] = rng.randrange(256)
            elif kind == 2:
                del data[at:]
            elif kind == 3:
                del data[at : at + length]
            elif kind == 4:
                data[at:at] = data[at : at + length]
            elif kind == 5:
                number = rng.choice(numbers)
                data[at : at + len(number)] = number
            else:
                data[at:at] = bytes(rng.randrange(256) for _ in range(length))
        yield bytes(data)
