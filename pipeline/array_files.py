"""Arrays from files of NumPy that nobody vouches for: memory follows the size of the file, whatever a header says.

`numpy.load` asks for as much memory as the header wants before it looks what there is, and raises what its parsers and
decompressors happen to raise.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
from numpy.lib import format as layout
from numpy.typing import NDArray

from .images.image_file import one_line
from .regular_files import read_bytes

_HEADERS = {(1, 0): layout.read_array_header_1_0, (2, 0): layout.read_array_header_2_0}


def read_npy(path: Path) -> NDArray[Any]:
    """The array of a .npy file; ValueError if it is none, OSError if it cannot be read."""
    return _array(read_bytes(path))


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a .npz file by name; ValueError if it is none, OSError if it cannot be read."""
    data = read_bytes(path)
    try:
        with ZipFile(io.BytesIO(data)) as archive:
            parts = {name.removesuffix(".npy"): archive.read(name) for name in archive.namelist()}
    except Exception as error:  # what zipfile and zlib raise on nonsense is not written down
        raise ValueError(f"no archive of arrays ({one_line(error)})") from error
    return {name: _array(part) for name, part in parts.items()}


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
