"""Checks of the points that training starts from."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .finding import TRAINERS, Finding, LintLimits, several
from .scene_folder import SceneFolder


def check_points(scene: SceneFolder, limits: LintLimits) -> Iterator[Finding]:
    """Points that are missing, no numbers, double, far away or behind the cameras."""
    posed, points = scene.posed, scene.start_points
    if posed is None:
        return
    file = "transforms.json" if scene.model is None else f"{scene.model_place}/points3D"
    if not len(points):
        text = "no points: training stops, or starts at random ones"
        yield Finding("no-points", TRAINERS, file, text, "write the points of the reconstruction")
        return
    finite = np.isfinite(points).all(axis=1)
    if not finite.all():
        text = f"{int((~finite).sum())} points are not finite"
        yield Finding("points-nan", TRAINERS, file, text, "leave them out")
        points = points[finite]
    double = len(points) - len(np.unique(points.astype(np.float32), axis=0))
    if double:
        text = f"{double} points are at the place of others: the first size of their splats is zero"
        yield Finding("points-double", ("gsplat", "inria"), file, text, "keep one of each")
    distance = np.linalg.norm(points - np.median(points, axis=0), axis=1)
    far = int((distance > limits.point_ratio * np.median(distance)).sum())
    if far:
        text = f"{far} points are more than {limits.point_ratio:g} times as far as the median: their splats are huge"
        yield Finding("points-far", TRAINERS, file, text, "leave them out", True)
    if len(points) > limits.most_points:
        text = f"{len(points)} points: memory is spent before training begins"
        yield Finding("points-many", TRAINERS, file, text, f"thin them to {limits.most_points}", True)
    ahead = np.zeros(len(points), bool)
    for pose in posed.cam_from_world:
        ahead |= points @ pose[2, :3] + pose[2, 3] > 0.0
    if len(posed.names) and len(points) and ahead.mean() < 0.5:
        text = "most points are behind all cameras: axes or worlds of cameras and points differ"
        yield Finding("points-behind", TRAINERS, file, text, "write cameras and points in one world, by one convention")


def check_tracks(scene: SceneFolder, limits: LintLimits) -> Iterator[Finding]:
    """Colours, and which image sees which point."""
    model = scene.model
    if model is None or not len(model.points):
        return
    file = f"{scene.model_place}/points3D"
    if len(model.points) > 1 and not np.ptp(model.rgb, axis=0).any():
        text = "all points have one colour, from which splats start"
        yield Finding("points-grey", TRAINERS, file, text, "take colours from the images", True)
    blind = [model.names[row] for row in np.flatnonzero(model.observations == 0)]
    if blind:
        text = f"{several(blind)} sees no point: --depth_loss stops, depths cannot be scaled, readers of text fail"
        yield Finding("image-blind", ("gsplat", "inria"), file, text, "keep the tracks of points, or leave it out")


def check_point_files(scene: SceneFolder, limits: LintLimits) -> Iterator[Finding]:
    """PLY files that are read in the place of the points of the model."""
    if scene.model is None:
        return
    place = "" if scene.model_place == "." else f"{scene.model_place}/"
    preferred = f"{place}points3D.ply"
    if preferred in scene.files:
        content = scene.point_file(preferred)
        if content is None:
            text = "cannot be read, and is preferred to points3D.bin"
            yield Finding("ply-unreadable", ("inria", "lichtfeld"), preferred, text, "write it anew, or remove it")
        elif {"nx", "ny", "nz", "red", "green", "blue"} - set(content.properties):
            text = "has no normals or no colours: the reader fails"
            yield Finding("ply-normals", ("inria",), preferred, text, "add nx, ny, nz, red, green and blue")
        elif not _same_points(content.xyz, scene.model.points):
            text = "is not made of the points of the model, and is preferred to them"
            yield Finding("ply-stale", ("inria", "lichtfeld"), preferred, text, "write it anew, or remove it")
    clouds = sorted(file for file in scene.files if file.lower().endswith(".ply"))
    start = next((file for file in clouds if file.endswith("init.ply")), clouds[-1] if clouds else None)
    if start is not None and start != preferred:
        content = scene.point_file(start)
        if content is None or not _same_points(content.xyz, scene.model.points):
            text = "is where training starts, in the place of the points of the model, and is something else"
            yield Finding("ply-stray", ("brush",), start, text, "move it out of the folder")


def _same_points(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether both are the same points, in the same order or not, up to 32 bits."""
    if len(one) != len(other):
        return False
    if not len(one):
        return True
    one, other = (points.astype(np.float32)[np.lexsort(points.astype(np.float32).T)] for points in (one, other))
    return bool(np.allclose(one, other, rtol=1e-4, atol=1e-4 * float(np.abs(other).max())))


CHECKS = (check_points, check_tracks, check_point_files)
