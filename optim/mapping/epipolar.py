"""Epipolar errors of the matches of a view graph under relative poses of its pairs."""

from __future__ import annotations

import numpy as np

from ..arrays import Array, Index
from ..bundle.problem import Bundle
from ..parallel import chunk_map, even_slices
from ..rotations import skew
from ..view_graph import ViewGraph
from .triangulation import rays_of

MATCH_CHUNK = 1 << 14
"""Matches that are computed at a time: what is computed in between stays in the cache."""


def epipolar_errors_px(graph: ViewGraph, bundle: Bundle) -> Array:
    """(m,) epipolar error of each match under the poses of the bundle; infinite without poses."""
    pose_a, pose_b = bundle.cam_from_world[graph.pairs[:, 0]], bundle.cam_from_world[graph.pairs[:, 1]]
    rotation = pose_b[:, :, :3] @ pose_a[:, :, :3].transpose(0, 2, 1)
    baseline = pose_b[:, :, 3] - np.einsum("eij,ej->ei", rotation, pose_a[:, :, 3])
    b_from_a = np.concatenate([rotation, baseline[:, :, None]], axis=2)
    return relative_epipolar_errors_px(graph, b_from_a, bundle.models, bundle.intrinsics, bundle.camera_of_photo)


def agreeing_matches(graph: ViewGraph, bundle: Bundle, max_error_px: float) -> Index:
    """(e,) number of matches within the bound of their epipolar lines, under the poses of the bundle."""
    return np.bincount(graph.edge_of_match()[epipolar_errors_px(graph, bundle) < max_error_px], minlength=len(graph))


def relative_epipolar_errors_px(
    graph: ViewGraph, b_from_a: Array, models: tuple[str, ...], intrinsics: Array, camera_of_photo: Index
) -> Array:
    """(m,) epipolar error of each match under the relative poses (e, 3, 4) of the edges; infinite where these are NaN.

    The first-order distance on the unit sphere, in pixels by the focal length.
    """
    row_a, row_b = graph.matches()
    matched = np.zeros(len(graph.keypoints.xy), bool)  # a key point is in many matches, or, mostly, in none
    matched[row_a] = matched[row_b] = True
    used = np.flatnonzero(matched)
    place = np.cumsum(matched, dtype=np.int32)
    place -= 1
    rays = rays_of(graph.keypoints, used, graph.keypoints.photo_of(used), models, intrinsics, camera_of_photo)
    essential = skew(b_from_a[:, :, 3]) @ b_from_a[:, :, :3]
    focal = intrinsics[camera_of_photo[graph.pairs[:, 0]], 0]
    edge = graph.edge_of_match()
    out = np.empty(len(edge))

    def errors(part: slice) -> None:
        of, ray_a, ray_b = edge[part], rays[place[row_a[part]]], rays[place[row_b[part]]]
        line_b = np.einsum("mij,mj->mi", essential[of], ray_a)
        line_a = np.einsum("mji,mj->mi", essential[of], ray_b)
        value = np.einsum("mi,mi->m", ray_b, line_b)
        slope2 = np.einsum("mi,mi->m", line_a, line_a) + np.einsum("mi,mi->m", line_b, line_b) - 2.0 * value**2
        error = np.abs(value) / np.sqrt(np.maximum(slope2, 1e-24)) * focal[of]
        out[part] = np.where(np.isfinite(error), error, np.inf)

    chunk_map(errors, even_slices(len(edge), MATCH_CHUNK))
    return out
