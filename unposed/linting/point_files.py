"""Read the points of a PLY file that anyone may have written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unposed.pipeline.regular_files import read_bytes

KINDS = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
"""NumPy's names of the types of PLY."""


@dataclass(frozen=True, eq=False)
class PointFile:
    """The vertices of a PLY file."""

    xyz: NDArray[np.float64]
    """(n, 3)."""
    properties: tuple[str, ...]
    """Names of all that is stored of a vertex."""


def read_point_file(file: Path) -> PointFile | None:
    """The vertices, where they come first in the file; None where it cannot be read."""
    try:
        head, found, body = read_bytes(file).partition(b"end_header")
        lines = head.decode("ascii").splitlines()
        layout = re.search(r"^format (ascii|binary_little_endian|binary_big_endian)", "\n".join(lines), re.MULTILINE)
        start = next(at for at, line in enumerate(lines) if line.startswith("element vertex"))
        count = int(lines[start].split()[-1])
        rows = [line.split() for line in lines[start + 1 :]]
        end = next((at for at, row in enumerate(rows) if row and row[0] == "element"), len(rows))
        fields = [(row[2], KINDS[row[1]]) for row in rows[:end] if row and row[0] == "property"]
        if not found or layout is None or {"x", "y", "z"} - {name for name, _ in fields}:
            return None
        body = body[2:] if body.startswith(b"\r\n") else body[1:]
        names = tuple(name for name, _ in fields)
        if layout[1] == "ascii":
            values = np.array(body.split()[: count * len(fields)], np.float64).reshape(count, len(fields))
            return PointFile(values[:, [names.index(axis) for axis in "xyz"]], names)
        order = "<" if layout[1].endswith("little_endian") else ">"
        table = np.frombuffer(body, np.dtype([(name, order + kind) for name, kind in fields]), count)
        return PointFile(np.stack([table[axis] for axis in "xyz"], axis=1).astype(np.float64), names)
    except (OSError, ValueError, KeyError, IndexError, StopIteration):
        return None
