"""Points that the depth maps of several photos agree on, each with the photos that see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray

from unposed.optim.arrays import Array, Array32, Index, Mask
from unposed.optim.option_ranges import Positive, Share, Within

from .view import DensePoints, DepthEstimate


@dataclass(frozen=True)
class FusionOptions:
    """When photos agree on a point."""

    min_views: Annotated[int, Within("[2, inf)")] = 3
    """Photos, its own included, that must agree on a point. Two agree by chance now and then, three hardly ever. Where
    only two photos have depth, two are enough."""
    max_error_px: Positive = 0.5
    """Distance between a pixel and the place where the depth of another photo projects it back to."""
    max_depth_error: Positive = 0.01
    """The same along the ray, over the depth."""
    min_score: Share = 0.7
    """Correlation below which a depth is not used. The noise of photos alone brings it below one."""
    max_conflicts: Share = 0.5
    """Photos that look through a point over those that see it: what more of them look through is not there."""


def fused_points(
    estimates: Sequence[DepthEstimate],
    neighbours: Sequence[Index],
    image_of: Callable[[int], NDArray[np.uint8]],
    options: FusionOptions = FusionOptions(),
) -> tuple[DensePoints, list[Mask]]:
    """Fuse depth maps to points; also says which pixels of each map other photos agree with.

    A pixel is projected to each neighbour, whose depth there is projected back. Where pixel and depth return to
    themselves, the two agree. The point lies at the mean of the depths that agree, and what it covers in the other
    photos makes no point again. neighbours: the photos that each is compared with; image_of: the image (h, w, 3) of a
    photo.
    """
    needed = min(options.min_views, sum(bool((each.inverse > 0).any()) for each in estimates))
    trusted = [np.where(each.score >= options.min_score, each.inverse, np.float32(0)) for each in estimates]
    used = [np.zeros(each.inverse.shape, bool) for each in estimates]
    agreed: list[Mask] = [np.zeros(each.inverse.shape, bool) for each in estimates]
    parts = []
    for row, estimate in enumerate(estimates):
        pixels = np.flatnonzero(trusted[row].ravel() > 0)
        found = _agreement(row, pixels, estimates, trusted, neighbours[row], options)
        kept = found.agree.sum(axis=1) + 1 >= max(2, needed)
        kept &= found.conflict.sum(axis=1) <= options.max_conflicts * (found.agree.sum(axis=1) + 1)
        agreed[row].ravel()[pixels[kept]] = True
        kept &= ~used[row].ravel()[pixels]
        if not kept.any():
            continue
        for column, other in enumerate(neighbours[row].tolist()):
            hit = kept & found.agree[:, column]
            used[other].ravel()[found.at[hit, column]] = True
        parts.append(_points_of(row, pixels[kept], found.only(kept), estimate, neighbours[row], image_of(row)))
    return _joined(parts), agreed


@dataclass(frozen=True, eq=False)
class _Agreement:
    """What the neighbours of a photo say of its pixels."""

    agree: Mask
    """(n, neighbours)."""
    conflict: Mask
    """(n, neighbours) the neighbour sees something clearly behind the point on the same ray."""
    at: Index
    """(n, neighbours) the pixel in the neighbour."""
    depth: Array
    """(n,) mean of the depths that agree."""

    def only(self, rows: Mask) -> _Agreement:
        return _Agreement(self.agree[rows], self.conflict[rows], self.at[rows], self.depth[rows])


def _agreement(
    row: int,
    pixels: Index,
    estimates: Sequence[DepthEstimate],
    trusted: Sequence[Array32],
    others: Index,
    options: FusionOptions,
) -> _Agreement:
    camera = estimates[row].camera
    xy = np.stack([pixels % camera.width + 0.5, pixels // camera.width + 0.5], axis=1)
    depth = 1.0 / trusted[row].ravel()[pixels].astype(np.float64)
    points = camera.unproject(xy, depth)
    shape = len(pixels), len(others)
    agree, conflict, at = np.zeros(shape, bool), np.zeros(shape, bool), np.zeros(shape, np.int64)
    total, number = depth.copy(), np.ones(len(pixels))
    for column, other in enumerate(others.tolist()):
        there = estimates[other].camera
        seen_xy, seen_depth = there.project(points)
        inside = (seen_depth > 0) & ((seen_xy > 0) & (seen_xy < (there.width, there.height))).all(axis=1)
        x, y = (np.where(inside, seen_xy[:, axis], 0.5) for axis in (0, 1))
        at[:, column] = np.floor(y).astype(np.int64) * there.width + np.floor(x).astype(np.int64)
        inverse = _bilinear(trusted[other], x, y)
        inside &= inverse > 0
        back_depth = 1.0 / np.where(inside, inverse, 1.0)
        back_xy, back_z = camera.project(there.unproject(np.stack([x, y], axis=1), back_depth))
        apart = np.hypot(*(back_xy - xy).T)
        along = np.abs(back_z - depth) / depth
        agree[:, column] = inside & (apart < options.max_error_px) & (along < options.max_depth_error)
        conflict[:, column] = inside & (seen_depth < back_depth * (1.0 - 3.0 * options.max_depth_error))
        total += np.where(agree[:, column], back_z, 0.0)
        number += agree[:, column]
    return _Agreement(agree, conflict, at, total / number)


def _bilinear(inverse: Array32, x: Array, y: Array) -> Array32:
    """Inverse depth at pixels, between pixel centres; 0 where one of the four is unknown."""
    border = cv2.BORDER_REPLICATE
    strips = 1 << 14  # columns that OpenCV's remap can address
    out = np.empty(len(x), np.float32)
    known = (inverse > 0).astype(np.float32)
    for start in range(0, len(x), strips):
        part = slice(start, start + strips)
        map_x, map_y = (np.ascontiguousarray(each[part, None] - 0.5, np.float32) for each in (x, y))
        value = cv2.remap(inverse, map_x, map_y, cv2.INTER_LINEAR, borderMode=border)
        whole = cv2.remap(known, map_x, map_y, cv2.INTER_LINEAR, borderMode=border) > 0.999
        out[part] = np.where(whole, value, 0)[:, 0]
    return out


def _points_of(
    row: int,
    pixels: Index,
    found: _Agreement,
    estimate: DepthEstimate,
    others: Index,
    image: NDArray[np.uint8],
) -> DensePoints:
    camera = estimate.camera
    xy = np.stack([pixels % camera.width + 0.5, pixels // camera.width + 0.5], axis=1)
    points = camera.unproject(xy, found.depth)
    sees = np.concatenate([np.ones((len(pixels), 1), bool), found.agree], axis=1)
    order = np.argsort(np.concatenate([[row], others]), kind="stable")
    views = np.concatenate([[row], others])[order].astype(np.int32)
    sees = sees[:, order]
    normal = _normals(estimate)[pixels]
    return DensePoints(
        points.astype(np.float32),
        normal,
        image.reshape(-1, 3)[pixels],
        (found.depth / camera.fx).astype(np.float32),
        np.concatenate([[0], np.cumsum(sees.sum(axis=1))]).astype(np.int64),
        np.broadcast_to(views, sees.shape)[sees],
    )


def _normals(estimate: DepthEstimate) -> Array32:
    """(h w, 3) normals in the world, from the slope of the inverse depth.

    A plane n . X = d has the inverse depth (n . K^-1 (x, y, 1)) / d: linear in the pixel, and its slopes are those of a
    plane fitted to a window.
    """
    camera = estimate.camera
    smooth = cv2.GaussianBlur(cv2.medianBlur(estimate.inverse, 5), (0, 0), 1.5)
    by_x, by_y = np.gradient(smooth, axis=1), np.gradient(smooth, axis=0)
    y, x = np.mgrid[: camera.height, : camera.width].astype(np.float32) + np.float32(0.5)
    normal = np.stack(
        [by_x * camera.fx, by_y * camera.fy, smooth - by_x * (x - camera.cx) - by_y * (y - camera.cy)], axis=-1
    ).reshape(-1, 3)
    normal /= -np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-20)
    return np.asarray(normal @ camera.cam_from_world[:, :3], np.float32)


def _joined(parts: Sequence[DensePoints]) -> DensePoints:
    if not parts:
        nothing = np.zeros((0, 3), np.float32)
        colours, one = np.zeros((0, 3), np.uint8), np.zeros(1, np.int64)
        return DensePoints(nothing, nothing, colours, np.zeros(0, np.float32), one, np.zeros(0, np.int32))
    counts = np.concatenate([np.diff(each.start) for each in parts])
    return DensePoints(
        np.concatenate([each.xyz for each in parts]),
        np.concatenate([each.normal for each in parts]),
        np.concatenate([each.rgb for each in parts]),
        np.concatenate([each.footprint for each in parts]),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        np.concatenate([each.seen_by for each in parts]),
    )
