"""The true cameras of a photo set, in the conventions of the project, and what can be measured against them.

Truths made by COLMAP or Bundler hold the principal point at the centre of the photo. A result that has found another
one differs from them by one constant rotation of the camera frame, which says nothing about its accuracy:
`without_camera_rotation` takes it out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unposed.optim.arrays import Array, Index, Mask
from unposed.optim.evaluation import PoseErrors, evaluate_poses, rotation_and_centre
from unposed.optim.rotations import nearest_rotation, rotation_angle_deg, skew
from unposed.optim.similarity import fit_similarity, flatness
from unposed.optim.view_graph import ViewGraph

MIN_PHOTOS, MAX_ROTATION_DEG, MIN_FLATNESS = 5, 3.0, 1e-3
"""Photos of one size, the largest rotation and the least extent of centres for a camera rotation to be taken out."""


@dataclass(frozen=True, eq=False)
class Truth:
    """True cameras, row by row as the photos of a collection; NaN for photos without."""

    cam_from_world: Array
    """(photos, 3, 4)."""
    intrinsics: Array
    """(photos, 8) as in optim.cameras, all of camera model OPENCV."""
    size: Index
    """(photos, 2)."""

    @property
    def known(self) -> Mask:
        """(photos,) with a true pose."""
        return np.isfinite(self.cam_from_world[:, 0, 0])


def read_truth(file: Path, names: Sequence[str]) -> Truth:
    """Read gt.json or ref_colmap.json, whose centre of the top-left pixel is (0, 0): half a pixel from ours."""
    images = json.loads(file.read_text(encoding="utf-8"))["images"]
    poses, rows = np.full((len(names), 3, 4), np.nan), np.full((len(names), 8), np.nan)
    size = np.zeros((len(names), 2), np.int64)
    for index, name in enumerate(names):
        if (entry := images.get(name)) is None:
            continue
        poses[index] = np.column_stack([nearest_rotation(np.array(entry["R_w2c"])), entry["t_w2c"]])
        k = np.array(entry["K"], float)
        dist = [*entry.get("dist", []), 0.0, 0.0, 0.0, 0.0][:4]
        rows[index] = k[0, 0], k[1, 1], k[0, 2] + 0.5, k[1, 2] + 0.5, *dist
        size[index] = entry["width"], entry["height"]
    return Truth(poses, rows, size)


def errors_against(truth: Truth, cam_from_world: Array, camera_rotation: bool = False) -> PoseErrors:
    """Errors of poses (photos, 3, 4), NaN where not registered, over the photos with a true pose."""
    if camera_rotation:
        cam_from_world = without_camera_rotation(truth, cam_from_world)
    known = truth.known
    return evaluate_poses(truth.cam_from_world[known], cam_from_world[known])


def without_camera_rotation(truth: Truth, cam_from_world: Array) -> Array:
    """The poses without the one rotation of the camera frame by which photos of a size differ from the true ones."""
    both = np.flatnonzero(truth.known & np.isfinite(cam_from_world[:, 0, 0]))
    out = cam_from_world.copy()
    if len(both) < MIN_PHOTOS:
        return out
    true_rotation, true_centre = rotation_and_centre(truth.cam_from_world[both])
    rotation, centre = rotation_and_centre(cam_from_world[both])
    if flatness(centre) < MIN_FLATNESS:
        return out
    world_turn = fit_similarity(centre, true_centre).rotation
    for size in np.unique(truth.size[both], axis=0):
        own = (truth.size[both] == size).all(axis=1)
        if own.sum() < MIN_PHOTOS:
            continue
        turned = rotation[own] @ world_turn.T @ true_rotation[own].transpose(0, 2, 1)
        offset = nearest_rotation(turned.sum(axis=0))
        if rotation_angle_deg(offset) <= MAX_ROTATION_DEG:
            out[both[own]] = offset.T @ out[both[own]]
    return out


def right_matches(graph: ViewGraph, truth: Truth, max_error_px: float) -> Mask:
    """(m,) matches, edge after edge, whose epipolar error under the true cameras is below the bound."""
    from unposed.optim.mapping.triangulation import rays_of

    row_a, row_b = graph.matches()
    edge = graph.edge_of_match()
    photos, focal = graph.pairs[edge], truth.intrinsics[graph.pairs[edge, 0], 0]
    models, own = ("OPENCV",) * len(truth.intrinsics), np.arange(len(truth.intrinsics))
    ray_a, ray_b = (
        rays_of(graph.keypoints, row, photos[:, side], models, truth.intrinsics, own)
        for side, row in enumerate((row_a, row_b))
    )
    rotation, baseline = true_relative_poses(truth, graph.pairs)
    essential = (skew(baseline) @ rotation)[edge]
    line_b, line_a = np.einsum("mij,mj->mi", essential, ray_a), np.einsum("mji,mj->mi", essential, ray_b)
    value = np.einsum("mi,mi->m", ray_b, line_b)
    slope2 = (line_a**2).sum(axis=1) + (line_b**2).sum(axis=1) - 2.0 * value**2
    with np.errstate(invalid="ignore"):
        return np.asarray(np.abs(value) / np.sqrt(np.maximum(slope2, 1e-24)) * focal < max_error_px)


def true_relative_poses(truth: Truth, pairs: Index) -> tuple[Array, Array]:
    """Rotations (e, 3, 3) and baselines (e, 3) from a to b."""
    pose_a, pose_b = truth.cam_from_world[pairs[:, 0]], truth.cam_from_world[pairs[:, 1]]
    rotation = pose_b[:, :, :3] @ pose_a[:, :, :3].transpose(0, 2, 1)
    return rotation, pose_b[:, :, 3] - np.einsum("eij,ej->ei", rotation, pose_a[:, :, 3])
