"""Arrays from files of NumPy that nobody vouches for: memory follows the size of the file, whatever a header says.

`numpy.load` asks for as much memory as the header wants before it looks what there is, and raises what its parsers and
decompressors happen to raise.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

import numpy as np
from numpy.lib import format as layout
from numpy.typing import NDArray

from .images.image_file import one_line
from .regular_files import read_bytes

MAX_UNPACKED = 50
"""Bytes that a byte of an archive unpacks to at most. Measured values shrink to a half or a tenth; what shrinks to a
thousandth, the most that the method can, holds one value again and again."""
FREE_BYTES = 1 << 20
"""What an archive unpacks to in any case: a few thousand equal values are no attack."""

_HEADERS = {(1, 0): layout.read_array_header_1_0, (2, 0): layout.read_array_header_2_0}


def read_npy(path: Path) -> NDArray[Any]:
    """The array of a .npy file; ValueError if it is none, OSError if it cannot be read."""
    return _array(read_bytes(path))


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a .npz file by name; ValueError if it is none or unpacks to far more than it is, OSError if it
    cannot be read."""
    data = read_bytes(path)
    most = max(FREE_BYTES, MAX_UNPACKED * len(data))
    try:
        with ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            unpacked = sum(entry.file_size for entry in entries)
            parts = {entry.filename: _unpacked(archive, entry) for entry in entries} if unpacked <= most else None
    except Exception as error:  # what zipfile and zlib raise on nonsense is not written down
        raise ValueError(f"no archive of arrays ({one_line(error)})") from error
    if parts is None:
        raise ValueError(
            f"no archive of arrays that is read: it unpacks to {unpacked // len(data)} times its size, and "
            f"{MAX_UNPACKED} times is the limit; save it without compression (numpy.savez)"
        )
    return {name.removesuffix(".npy"): _array(part) for name, part in parts.items()}


def _unpacked(archive: ZipFile, entry: ZipInfo) -> bytes:
    """The bytes of an entry, no more than it says that it has: `ZipFile.read` unpacks all that is there, and cuts that
    afterwards."""
    if entry.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise ValueError("it is packed as NumPy packs nothing")
    with archive.open(entry) as file:
        return file.read(entry.file_size)


def _array(data: bytes) -> NDArray[Any]:
    try:
        file = io.BytesIO(data)
        shape, by_columns, kind = _HEADERS[layout.read_magic(file)](file)
    except Exception as error:  # the header is parsed as Python's literals, which fail in many ways
        raise ValueError(f"no array, its header cannot be read ({one_line(error)})") from error
    body = data[file.tell() :]
    if kind.hasobject or min(shape, default=0) < 0 or math.prod(shape) * kind.itemsize != len(body):
        raise ValueError("no array: it holds fewer or more values than it says, or objects")
    if not kind.itemsize:
        raise ValueError("no array: its values take no bytes, so that any number of them is there")
    return np.ndarray(shape, kind, bytearray(body), order="F" if by_columns else "C")
