"""Neighbours: whether photos that a model puts next to each other match as neighbours do.

A model that lays one place on another that looks like it fits its matches, since bundle adjustment sees nothing else.
But it puts photos of one place next to photos of the other, and those match less than true neighbours do: only what
looks alike matches, or nothing does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array

from ..arrays import Array, Index
from ..bundle.problem import Bundle
from ..option_ranges import Angle, Positive
from ..poses import camera_centres
from ..view_graph import ViewGraph


@dataclass(frozen=True)
class NearestViewOptions:
    """How much each difference between two views counts: about what makes half of the matches of SIFT disappear."""

    view_parallax_deg: Angle = 10.0
    """Angle between the rays of the two photos to what one of them sees."""
    view_turn_deg: Angle = 20.0
    """Angle between their viewing directions."""
    view_octaves: Positive = 0.7
    """Logarithm to base 2 of the ratio of the sizes at which they show it, focal lengths included."""


def neighbour_matches(
    graph: ViewGraph, photos: Index, bundle: Bundle, targets: Array, frame: Index, options: NearestViewOptions
) -> Array:
    """(p,) matches of each photo with the photo of nearest view, over those with its best partner.

    The distance of view j from view i is sqrt((parallax / a)^2 + (turn / b)^2 + (octaves / c)^2) with the scales of the
    options. `targets` (p, 3) is where each photo looks, `frame` (p,) its frame: photos that a rig fixes to each other
    are no neighbours. A neighbour that is not matched counts as 0; NaN where a photo looks nowhere or has no partner.
    """
    poses, out = bundle.cam_from_world[photos], np.full(len(photos), np.nan)
    centre = camera_centres(poses)
    axis = poses[:, 2, :3]
    focal = bundle.intrinsics[bundle.camera_of_photo[photos], 0] / graph.keypoints.size[photos].max(axis=1)
    a, b = np.searchsorted(photos, graph.pairs).T
    apart = frame[a] != frame[b]
    ends, count = (a[apart], b[apart]), graph.match_count[apart].astype(np.float64)
    matches = coo_array(
        (np.tile(count, 2), (np.concatenate(ends), np.concatenate(ends[::-1]))), shape=(len(photos),) * 2
    ).tocsr()
    for photo in range(len(photos)):
        row = slice(*matches.indptr[photo : photo + 2].tolist())
        if row.start == row.stop or not np.isfinite(targets[photo]).all():
            continue
        ray = centre - targets[photo]
        distance = np.maximum(np.linalg.norm(ray, axis=1), 1e-300)
        octaves = np.log2(distance / distance[photo] * focal[photo] / focal)
        views = np.hypot(
            np.hypot(
                _angle_deg(ray / distance[:, None], ray[photo] / distance[photo]) / options.view_parallax_deg,
                _angle_deg(axis, axis[photo]) / options.view_turn_deg,
            ),
            octaves / options.view_octaves,
        )
        nearest = int(np.argmin(np.where(frame == frame[photo], np.inf, views)))
        with_nearest = matches.data[row][matches.indices[row] == nearest].sum()
        out[photo] = with_nearest / matches.data[row].max()
    return out


def _angle_deg(directions: Array, direction: Array) -> Array:
    """(n,) angle of unit vectors with one of them."""
    return np.degrees(np.arccos(np.clip(directions @ direction, -1.0, 1.0)))
