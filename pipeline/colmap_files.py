"""Check binary COLMAP models before a library reads them: a count that a file cannot hold would be relied on.

A file that was cut short ends in the middle of a record. Reading goes on with whatever number stands where a count is
expected, and does not end, or asks for more memory than there is. Here records are walked by their lengths, and nothing
is kept of them: the time is that of reading the file, for points a small part of what building the model takes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .errors import InputError
from .regular_files import read_bytes

LEAST_CAMERA = 40
"""Bytes of a camera with two parameters, as panoramas have; what other models have depends on the version of COLMAP."""

_COUNT, _SMALL_COUNT = struct.Struct("<Q"), struct.Struct("<I")


class _CutShort(Exception):
    """A record goes on beyond the end of the file."""


def check_binary_model(folder: Path) -> None:
    """InputError if a binary file of the model in the folder is not whole. Text files hold no counts to rely on."""
    for name, walk in _WALKS.items():
        file = folder / f"{name}.bin"
        if not file.exists():
            continue
        try:
            data = read_bytes(file)
            walk(data)
        except OSError as error:
            raise InputError(f"{file}: cannot be read: {error.strerror or error}") from error
        except (struct.error, _CutShort):
            raise InputError(f"{file}: is damaged or cut short: it holds fewer records than it says") from None


def keypoints_by_image(folder: Path) -> dict[int, NDArray[np.float64]]:
    """Key points (n, 2) by the id of the image, of a binary model that is whole; none of a text model.

    pycolmap has each of them as an object of its own, which takes a hundred times as long to read.
    """
    file = folder / "images.bin"
    found: dict[int, NDArray[np.float64]] = {}
    if not file.exists():
        return found
    data = read_bytes(file)
    at = 8
    for _ in range(_number(data, 0)):
        end = _image(data, at)
        first = data.find(b"\0", at + 64) + 9
        found[_number(data, at, _SMALL_COUNT)] = np.frombuffer(data[first:end], _OBSERVATION)["xy"].astype(np.float64)
        at = end
    return found


def _number(data: bytes, at: int, layout: struct.Struct = _COUNT) -> int:
    return int(layout.unpack_from(data, at)[0])


def _records(data: bytes, least: int, step: Callable[[bytes, int], int]) -> None:
    """Walk all records of a file; `step` gives where the one at a place ends."""
    count, at, end = _number(data, 0), 8, len(data)
    if count * least > end - at:
        raise _CutShort
    for _ in range(count):
        at = step(data, at)
        if at > end:
            raise _CutShort


def _camera(data: bytes, at: int) -> int:
    return at + LEAST_CAMERA


def _rig(data: bytes, at: int) -> int:
    """Id, number of sensors, the reference sensor, and the others, each with a pose or without."""
    sensors = _number(data, at + 4, _SMALL_COUNT)
    at += 8 + (8 if sensors else 0)
    if (sensors - 1) * 9 > len(data) - at:
        raise _CutShort
    for _ in range(sensors - 1):
        at += 9 + (56 if _number(data, at + 8, _FLAG) else 0)
    return at


def _frame(data: bytes, at: int) -> int:
    """Id, rig, pose, and what was taken at the time."""
    return at + 68 + 16 * _number(data, at + 64, _SMALL_COUNT)


def _image(data: bytes, at: int) -> int:
    """Id, pose, camera, name, and key points with the points they see."""
    name_end = data.find(b"\0", at + 64)
    if name_end < 0:
        raise _CutShort
    return name_end + 9 + 24 * _number(data, name_end + 1)


def _point(data: bytes, at: int) -> int:
    """Id, position, colour, error, and the track."""
    return at + 51 + 8 * _number(data, at + 43)


_OBSERVATION = np.dtype([("xy", "<f8", 2), ("point", "<i8")])
_FLAG = struct.Struct("<B")
_WALKS: dict[str, Callable[[bytes], None]] = {
    "cameras": lambda data: _records(data, LEAST_CAMERA, _camera),
    "rigs": lambda data: _records(data, 8, _rig),
    "frames": lambda data: _records(data, 68, _frame),
    "images": lambda data: _records(data, 73, _image),
    "points3D": lambda data: _records(data, 51, _point),
}
