"""Photos of one camera that was held upright, sideways or upside down, in the frame of its sensor.

A camera that is turned takes photos of another size, and with its principal point elsewhere, but it is the same one.
What is known of photos in their upright frames is turned into that of the sensor, where they share all intrinsics, and
back. Quarters are counter-clockwise, as one looks at the photo: one takes the pixel (x, y) of a photo of width w to
(y, w - x), and the direction (x, y, z) to (y, -x, z).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .arrays import Array, Index, Mask
from .cameras import CAMERA_MODELS, CX, CY, FX, FY, P1, P2, intrinsics_of, params_of
from .view_graph import ViewGraph


@dataclass(frozen=True, eq=False)
class CameraTurns:
    """Which cameras of a collection are one that was turned."""

    camera: Index
    """(cameras,) the one that is the same, and whose photos are not turned; itself if it is that."""
    quarters: Index
    """(cameras,) after which its photos lie in the frame of that camera."""
    uncertain: Mask
    """(cameras,) whether it may as well be two quarters more: sizes alone do not tell which side was up."""


def turned_sizes(size: Index, quarters: Index) -> Index:
    """(n, 2) widths and heights after quarters (n,)."""
    return np.where((quarters % 2 == 1)[:, None], size[:, ::-1], size)


def turned_pixels(xy: Array, size: Index, quarters: Index) -> Array:
    """Pixels (n, 2) of photos of these sizes (n, 2) after quarters (n,)."""
    out = xy.copy()
    for k in (1, 2, 3):
        rows = np.flatnonzero(quarters % 4 == k)
        (x, y), (width, height) = xy[rows].T, size[rows].T
        out[rows, 0] = (y, width - x, height - y)[k - 1]
        out[rows, 1] = (width - x, height - y, x)[k - 1]
    return out


def quarter_rotations(quarters: Index) -> Array:
    """(n, 3, 3) rotations that take directions of a photo to those after quarters (n,)."""
    one = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    return np.array([np.linalg.matrix_power(one, k) for k in range(4)])[quarters % 4]


def turned_params(model: str, params: tuple[float, ...], size: tuple[int, int], quarters: int) -> tuple[float, ...]:
    """The parameters of the camera of a photo of this size after quarters."""
    values = intrinsics_of(model, params)
    for k in range(quarters % 4):
        values[[FX, FY, CX, CY]] = values[FY], values[FX], values[CY], size[k % 2] - values[CX]
        if not CAMERA_MODELS[model].fisheye:
            values[[P1, P2]] = -values[P2], values[P1]
    return params_of(model, values)


def turned_view_graph(graph: ViewGraph, quarters: Index) -> ViewGraph:
    """The view graph with its photos after quarters (photos,)."""
    keypoints = graph.keypoints
    photo = np.repeat(np.arange(len(keypoints)), np.diff(keypoints.start))
    xy = turned_pixels(keypoints.xy, keypoints.size[photo], quarters[photo])
    size = turned_sizes(keypoints.size, quarters)
    # Matrices that take pixels after the turn to those before it, from what becomes of three of them.
    three = [turned_pixels(np.tile(p, (len(size), 1)), size, -quarters) for p in np.eye(3, 2, -1)]
    before = np.zeros((len(size), 3, 3))
    before[:, :2] = np.stack([three[1] - three[0], three[2] - three[0], three[0]], axis=2)
    before[:, 2, 2] = 1.0
    a, b = graph.pairs.T
    return replace(
        graph,
        keypoints=replace(keypoints, xy=xy, size=size),
        fundamental=before[b].transpose(0, 2, 1) @ graph.fundamental @ before[a],
    )
