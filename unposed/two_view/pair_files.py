"""The files of two photos: figures, a drawing of the matches, coloured points, depth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from unposed.pipeline.artifacts import SparseModel, SparseModels
from unposed.pipeline.images.pixels import photo_per_px, read_rgb
from unposed.pipeline.registry import Registry

from .pair import Pair

IMAGE_SIDE_PX = 800
LINES = 200
"""Largest number of drawn matches."""


def write_pair(pair: Pair, folder: Path) -> None:
    """Write pair.json, matches.jpg, points.ply, and depth-a.npz, depth-b.npz where depth is known."""
    (folder / "pair.json").write_text(json.dumps(pair.facts(), indent=1) + "\n", encoding="utf-8")
    matches_drawing(pair).save(folder / "matches.jpg", quality=90)
    if len(pair.points):
        Registry().find("export", "ply")()(SparseModels((_points_only(pair),), {}), pair.photos, folder / "cloud")
        (folder / "cloud" / "points-0.ply").rename(folder / "points.ply")
        (folder / "cloud").rmdir()
    for side, grid in zip("ab", pair.depths or (), strict=False):
        np.savez_compressed(folder / f"depth-{side}.npz", **vars(grid))


def matches_drawing(pair: Pair) -> Image.Image:
    """Both photos side by side with lines between verified matches, coloured by position in a from left (red) to right
    (blue)."""
    images = [read_rgb(photo, IMAGE_SIDE_PX) for photo in pair.photos.photos]
    height, left = max(image.shape[0] for image in images), images[0].shape[1]
    canvas = Image.new("RGB", (left + images[1].shape[1], height))
    canvas.paste(Image.fromarray(images[0]), (0, 0))
    canvas.paste(Image.fromarray(images[1]), (left, 0))
    rows = np.flatnonzero(pair.geometry.inliers)
    rows = rows[np.argsort(-pair.matches.weight[rows], kind="stable")][:LINES]
    xy_a = pair.matches.xy_a[rows] / photo_per_px(pair.photos[0], images[0])
    xy_b = pair.matches.xy_b[rows] / photo_per_px(pair.photos[1], images[1]) + (left, 0)
    draw = ImageDraw.Draw(canvas)
    for (xa, ya), (xb, yb) in zip(xy_a.tolist(), xy_b.tolist(), strict=True):
        share = xa / left
        draw.line((xa, ya, xb, yb), (int(255 * (1 - share)), 160, int(255 * share)))
    return canvas


def _points_only(pair: Pair) -> SparseModel:
    nothing = np.zeros(0, np.int64)
    return SparseModel(
        cameras=(),
        photos=nothing.astype(np.int32),
        camera_of_photo=nothing.astype(np.int32),
        cam_from_world=np.zeros((0, 3, 4)),
        xy=np.zeros((0, 2)),
        xy_start=np.zeros(1, np.int64),
        points=pair.points,
        rgb=pair.rgb,
        error_px=np.zeros(len(pair.points)),
        obs_xy=nothing,
        obs_point=nothing,
    )
