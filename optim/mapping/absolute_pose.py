"""Photos that join a reconstruction late, by the points they see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..bundle.problem import Bundle
from ..cameras import params_of
from ..view_graph import ViewGraph

Array = NDArray[np.float64]
Index = NDArray[np.int64]


def register_photos(
    graph: ViewGraph,
    bundle: Bundle,
    photos: Index,
    *,
    max_error_px: float,
    min_inliers: int = 15,
    seed: int = 0,
) -> Bundle:
    """The bundle with poses for those of `photos` that enough of its points agree on (poselib, P3P and refinement).

    No observations are added: the next triangulation does that.
    """
    import poselib

    point_of_row = np.full(len(graph.keypoints.xy), -1, np.int64)
    point_of_row[bundle.row] = bundle.point
    poses = bundle.cam_from_world.copy()
    for photo in photos.tolist():
        row, point = _seen_points(graph, point_of_row, photo)
        if len(row) < min_inliers:
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
            {"max_reproj_error": max_error_px, "seed": seed, "max_iterations": 2000},
            {},
        )
        inliers = np.asarray(info["inliers"], bool)
        if inliers.sum() >= min_inliers and inliers.mean() >= 0.25:
            poses[photo] = np.concatenate([pose.R, np.asarray(pose.t)[:, None]], axis=1)
    return replace(bundle, cam_from_world=poses)


def _seen_points(graph: ViewGraph, point_of_row: Index, photo: int) -> tuple[Index, Index]:
    """Key points of the photo and the points their partners in posed photos belong to, without repetition."""
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
