"""PLY files: binary, of elements whose properties are the fields of records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PLY_TYPE = {"<f4": "float", "|u1": "uchar", "<i4": "int"}

_XYZ, _NORMAL, _RGB = ("x", "y", "z"), ("nx", "ny", "nz"), ("red", "green", "blue")
COLOURED_VERTEX = np.dtype([(name, "<f4") for name in _XYZ] + [(name, "u1") for name in _RGB])
NORMAL_VERTEX = np.dtype([(name, "<f4") for name in _XYZ + _NORMAL] + [(name, "u1") for name in _RGB])
"""In the names and the order that all readers of coloured points know."""


def vertices(
    xyz: NDArray[np.floating], rgb: NDArray[np.integer], normal: NDArray[np.floating] | None = None
) -> NDArray[np.void]:
    """Records of points (n, 3) with colours (n, 3), and with normals (n, 3) where there are any."""
    rows = np.zeros(len(xyz), COLOURED_VERTEX if normal is None else NORMAL_VERTEX)
    columns = [(_XYZ, xyz), (_RGB, rgb)] if normal is None else [(_XYZ, xyz), (_NORMAL, normal), (_RGB, rgb)]
    for names, values in columns:
        for name, column in zip(names, values.T, strict=True):
            rows[name] = column
    return rows


def write_ply(file: Path, elements: Mapping[str, NDArray[np.void]]) -> None:
    """Write elements, each an array of records whose fields are the properties."""
    header = ["ply", "format binary_little_endian 1.0"]
    for name, rows in elements.items():
        header.append(f"element {name} {len(rows)}")
        fields = rows.dtype.descr
        header += [f"property {PLY_TYPE[str(kind)]} {field}" for field, kind, *_ in fields]
    head = "\n".join([*header, "end_header", ""]).encode("ascii")
    file.write_bytes(head + b"".join(rows.tobytes() for rows in elements.values()))
