"""Absolute pose estimation: photos registered to a model by the points they see."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np

from ..arrays import Index
from ..bundle.problem import Bundle
from ..cameras import params_of
from ..option_ranges import Count, Share, Within
from ..rigs import whole_frames
from ..view_graph import ViewGraph


@dataclass(frozen=True)
class AbsolutePoseOptions:
    """P3P in LO-RANSAC of poselib, with refinement."""

    min_inliers: Annotated[int, Within("[3, inf)")] = 15
    """A photo with fewer points within the error bound is not registered."""
    min_inlier_ratio: Share = 0.25
    """Likewise, a photo with a smaller ratio of inliers to points: matches of doppelgangers agree by the dozen."""
    max_iterations: Count = 2000
    """Samples of RANSAC."""


def register_photos(
    graph: ViewGraph,
    bundle: Bundle,
    photos: Index,
    *,
    max_error_px: float,
    options: AbsolutePoseOptions | None = None,
    seed: int = 0,
) -> Bundle:
    """Estimate the poses of `photos` from the points of the bundle, where enough of these are inliers.

    No observations are added: retriangulation does that. Of the photos of a frame, the one with most inliers gives the
    pose of all, unless the frame has one.
    """
    import poselib

    options = options or AbsolutePoseOptions()
    point_of_row = np.full(len(graph.keypoints.xy), -1, np.int64)
    point_of_row[bundle.row] = bundle.point
    poses, support = bundle.cam_from_world.copy(), np.zeros(len(bundle.cam_from_world), np.int64)
    for photo in photos.tolist():
        row, point = _seen_points(graph, point_of_row, photo)
        if len(row) < options.min_inliers:
            continue
        camera = int(bundle.camera_of_photo[photo])
        pose, info = poselib.estimate_absolute_pose(
            graph.keypoints.xy[row],
            bundle.points[point],
            {
                "model": bundle.models[camera],
                "width": int(graph.keypoints.size[photo, 0]),
                "height": int(graph.keypoints.size[photo, 1]),
                "params": list(params_of(bundle.models[camera], bundle.intrinsics[camera])),
            },
            {"max_reproj_error": max_error_px, "seed": seed, "max_iterations": options.max_iterations},
            {},
        )
        inliers = np.asarray(info["inliers"], bool)
        if inliers.sum() >= options.min_inliers and inliers.mean() >= options.min_inlier_ratio:
            poses[photo] = np.concatenate([pose.R, np.asarray(pose.t)[:, None]], axis=1)
            support[photo] = inliers.sum()
    if bundle.rigs is not None:
        posed = np.isfinite(bundle.cam_from_world[:, 0, 0])
        support[posed] = len(graph.keypoints.xy) + 1  # more than any photo has inliers
        poses = whole_frames(bundle.rigs, poses, support)
    return replace(bundle, cam_from_world=poses)


def _seen_points(graph: ViewGraph, point_of_row: Index, photo: int) -> tuple[Index, Index]:
    """Key points of the photo and the points whose observations they match, without repetition."""
    found = [np.zeros((0, 2), np.int64)]
    for edge in np.flatnonzero((graph.pairs == photo).any(axis=1)):
        rows = graph.match_rows(int(edge))
        mine, theirs = graph.row_a[rows], graph.row_b[rows]
        if graph.pairs[edge, 1] == photo:
            mine, theirs = theirs, mine
        found.append(np.stack([mine, point_of_row[theirs]], axis=1))
    row, point = np.unique(np.concatenate(found), axis=0).T
    known = point >= 0
    return row[known], point[known]
