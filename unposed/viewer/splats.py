"""Gaussians of a splat file as the viewer draws them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unposed.optim.arrays import Array32
from unposed.optim.rotations import rotation_from_quaternion
from unposed.pipeline.errors import InputError
from unposed.pipeline.regular_files import read_bytes
from unposed.surface.gaussians.scene import SH_0

MOST_GAUSSIANS = 500_000
"""Of more, those that cover most are drawn: each is 32 bytes to send, and a browser sorts all in every frame."""
MOST_HEADER_BYTES = 65_536
FIELDS = ("x", "y", "z", "opacity", *(f"f_dc_{i}" for i in range(3)))
AXES = (*(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4)))


@dataclass(frozen=True, eq=False)
class ShownSplat:
    """Ellipsoids in the world, the most visible first."""

    centres: Array32
    """(n, 3)."""
    covariances: Array32
    """(n, 3, 3)."""
    rgb: Array32
    """(n, 3) from 0 to 1."""
    opacity: Array32
    """(n, 1) from 0 to 1."""
    total: int
    """Gaussians in the file."""


def read_splat(file: Path, most: int = MOST_GAUSSIANS) -> ShownSplat:
    """Read the PLY file of Kerbl et al., by whatever program; the constant harmonic alone is drawn.

    Sigma = R diag(s)^2 R^T. InputError if it is no such file.
    """
    try:
        data = read_bytes(file)
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or error}") from None
    rows = _rows(data, file)
    values = {name: rows[name].astype(np.float64) for name in (*FIELDS, *AXES)}
    turn = np.stack([values[f"rot_{i}"] for i in range(4)], axis=1)
    log_scale = np.stack([values[f"scale_{i}"] for i in range(3)], axis=1)
    sound = np.all([np.isfinite(each) for each in values.values()], axis=0) & (np.linalg.norm(turn, axis=1) > 0)
    opacity = 1.0 / (1.0 + np.exp(-np.clip(values["opacity"], -50.0, 50.0)))
    weight = np.where(sound, np.log(opacity) + log_scale.sum(axis=1), -np.inf)
    order = np.argsort(-weight, kind="stable")[: min(most, int(sound.sum()))]
    axes = rotation_from_quaternion(turn[order]) * np.exp(np.clip(log_scale[order], -50.0, 20.0))[:, None, :]
    colour = np.stack([values[f"f_dc_{i}"][order] for i in range(3)], axis=1)
    return ShownSplat(
        np.stack([values[axis][order] for axis in "xyz"], axis=1).astype(np.float32),
        (axes @ axes.transpose(0, 2, 1)).astype(np.float32),
        np.clip(0.5 + SH_0 * colour, 0.0, 1.0).astype(np.float32),
        opacity[order, None].astype(np.float32),
        len(rows),
    )


def _rows(data: bytes, file: Path) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    """The vertices of a binary PLY file whose properties are all of type float."""
    end = data.find(b"end_header\n", 0, MOST_HEADER_BYTES)
    lines = data[: max(end, 0)].decode("ascii", "replace").splitlines()
    words = [line.split() for line in lines]
    counts = [each[2] for each in words if each[:2] == ["element", "vertex"] and len(each) == 3]
    count = int(counts[0]) if len(counts) == 1 and counts[0].isdecimal() else -1
    names = [each[2] for each in words if each[:2] == ["property", "float"] and len(each) == 3]
    properties = sum(each[:1] == ["property"] for each in words)
    binary = "format binary_little_endian 1.0" in lines
    if not binary or count < 0 or len(set(names)) != properties or not set(names).issuperset((*FIELDS, *AXES)):
        raise InputError(f"{file}: no splat: give the splat.ply that unposed splat, or another trainer, has written")
    kind = np.dtype([(name, "<f4") for name in names])
    body = memoryview(data)[end + len(b"end_header\n") :]
    if len(body) < count * kind.itemsize:
        raise InputError(f"{file}: the file is cut off")
    return np.frombuffer(body, kind, count)
