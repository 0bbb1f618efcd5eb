"""Conversions between artifacts and the first-order alignment of optim, for the stages coarse.adam and fine.adam.

The alignment works in pixels of the network, in which anchors are `SPACING` apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unposed.optim.arrays import Array, Index
from unposed.optim.bundle.intrinsics import Intrinsics
from unposed.optim.cameras import CX, CY, FX, intrinsics_of
from unposed.optim.pointmaps.first_order_alignment import AnchoredMatches, FirstOrderAlignment
from unposed.optim.pointmaps.kinematic_tree import KinematicTreeOptions, Tree, kinematic_tree
from unposed.pipeline.artifacts import DepthGrid, Floats, PairMatches, SparseModel, TwoViewGeometry
from unposed.pipeline.stage import PerPair, StageError

SPACING = 8
"""Pixels of the network per anchor, along both axes."""


@dataclass(frozen=True, eq=False)
class AnchorGrid:
    """The grid of anchors of one photo."""

    shape: tuple[int, int]
    origin_px: Array
    step_px: Array

    def anchor(self, xy_px: Array) -> tuple[Index, Index]:
        """Row and column of the anchors (m,) whose blocks hold pixels (m, 2)."""
        at = np.floor((xy_px - self.origin_px) / self.step_px + 0.5).astype(np.int64)
        column, row = np.clip(at, 0, (self.shape[1] - 1, self.shape[0] - 1)).T
        return row, column

    def to_network(self, xy_px: Array) -> Array:
        """Pixels of the photo (m, 2) as pixels of the network."""
        return (xy_px - self.origin_px) / self.step_px * SPACING + SPACING / 2

    def to_photo(self, xy: Array) -> Array:
        """Pixels of the network (m, 2) as pixels of the photo."""
        return (xy - SPACING / 2) / SPACING * self.step_px + self.origin_px

    @property
    def scale(self) -> float:
        """Pixels of the photo per pixel of the network."""
        return float(self.step_px.mean()) / SPACING


@dataclass(frozen=True, eq=False)
class Chain:
    """Input of the alignment for one connected component."""

    photos: Index
    frames: tuple[AnchorGrid, ...]
    matched: AnchoredMatches
    tree: Tree

    def poses(self, aligned: FirstOrderAlignment, photos: int) -> Array:
        """(photos, 3, 4) cam_from_world of the collection; NaN for photos outside."""
        out = np.full((photos, 3, 4), np.nan)
        out[self.photos] = np.linalg.inv(aligned.world_from_cam.astype(np.float64))[:, :3]
        return out

    def start(self, model: SparseModel) -> tuple[Array, Array, Array, Array]:
        """Cameras of a model of these photos in pixels of the network: world_from_cam (n, 3, 4), focal lengths,
        principal points, and the scale of the predicted depths in units of the model."""
        rows = np.array([intrinsics_of(camera.model, camera.params) for camera in model.cameras])[model.camera_of_photo]
        focal = rows[:, FX] / [frame.scale for frame in self.frames]
        principal = [frame.to_network(row[[CX, CY]]) for frame, row in zip(self.frames, rows, strict=True)]
        photo = model.obs_photo
        pose = model.cam_from_world[photo]
        z = np.einsum("mj,mj->m", pose[:, 2, :3], model.points[model.obs_point]) + pose[:, 2, 3]
        size = np.ones(len(self.frames))
        for own, frame in enumerate(self.frames):
            row, column = frame.anchor(model.xy[model.obs_xy[photo == own]])
            begin, end = self.matched.depth_start[own : own + 2]
            predicted = self.matched.depth[begin:end].reshape(frame.shape)[row, column] * focal[own]
            if len(predicted):  # depth is proportional to the focal length
                size[own] = np.median(z[photo == own] / predicted) * self.matched.focal_px[own]
        turn = model.cam_from_world[:, :, :3].transpose(0, 2, 1)
        centre = -turn @ model.cam_from_world[:, :, 3:]
        return np.concatenate([turn, centre], axis=2), focal, np.array(principal), size

    def intrinsics(self, aligned: FirstOrderAlignment, initial: Intrinsics) -> Intrinsics:
        """The initial cameras, one per photo, with the aligned focal lengths and principal points."""
        single = initial.split()
        focal_px = single.values[:, FX].copy()
        for own, (photo, frame) in enumerate(zip(self.photos, self.frames, strict=True)):
            focal_px[photo] = aligned.focal_px[own] * frame.scale
        found = single.with_focals(focal_px)
        for own, (photo, frame) in enumerate(zip(self.photos, self.frames, strict=True)):
            found.values[photo, [CX, CY]] = frame.to_photo(aligned.principal_px[own])
        return found


def chain_of(
    photos: Sequence[int],
    pairs_of_all: Index,
    matching: PerPair[PairMatches],
    verification: PerPair[TwoViewGeometry],
    options: KinematicTreeOptions,
) -> Chain:
    """The photos of one component, the matches of the pairs (e, 2) between them, and a kinematic tree."""
    number = {photo: own for own, photo in enumerate(photos)}
    pairs = {
        (number[a], number[b]): (_with_depth(matching[a, b]), verification[a, b].inliers)
        for a, b in pairs_of_all.tolist()
        if a in number and b in number
    }
    frames = _frames(pairs, len(photos))
    fused = [_canonical(own, pairs) for own in range(len(photos))]
    counts = np.zeros((len(photos), len(photos)))
    photo, xy, anchor, offset, weight = [], [], [], [], []
    start = np.cumsum([0, *(frame.shape[0] * frame.shape[1] for frame in frames)])
    for (a, b), (pair, inliers) in pairs.items():
        good = inliers & np.all([np.isfinite(depth) & (depth > 0) for depth in (pair.depth_a, pair.depth_b)], axis=0)
        counts[a, b] = counts[b, a] = good.sum()
        weight.append(pair.weight[good])
        for own, xy_px, depth, grid in zip(
            (a, b), (pair.xy_a, pair.xy_b), (pair.depth_a, pair.depth_b), pair.grids, strict=True
        ):
            seen = np.asarray(xy_px[good], np.float64)
            row, column = frames[own].anchor(seen)
            photo.append(np.full(len(row), own))
            xy.append(frames[own].to_network(seen))
            anchor.append(start[own] + row * frames[own].shape[1] + column)
            offset.append(depth[good] / np.maximum(grid.depth[row, column], 1e-9))
    sides = np.repeat([[0, 1]], len(pairs), axis=0).ravel()
    side_of = np.repeat(sides, [len(each) for each in photo])
    nothing = np.zeros(0, np.int64)
    matched = AnchoredMatches(
        size=np.array([frame.shape[::-1] for frame in frames]) * SPACING,
        focal_px=np.array([focal / frame.scale for (_, _, focal), frame in zip(fused, frames, strict=True)]),
        confidence=np.array([confidence for _, confidence, _ in fused]),
        depth=np.concatenate([depth.ravel() for depth, _, _ in fused]),
        depth_start=start,
        photo=np.concatenate(photo),
        xy=np.concatenate(xy),
        anchor=np.concatenate(anchor),
        offset=np.concatenate(offset),
        row_a=np.flatnonzero(side_of == 0),
        row_b=np.flatnonzero(side_of == 1),
        weight=np.concatenate(weight),
        predicting_photo=nothing,
        predicted_row=nothing,
        predicted=np.zeros((0, 3)),
        predicted_weight=np.zeros(0),
    )
    return Chain(np.array(photos), frames, matched, kinematic_tree(counts, np.diff(start), options))


@dataclass(frozen=True, eq=False)
class _Pair:
    """Matches of a pair with depths, which PairMatches need not have."""

    xy_a: Floats
    xy_b: Floats
    depth_a: Floats
    depth_b: Floats
    weight: Floats
    grids: tuple[DepthGrid, DepthGrid]


def _with_depth(pair: PairMatches) -> _Pair:
    if pair.depth_a is None or pair.depth_b is None or pair.grids is None:
        raise StageError("this aligner needs the depth maps of a matcher that predicts them, such as matching.mast3r")
    return _Pair(pair.xy_a, pair.xy_b, pair.depth_a, pair.depth_b, pair.weight, pair.grids)


PairsWithDepth = dict[tuple[int, int], tuple[_Pair, NDArray[np.bool_]]]


def _grids(own: int, pairs: PairsWithDepth) -> list[DepthGrid]:
    """The depth grids that all pairs of a photo predict for it."""
    return [pair.grids[ends.index(own)] for ends, (pair, _) in pairs.items() if own in ends]


def _frames(pairs: PairsWithDepth, photos: int) -> tuple[AnchorGrid, ...]:
    frames = []
    for own in range(photos):
        first, *others = _grids(own, pairs)
        for other in others:
            if (other.depth.shape, other.origin_px, other.step_px) != (
                first.depth.shape,
                first.origin_px,
                first.step_px,
            ):
                raise StageError("this aligner wants all depth maps of a photo on one grid: use a single matcher")
        height, width = first.depth.shape
        frames.append(AnchorGrid((height, width), np.array(first.origin_px), np.array(first.step_px)))
    return tuple(frames)


def _canonical(own: int, pairs: PairsWithDepth) -> tuple[Array, float, float]:
    """Mean depth weighted by confidence, mean confidence, and focal length in pixels of the photo.

    As published: the scales of the predictions are not aligned before averaging."""
    grids = _grids(own, pairs)
    depth = np.stack([grid.depth for grid in grids]).astype(np.float64)
    weight = np.stack([grid.confidence for grid in grids]).astype(np.float64)
    usable = np.isfinite(depth) & (depth > 0)
    weight = np.where(usable, weight, 0.0)
    total = np.maximum(weight.sum(axis=0), 1e-12)
    mean = (weight * np.where(usable, depth, 0.0)).sum(axis=0) / total
    mean = np.where(mean > 0, mean, np.median(mean[mean > 0]) if (mean > 0).any() else 1.0)
    return mean, float(((weight**2).sum(axis=0) / total).mean()), float(np.median([g.focal_px for g in grids]))
