"""Files of Gaussians that viewers read: PLY, .splat and .spz."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np

from unposed.optim.arrays import AnyArray, Array
from unposed.pipeline.artifacts import Bytes
from unposed.pipeline.ply_files import write_ply
from unposed.surface.gaussians.scene import Gaussians

HARMONICS = 45
"""Coefficients of higher harmonics, all zero here, that readers of PLY files count on."""
SPLAT_ROW = np.dtype([("mean", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("turn", "u1", 4)])
"""32 bytes a Gaussian, as the viewer antimatter15/splat reads them."""
SPZ_MAGIC, SPZ_VERSION, SPZ_COLOUR = 0x5053474E, 3, 0.15
"""What a .spz file begins with, and what a byte of colour is worth as a coefficient, over 255."""
MOST_FRACTION_BITS = 20
"""Of the 24 bits of a coordinate in .spz; far Gaussians leave fewer."""


def write_gaussians_ply(gaussians: Gaussians, file: Path) -> None:
    """The PLY file of Kerbl et al., which all viewers and trainers read; higher harmonics are zero."""
    names = ["x", "y", "z", "nx", "ny", "nz", *(f"f_dc_{i}" for i in range(3))]
    names += [f"f_rest_{i}" for i in range(HARMONICS)]
    names += ["opacity", *(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4))]
    zeros = np.zeros((len(gaussians), 3), np.float32)
    rest = np.zeros((len(gaussians), HARMONICS), np.float32)
    turn = _unit(gaussians)
    columns: list[AnyArray] = [gaussians.mean, zeros, gaussians.coefficient, rest, gaussians.logit[:, None]]
    columns += [gaussians.log_scale, turn]
    rows = np.ascontiguousarray(np.concatenate(columns, axis=1), "<f4").view([(name, "<f4") for name in names])[:, 0]
    write_ply(file, {"vertex": rows})


def write_antimatter_splat(gaussians: Gaussians, file: Path) -> None:
    """The .splat file of web viewers: large and opaque Gaussians first, so that a part of it is an image already."""
    opacity = _opacity(gaussians)
    rows = np.zeros(len(gaussians), SPLAT_ROW)
    rows["mean"], rows["scale"] = gaussians.mean, np.exp(gaussians.log_scale)
    rows["rgba"] = np.rint(np.concatenate([gaussians.rgb, opacity[:, None]], axis=1) * 255)
    rows["turn"] = _bytes(_unit(gaussians) * 128 + 128)
    order = np.argsort(-(opacity * np.exp(gaussians.log_scale.sum(axis=1))), kind="stable")
    file.write_bytes(rows[order].tobytes())


def write_spz(gaussians: Gaussians, file: Path) -> None:
    """The .spz file of Niantic, version 3: 20 bytes a Gaussian before gzip.

    Attribute after attribute: coordinates of 24 bits, opacity, colours, logarithms of scales in sixteenths, and of the
    rotation the three smaller components of its quaternion in 10 bits each. Axes are right, up, back: y and z change
    their signs. Errors are at most 2^-21 of the power of two above the largest coordinate and, with colours and opacity
    from 0 to 1, half of 1/255 in opacity, 0.004 in colour, 3.2 % in size and 0.2 degrees in rotation.
    """
    largest = float(np.abs(gaussians.mean).max(initial=1e-6))
    fraction_bits = int(np.clip(22 - np.ceil(np.log2(largest)), 0, MOST_FRACTION_BITS))
    header = struct.pack("<IIIBBBB", SPZ_MAGIC, SPZ_VERSION, len(gaussians), 0, fraction_bits, 0, 0)
    right_up_back = gaussians.mean.astype(np.float64) * (1.0, -1.0, -1.0)
    most = (1 << 23) - 1
    fixed = np.clip(np.rint(right_up_back * (1 << fraction_bits)), -most, most).astype("<i4")
    parts = [
        fixed.reshape(-1, 1).view(np.uint8)[:, :3],
        _bytes(_opacity(gaussians) * 255),
        _bytes(gaussians.coefficient * (SPZ_COLOUR * 255) + 127.5),
        _bytes((gaussians.log_scale + 10.0) * 16.0),
        _smaller_three(_unit(gaussians) * (1.0, 1.0, -1.0, -1.0)),
    ]
    data = header + b"".join(np.ascontiguousarray(each).tobytes() for each in parts)
    file.write_bytes(gzip.compress(data, mtime=0))


def _smaller_three(turn: Array) -> Bytes:
    """(n, 4) bytes of unit quaternions w x y z: the place of the largest of x y z w in two bits, then sign and nine
    bits of each other one, up to the root of a half; of the two quaternions that in which the largest is positive."""
    xyzw = np.roll(turn, -1, axis=1)
    place = np.abs(xyzw).argmax(axis=1)
    xyzw = xyzw * np.where(np.take_along_axis(xyzw, place[:, None], 1) < 0, -1.0, 1.0)
    size = np.rint(np.abs(xyzw) * (511 * np.sqrt(2.0))).clip(0, 511).astype(np.uint32)
    packed = place.astype(np.uint32)
    for component in range(4):
        field = (np.signbit(xyzw[:, component]).astype(np.uint32) << 9) | size[:, component]
        packed = np.where(place == component, packed, (packed << 10) | field).astype(np.uint32)
    return np.asarray(packed.astype("<u4").reshape(-1, 1).view(np.uint8), np.uint8)


def _unit(gaussians: Gaussians) -> Array:
    """(n, 4) quaternions w x y z of length one."""
    length = np.linalg.norm(gaussians.quaternion, axis=1, keepdims=True)
    return np.asarray(gaussians.quaternion / np.maximum(length, 1e-12), np.float64)


def _opacity(gaussians: Gaussians) -> Array:
    return np.asarray(1.0 / (1.0 + np.exp(-gaussians.logit.astype(np.float64))))


def _bytes(values: AnyArray) -> Bytes:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
