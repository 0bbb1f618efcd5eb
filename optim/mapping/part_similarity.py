"""How a part of a model lies to the rest: the similarity that their shared points ask for.

A part that hardly any match ties to the rest has a shape of its own, but its place, rotation and scale in the model may
be wrong, and bundle adjustment, which loses the matches that do not agree at once, cannot mend that. Seven numbers move
the part as a whole: y = s R x + t. A photo of the part that sees a point which the rest has triangulated gives two
equations for them, and so does a photo of the rest that sees a point of the part.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from scipy.optimize import least_squares

from ..arrays import Array, Index, Mask
from ..bundle.problem import Bundle
from ..cameras import fisheyes, params_of, project
from ..option_ranges import Angle, Count, Positive, Share, Within
from ..poses import camera_centres
from ..rotations import exp_so3
from ..similarity import Similarity
from ..view_graph import Keypoints
from .tracks import Tracks
from .triangulation import triangulate

SIMILARITY_NUMBERS, SCALE = 7, 6
"""Rotation, translation and the logarithm of the scale; and the place of the last one among them."""

BEHIND_PX = 1e3
"""Residual of points behind their camera, and the largest that counts."""


@dataclass(frozen=True)
class PartSimilarityOptions:
    """How a part is placed. Errors are in units of the expected key point error."""

    max_error: Positive = 4.0
    """Correspondences within it agree."""
    min_angle_deg: Angle = 1.5
    """Points that one side sees under smaller angles are not used: of far points any scale makes sense."""
    min_inliers: Annotated[int, Within("[4, inf)")] = 15
    """A part with fewer agreeing correspondences stays where it is,"""
    min_inlier_ratio: Share = 0.25
    """and so does one with a smaller share of them, as look-alikes agree by the dozen."""
    max_anchors: Count = 4
    """Photos, those with most correspondences, each of which is placed by itself and takes the part along."""
    min_anchor_points: Annotated[int, Within("[4, inf)")] = 6
    """Points that such a photo is placed by, at least: three determine its pose, and as many confirm it."""
    max_samples: Count = 1000
    """Samples of RANSAC for each of them."""
    scale_range: Annotated[float, Within("(1, inf)")] = 1e5
    """Scales of the part are tried up to so many times larger and smaller,"""
    scale_step: Annotated[float, Within("(1, inf)")] = 1.5
    """each so many times larger than the last: least squares finds what lies between."""
    max_refined: Count = 30
    """Steps of least squares from the best sample, at most."""
    loss_scale: Positive = 1.0
    """Scale of the Cauchy loss in these steps."""


@dataclass(frozen=True, eq=False)
class Correspondences:
    """Observations of points that the other side of the cut has triangulated."""

    photo: Index
    """(n,) photo that observes."""
    xy: Array
    """(n, 2) where, in pixels."""
    point: Array
    """(n, 3) in the world, as the other side places it."""
    of_part: Mask
    """(n,) whether the photo belongs to the part, and the point to the rest; else the other way around."""

    def __len__(self) -> int:
        return len(self.photo)


def correspondences(
    keypoints: Keypoints,
    tracks: Tracks,
    cameras: Bundle,
    part: Mask,
    keypoint_error_px: float,
    options: PartSimilarityOptions,
) -> Correspondences:
    """Correspondences across the cut between a part (photos,) and the rest, from tracks of all matches."""
    found = []
    for of_part in (True, False):
        observing = part if of_part else ~part
        seen_by = np.bincount(tracks.track, observing[tracks.photo], minlength=tracks.count)
        across = (seen_by > 0) & (seen_by < np.bincount(tracks.track, minlength=tracks.count))
        chosen = tracks.select(across[tracks.track])
        other = np.where(observing[:, None, None], np.nan, cameras.cam_from_world)
        placed = triangulate(
            keypoints,
            chosen,
            cameras.models,
            cameras.intrinsics,
            cameras.camera_of_photo,
            other,
            max_error_px=options.max_error * keypoint_error_px,
            min_angle_deg=options.min_angle_deg,
        )
        point_of_track = np.full(chosen.count, -1)
        point_of_row = np.full(len(keypoints.xy), -1)
        point_of_row[placed.row] = placed.point
        known = point_of_row[chosen.row] >= 0
        point_of_track[chosen.track[known]] = point_of_row[chosen.row[known]]
        posed = np.isfinite(cameras.cam_from_world[:, 0, 0])
        rows = np.flatnonzero(observing[chosen.photo] & posed[chosen.photo] & (point_of_track[chosen.track] >= 0))
        found.append(
            (chosen.photo[rows], keypoints.xy[chosen.row[rows]], placed.points[point_of_track[chosen.track[rows]]])
        )
    photo, xy, point = (np.concatenate(each) for each in zip(*found, strict=True))
    return Correspondences(photo, xy, point, np.arange(len(photo)) < len(found[0][0]))


def part_similarity(
    cameras: Bundle,
    part: Mask,
    shared: Correspondences,
    keypoint_error_px: float,
    options: PartSimilarityOptions,
    seed: int = 0,
) -> Similarity | None:
    """The similarity that moves the part to where most correspondences agree; None where too few do.

    The absolute pose of one photo beside the points of the other side gives all but the scale, which is tried on a
    grid; robust least squares over all correspondences follow.
    """
    bound_px = options.max_error * keypoint_error_px

    def agreeing(similarity: Similarity) -> int:
        return int(np.count_nonzero(transfer_errors_px(cameras, shared, similarity) < bound_px))

    def nearness(similarity: Similarity) -> float:
        """Between two scales of the grid only the anchor's own correspondences agree, as they do at any scale."""
        return float((1.0 / (1.0 + (transfer_errors_px(cameras, shared, similarity) / bound_px) ** 2)).sum())

    steps = int(np.ceil(np.log(options.scale_range) / np.log(options.scale_step)))
    scales = options.scale_step ** np.arange(-steps, steps + 1, dtype=np.float64)
    found = []
    for rows in _anchors(shared, options):
        anchored = _anchored(cameras, shared, rows, bound_px, options, seed)
        if anchored is None:
            continue
        about, rotation, place = anchored
        sized = [Similarity(scale, rotation, place - scale * rotation @ about) for scale in scales.tolist()]
        start = max(sized, key=nearness)
        found.append(_refined(cameras, part, shared, start, keypoint_error_px, options))
    best = max(found, key=agreeing, default=None)
    if best is None or agreeing(best) < max(options.min_inliers, options.min_inlier_ratio * len(shared)):
        return None
    return best


def transfer_errors_px(cameras: Bundle, shared: Correspondences, similarity: Similarity) -> Array:
    """(n,) reprojection errors once the part is moved; infinite behind a camera."""
    offset, front = _offsets_px(cameras, shared, similarity)
    return np.where(front, np.hypot(*offset.T), np.inf)


def _offsets_px(cameras: Bundle, shared: Correspondences, similarity: Similarity) -> tuple[Array, Mask]:
    back = (shared.point - similarity.translation) @ similarity.rotation / similarity.scale
    world = np.where(shared.of_part[:, None], back, similarity(shared.point))
    pose, camera = cameras.cam_from_world[shared.photo], cameras.camera_of_photo[shared.photo]
    y = np.einsum("nij,nj->ni", pose[:, :, :3], world) + pose[:, :, 3]
    front = y[:, 2] > 0
    pixels = project(np.where(front[:, None], y, 1.0), cameras.intrinsics[camera], fisheyes(cameras.models)[camera])
    return pixels - shared.xy, front


def _anchors(shared: Correspondences, options: PartSimilarityOptions) -> list[Index]:
    """Correspondences of the photos that have most of them."""
    photos, count = np.unique(shared.photo, return_counts=True)
    order = np.argsort(-count, kind="stable")[: options.max_anchors]
    return [np.flatnonzero(shared.photo == photos[i]) for i in order if count[i] >= options.min_anchor_points]


def _anchored(
    cameras: Bundle,
    shared: Correspondences,
    rows: Index,
    bound_px: float,
    options: PartSimilarityOptions,
    seed: int,
) -> tuple[Array, Array, Array] | None:
    """A position of the part, its rotation, and where it moves the position, by the pose of one photo."""
    import poselib

    photo = int(shared.photo[rows[0]])
    camera = int(cameras.camera_of_photo[photo])
    size = np.maximum(np.ceil(shared.xy[rows].max(axis=0)), 1.0)
    solved, info = poselib.estimate_absolute_pose(
        shared.xy[rows],
        shared.point[rows],
        {
            "model": cameras.models[camera],
            "width": int(size[0]),
            "height": int(size[1]),
            "params": list(params_of(cameras.models[camera], cameras.intrinsics[camera])),
        },
        {"max_reproj_error": bound_px, "seed": seed, "max_iterations": options.max_samples},
        {},
    )
    if np.count_nonzero(info["inliers"]) < options.min_anchor_points:
        return None
    now, centre = cameras.cam_from_world[photo, :, :3], camera_centres(cameras.cam_from_world[photo][None])[0]
    there = np.asarray(solved.R)
    there_centre = -there.T @ np.asarray(solved.t)
    if shared.of_part[rows[0]]:
        return centre, there.T @ now, there_centre
    return there_centre, now.T @ there, centre


def _refined(
    cameras: Bundle,
    part: Mask,
    shared: Correspondences,
    start: Similarity,
    keypoint_error_px: float,
    options: PartSimilarityOptions,
) -> Similarity:
    """Robust least squares from a similarity, about the middle of the part."""
    posed = part & np.isfinite(cameras.cam_from_world[:, 0, 0])
    centres = camera_centres(cameras.cam_from_world[posed])
    middle = centres.mean(axis=0)
    unit = float(np.linalg.norm(centres - middle, axis=1).max()) or 1.0
    place = start(middle)

    farthest = np.log(options.scale_range)  # a start that nothing agrees with would run off to no size at all

    def moved(x: Array) -> Similarity:
        scale = start.scale * float(np.exp(np.clip(x[SCALE], -farthest, farthest)))
        rotation = exp_so3(x[None, :3])[0] @ start.rotation
        return Similarity(scale, rotation, place + start.scale * unit * x[3:SCALE] - scale * rotation @ middle)

    def residual(x: Array) -> Array:
        offset, front = _offsets_px(cameras, shared, moved(x))
        return np.where(front[:, None], np.clip(offset, -BEHIND_PX, BEHIND_PX), BEHIND_PX).ravel()

    found = least_squares(
        residual,
        np.zeros(SIMILARITY_NUMBERS),
        loss="cauchy",
        f_scale=options.loss_scale * keypoint_error_px,
        x_scale="jac",
        max_nfev=options.max_refined,
    )
    return moved(found.x)


def moved_part(cameras: Bundle, part: Mask, similarity: Similarity) -> Bundle:
    """The bundle whose photos of the part (photos,) a similarity of the world takes with it; points stay."""
    rotation = cameras.cam_from_world[part, :, :3] @ similarity.rotation.T
    centre = similarity(camera_centres(cameras.cam_from_world[part]))
    poses = cameras.cam_from_world.copy()
    poses[part] = np.concatenate([rotation, -np.einsum("nij,nj->ni", rotation, centre)[:, :, None]], axis=2)
    return replace(cameras, cam_from_world=poses)
