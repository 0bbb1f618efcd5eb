"""A picture of a model: its cameras and points from above and from aside."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from unposed.optim.arrays import Array
from unposed.optim.cameras import CAMERA_MODELS, FX, FY, intrinsics_of
from unposed.optim.poses import camera_centres
from unposed.pipeline.artifacts import Bytes, SparseModel

from .ground import upright_axes

SIDE = 720
"""Height of the picture, and width of each of its two views, in pixels."""
FINE = 2
"""Drawn so many times larger, and reduced, for smooth edges."""
MOST_POINTS_DRAWN = 200_000
FAR = 0.02
"""Share of the points at either end that may lie outside of the picture."""
TILT_DEG = 24.0
"""How far the view from aside looks down."""
NIGHT, AMBER, RULE = (17, 20, 26), (255, 188, 96), (52, 58, 70)
DOTS = 3, 8
"""Least and largest side of a point in enlarged pixels."""
FILLED = 0.14
"""Share of a view that points would cover side by side, which decides their size."""
FRUSTUM_SHARE = 0.05
"""Depth of a drawn camera over the extent of the picture; less where there are many."""


def overview(model: SparseModel) -> Image.Image:
    """Draw the model from above on the left, and from aside on the right, where it is widest."""
    axes = upright_axes(model.cam_from_world)
    tilt = np.radians(TILT_DEG)
    centres = camera_centres(model.cam_from_world)
    wide = _widest(np.concatenate([centres, model.points]) @ axes[:2].T)
    right = wide[0] * axes[0] + wide[1] * axes[1]
    ahead = np.cross(axes[2], right)
    aside = np.stack(
        [right, -np.sin(tilt) * ahead - np.cos(tilt) * axes[2], np.cos(tilt) * ahead - np.sin(tilt) * axes[2]]
    )
    above = np.stack([right, -ahead, -axes[2]])
    views = [_view(model, rows) for rows in (above, aside)]
    both = np.concatenate([views[0], views[1]], axis=1)
    both[:, FINE * SIDE - 1 : FINE * SIDE + 1] = RULE
    return Image.fromarray(both).resize((2 * SIDE, SIDE), Image.Resampling.BOX)


def _view(model: SparseModel, rows: Array) -> Bytes:
    """One orthographic view; the rows are its axes: right, down, away."""
    side, lines = FINE * SIDE, _frusta(model, rows)
    step = max(1, -(-len(model.points) // MOST_POINTS_DRAWN))
    points, colours = model.points[::step] @ rows.T, model.rgb[::step]
    ends = lines[:, 0, :2]
    if len(points):
        ends = np.concatenate([ends, np.quantile(points[:, :2], [FAR, 1.0 - FAR], axis=0)])
    low, high = ends.min(axis=0), ends.max(axis=0)
    scale = 0.88 * side / max(float((high - low).max()), 1e-12)

    def placed(xy: Array) -> Array:
        return np.asarray((xy - (low + high) / 2) * scale + side / 2)

    picture = np.tile(np.array(NIGHT, np.uint8), (side, side, 1))
    at = np.round(placed(points[:, :2])).astype(np.int64)
    order = np.argsort(-points[:, 2], kind="stable")  # what is near covers what is far
    dot = int(np.clip(side * (FILLED / max(len(points), 1)) ** 0.5, *DOTS))
    order = order[((at[order] >= 0) & (at[order] < side - dot)).all(axis=1)]
    for dy in range(dot):
        for dx in range(dot):
            picture[at[order, 1] + dy, at[order, 0] + dx] = colours[order]
    drawing = Image.fromarray(picture)
    draw = ImageDraw.Draw(drawing)
    for corners in placed(lines[..., :2]).tolist():
        apex, *base = (tuple(corner) for corner in corners)
        for corner in base:
            draw.line((apex, corner), fill=AMBER, width=FINE)
        draw.line((*base, base[0]), fill=AMBER, width=FINE)
    return np.array(drawing)


def _frusta(model: SparseModel, rows: Array) -> Array:
    """(p, 5, 3) apex and corners of every camera in a view."""
    pose = np.asarray(model.cam_from_world, np.float64)
    centres = camera_centres(pose)
    extent = float(np.linalg.norm(np.ptp(np.concatenate([centres, np.median(model.points, axis=0)[None]]), axis=0)))
    if not np.isfinite(extent):
        extent = float(np.linalg.norm(np.ptp(centres, axis=0)))
    depth = FRUSTUM_SHARE * max(extent, 1e-9) * min(1.0, (40.0 / len(pose)) ** 0.5)
    slopes = []
    for camera in model.cameras:
        known = camera.model in CAMERA_MODELS
        focal = intrinsics_of(camera.model, camera.params)[[FX, FY]] if known else np.full(2, camera.params[0])
        slopes.append(np.array([camera.width, camera.height]) / (2.0 * focal))
    slope = np.array(slopes)[model.camera_of_photo]
    corner = np.array([[0, 0, 0], [-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]], np.float64)
    local = depth * corner[None] * np.concatenate([slope, np.ones((len(pose), 1))], axis=1)[:, None]
    return np.asarray((np.einsum("pji,pkj->pki", pose[:, :, :3], local) + centres[:, None]) @ rows.T)


def _widest(xy: Array) -> Array:
    """(2,) direction of largest extent, without the farthest points."""
    centred = xy - np.median(xy, axis=0)
    near = centred[np.linalg.norm(centred, axis=1) <= np.quantile(np.linalg.norm(centred, axis=1), 0.9)]
    return np.asarray(np.linalg.eigh(near.T @ near)[1][:, -1])
