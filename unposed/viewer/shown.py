"""What the viewer draws, as arrays: which points in which colours, the partners of a photo, differences of poses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from unposed.optim.arrays import AnyArray, Array, Array32, Index, Mask
from unposed.optim.poses import camera_centres
from unposed.optim.similarity import fit_similarity
from unposed.optim.spread import spread
from unposed.pipeline.artifacts import Bytes, SparseModel
from unposed.report.track_figures import track_lengths, triangulation_angles_deg

Colouring = Literal["photos", "error", "photos per point", "angle", "model"]
"""By what points are coloured; small angles mean uncertain depths."""
COLOURINGS: tuple[Colouring, ...] = ("photos", "error", "photos per point", "angle", "model")

RAMP = np.array([[49, 112, 168], [110, 178, 172], [226, 190, 110], [205, 80, 60]], np.float64)
"""From good to bad."""
MODEL_COLOURS = np.array([[31, 111, 139], [138, 95, 168], [79, 138, 76], [176, 112, 58]], np.uint8)
GOOD_LENGTH, GOOD_ANGLE_DEG = 10.0, 16.0
"""Photos per point, and angle, that get the best colour."""


@dataclass(frozen=True, eq=False)
class PointFilter:
    """Which points are shown."""

    most: int
    min_length: int = 2
    max_error_px: float = np.inf


@dataclass(frozen=True, eq=False)
class Eye:
    """Whence a browser looks at the scene."""

    position: Array
    """(3,) in the world."""
    world_from_eye: Array
    """(3, 3): its columns point right, down and ahead."""
    fov: float
    """Angle from the top to the bottom of the view, in radians."""
    aspect: float
    """Width of the view over its height."""

    def sees(self, points: AnyArray) -> Mask:
        """Which of these (n, 3) points are in the view."""
        right, down, ahead = ((np.asarray(points, np.float64) - self.position) @ self.world_from_eye).T
        half = ahead * np.tan(self.fov / 2.0)
        inside: Mask = (ahead > 0.0) & (np.abs(down) <= half) & (np.abs(right) <= half * self.aspect)
        return inside


@dataclass(frozen=True, eq=False)
class ShownModel:
    """A model with the figures of its points, in an order whose every beginning is spread over the scene."""

    model: SparseModel
    number: int
    lengths: Index
    angles_deg: Array
    order: Index

    def rows(self, wanted: PointFilter) -> Index:
        """Points that pass the filter, `wanted.most` of them at most."""
        error = np.asarray(self.model.error_px)[self.order]
        passing = (self.lengths[self.order] >= wanted.min_length) & (error <= wanted.max_error_px)
        return self.order[passing][: wanted.most]

    def detail(self, wanted: PointFilter, there: int, eye: Eye) -> Index:
        """Of the points that pass the filter, those in the view beyond the first `there`, `wanted.most` at most: the
        smaller the part of the scene in the view, the more of its points."""
        more = self.rows(replace(wanted, most=len(self.order)))[there:]
        return more[eye.sees(self.model.points[more])][: wanted.most]

    def colours(self, rows: Index, by: Colouring) -> Bytes:
        """(n, 3) of these points."""
        if by == "photos":
            return self.model.rgb[rows]
        if by == "model":
            return np.tile(MODEL_COLOURS[self.number % len(MODEL_COLOURS)], (len(rows), 1))
        if by == "error":
            usual = float(np.median(self.model.error_px)) if len(self.model.points) else 1.0
            return ramp(self.model.error_px[rows] / max(2.0 * usual, 1e-9))
        if by == "angle":
            return ramp(1.0 - self.angles_deg[rows] / GOOD_ANGLE_DEG)
        return ramp(1.0 - (self.lengths[rows] - 2) / (GOOD_LENGTH - 2))

    def seen_by(self, row: int) -> Index:
        """Points that the photo in this row of the model observes."""
        start, stop = self.model.xy_start[row : row + 2]
        own = (self.model.obs_xy >= start) & (self.model.obs_xy < stop)
        return np.asarray(self.model.obs_point[own])

    def partners(self, row: int) -> list[tuple[int, int]]:
        """Rows of the other photos that see points of this one, and how many, most first."""
        common = np.zeros(len(self.model.points), bool)
        common[self.seen_by(row)] = True
        photo = self.model.obs_photo[common[self.model.obs_point]]
        counts = np.bincount(photo, minlength=len(self.model.photos))
        counts[row] = 0
        order = np.argsort(-counts, kind="stable")
        return [(int(other), int(counts[other])) for other in order if counts[other]]

    def common_keypoints(self, a: int, b: int) -> tuple[Array, Array]:
        """(n, 2) pixels in two photos of the points that both see."""
        found = []
        for row in (a, b):
            start, stop = self.model.xy_start[row : row + 2]
            own = np.flatnonzero((self.model.obs_xy >= start) & (self.model.obs_xy < stop))
            points, first = np.unique(self.model.obs_point[own], return_index=True)
            found.append((points, np.asarray(self.model.xy, np.float64)[self.model.obs_xy[own[first]]]))
        _, in_a, in_b = np.intersect1d(found[0][0], found[1][0], assume_unique=True, return_indices=True)
        return found[0][1][in_a], found[1][1][in_b]


def shown_model(model: SparseModel, number: int) -> ShownModel:
    """Prepare a model to be shown."""
    order = np.random.default_rng(0).permutation(len(model.points))
    return ShownModel(model, number, track_lengths(model), triangulation_angles_deg(model), order)


def ramp(badness: AnyArray) -> Bytes:
    """(n, 3) colours from good (0) to bad (1)."""
    at = np.clip(np.asarray(badness, np.float64), 0.0, 1.0) * (len(RAMP) - 1)
    low = np.minimum(at.astype(np.int64), len(RAMP) - 2)
    share = (at - low)[:, None]
    mixed: Bytes = np.rint((1.0 - share) * RAMP[low] + share * RAMP[low + 1]).astype(np.uint8)
    return mixed


def frustum_scale(cam_from_world: AnyArray) -> float:
    """Depth at which cameras are drawn: a third of the usual distance to the next one."""
    centres = camera_centres(cam_from_world)
    some = centres[spread(len(centres), 300)]
    gaps = np.linalg.norm(some[:, None] - centres[None], axis=-1)
    gaps[gaps <= 0.0] = np.inf
    nearest = gaps.min(axis=1)
    nearest = nearest[np.isfinite(nearest)]
    return float(np.median(nearest)) / 3.0 if len(nearest) else 0.1


def pair_lines(
    names: Sequence[str], models: Sequence[SparseModel], facts: Sequence[Mapping[str, Any]]
) -> tuple[Array32, Array]:
    """Verified pairs of these models as lines (n, 2, 3) between their cameras, and for each the share of its matches
    that agree with the model.

    names: of all photos. facts: about models, from summary.json.
    """
    place = {
        names[photo]: centre
        for each in models
        for photo, centre in zip(each.photos.tolist(), camera_centres(each.cam_from_world), strict=True)
    }
    lines, shares = [], []
    for model in facts:
        for a, b, matches, inliers, *_ in model.get("refinement", {}).get("pairs", ()):
            if a in place and b in place:
                lines.append((place[a], place[b]))
                shares.append(inliers / max(matches, 1))
    return np.array(lines, np.float32).reshape(-1, 2, 3), np.array(shares, np.float64)


def aligned_poses(
    names: Sequence[str], cam_from_world: AnyArray, others: Sequence[str], other_from_world: AnyArray
) -> tuple[Array, Array]:
    """Bring other poses into the world of these by the photos in common.

    Gives (m, 3, 4) all of the other poses in this world, and (k, 2, 3) the two positions of each photo in common.
    ValueError if fewer than three are.
    """
    index = {name: i for i, name in enumerate(names)}
    pairs = np.array([(index[name], j) for j, name in enumerate(others) if name in index], np.int64).reshape(-1, 2)
    if len(pairs) < 3:
        raise ValueError(f"only {len(pairs)} photos in common: three or more are needed to align two models")
    ours, theirs = camera_centres(cam_from_world), camera_centres(other_from_world)
    fit = fit_similarity(theirs[pairs[:, 1]], ours[pairs[:, 0]])
    rotation = other_from_world[:, :, :3] @ fit.rotation.T
    centres = fit(theirs)
    moved = np.concatenate([rotation, -np.einsum("nij,nj->ni", rotation, centres)[:, :, None]], axis=2)
    return moved, np.stack([ours[pairs[:, 0]], centres[pairs[:, 1]]], axis=1)


def nearest_to_ray(points: Array, origin: Array, direction: Array) -> int | None:
    """The point of smallest angle to a ray; None if none is within two degrees in front of it."""
    away = points - origin
    distance = np.linalg.norm(away, axis=1)
    cosine = away @ (direction / np.linalg.norm(direction)) / np.maximum(distance, 1e-12)
    best = int(np.argmax(cosine)) if len(points) else 0
    return best if len(points) and cosine[best] > np.cos(np.radians(2.0)) else None
