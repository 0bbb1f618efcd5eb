"""Poses of the sensors of a rig, from those of its photos: where they are unknown, and how large the rig is."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated

import numpy as np

from ..arrays import Array, Index
from ..option_ranges import Angle, Count, Positive, Within
from ..poses import camera_centres
from ..rigs import Rigs, frame_poses, photo_poses, whole_frames
from ..rotations import nearest_rotation, rotation_angle_deg


@dataclass(frozen=True)
class RigSensorOptions:
    """When photos are taken to show that a sensor is fixed to the reference of its rig."""

    min_frames: Count = 3
    """Frames in which both have a pose, at least: two agree by chance, of two people who walk side by side."""
    max_turn_deg: Angle = 2.0
    """The relative rotation of a frame agrees with that of the others within it: what averaged rotations are off by."""
    min_share: Annotated[float, Within("(0, 1]")] = 0.7
    """Least share of the frames that agree. Below, no rig took the photos, or many poses are wrong."""
    max_shift: Positive = 0.05
    """Largest median deviation of the relative positions, in the extent of the camera centres."""


def with_found_sensors(rigs: Rigs, cam_from_world: Array, options: RigSensorOptions | None = None) -> Rigs:
    """The rigs with the poses of those sensors that were unknown and that photos (photos, 3, 4) agree on; the others
    stay unknown. Bundle adjustment refines what was found."""
    options = options or RigSensorOptions()
    posed = np.isfinite(cam_from_world[:, 0, 0])
    sensors, refined = rigs.sensor_from_rig.copy(), rigs.refined.copy()
    centres = camera_centres(cam_from_world[posed])
    extent = float(np.linalg.norm(np.ptp(centres, axis=0))) if len(centres) else 0.0
    references = np.unique(rigs.rig_of_sensor, return_index=True)[1]
    photo_of = defaultdict[int, dict[int, int]](dict)  # by sensor, then by frame
    for photo in np.flatnonzero(posed & (rigs.sensor_of_photo >= 0)).tolist():
        photo_of[int(rigs.sensor_of_photo[photo])][int(rigs.frame_of_photo[photo])] = photo
    for sensor in np.flatnonzero(np.isnan(sensors[:, 0, 0])).tolist():
        reference = photo_of[int(references[rigs.rig_of_sensor[sensor]])]
        both = [(reference[frame], photo) for frame, photo in photo_of[sensor].items() if frame in reference]
        if len(both) < options.min_frames:
            continue
        first, second = cam_from_world[np.array(both).T]
        turn = second[:, :, :3] @ first[:, :, :3].transpose(0, 2, 1)
        shift = second[:, :, 3] - np.einsum("fij,fj->fi", turn, first[:, :, 3])
        off = rotation_angle_deg(turn[:, None] @ turn[None].transpose(0, 1, 3, 2))
        agree = off[int(np.argmin(np.median(off, axis=1)))] <= options.max_turn_deg
        middle = np.median(shift[agree], axis=0)
        spread = float(np.median(np.linalg.norm(shift[agree] - middle, axis=1)))
        if agree.mean() >= options.min_share and spread <= options.max_shift * extent:
            sensors[sensor] = np.column_stack([nearest_rotation(turn[agree].sum(axis=0)), middle])
            refined[sensor] = True
    return replace(rigs, sensor_from_rig=sensors, refined=refined)


def rig_scale(rigs: Rigs, cam_from_world: Array) -> float | None:
    """How many units of the rigs one unit of the world is, from the distances of photos (photos, 3, 4) of one frame;
    None where no two photos tell."""
    photos = np.flatnonzero(rigs.known & np.isfinite(cam_from_world[:, 0, 0]))
    order = photos[np.argsort(rigs.frame_of_photo[photos], kind="stable")]
    sensor = rigs.sensor_poses()[order]
    mount = camera_centres(sensor)
    centre = camera_centres(cam_from_world[order])
    same = rigs.frame_of_photo[order][1:] == rigs.frame_of_photo[order][:-1]
    wanted = np.linalg.norm(np.diff(mount, axis=0)[same], axis=1)
    found = np.linalg.norm(np.diff(centre, axis=0)[same], axis=1)
    told = (wanted > 0.0) & (found > 0.0)
    return float(np.exp(np.median(np.log(wanted[told] / found[told])))) if told.any() else None


def with_baselines(rigs: Rigs, cam_from_world: Array, growth: float) -> Array:
    """The poses of photos (photos, 3, 4), those of a frame with one centre, in a world that grows by `growth` while the
    rigs are as large as they are."""
    frames = frame_poses(rigs.scaled(0.0), cam_from_world)
    frames[:, :, 3] *= growth
    return photo_poses(rigs, frames)


def growths_to_try(rigs: Rigs, cam_from_world: Array, ratios: tuple[float, float], count: int) -> Array:
    """(count,) growths of the world under which the extent of the camera centres is so many times that of the largest
    rig, from the first ratio to the second, evenly on a logarithmic scale."""
    centres = camera_centres(cam_from_world)
    mounts = camera_centres(rigs.sensor_from_rig)
    extent = float(np.linalg.norm(np.nanmax(centres, axis=0) - np.nanmin(centres, axis=0)))
    size = float(np.nanmax(np.linalg.norm(mounts, axis=1)))
    return np.geomspace(*ratios, count) * size / max(extent, 1e-300)


def fitted_to_rigs(rigs: Rigs, cam_from_world: Array) -> tuple[Array, float]:
    """Poses that the rigs hold for exactly, near those of photos (photos, 3, 4) that they may not; and the growth of
    the world, where the baselines of the rigs give its scale.

    Each frame takes the pose of the photo that most of its others agree with.
    """
    growth = 1.0 if rigs.central else rig_scale(rigs, cam_from_world) or 1.0
    poses = cam_from_world.copy()
    poses[:, :, 3] *= growth
    return whole_frames(rigs, poses, _supporters(rigs, frame_poses(rigs, poses))), growth


def _supporters(rigs: Rigs, frame_from_world: Array) -> Index:
    """(photos,) number of photos of the same frame that it is turned alike with."""
    out = np.zeros(len(frame_from_world), np.int64)
    posed = np.flatnonzero(rigs.known & np.isfinite(frame_from_world[:, 0, 0]))
    order = posed[np.argsort(rigs.frame_of_photo[posed], kind="stable")]
    bounds = np.flatnonzero(np.diff(rigs.frame_of_photo[order], prepend=-1, append=-1))
    for begin, end in pairwise(bounds.tolist()):
        own = order[begin:end]
        turn = frame_from_world[own, :, :3]
        off = rotation_angle_deg(turn[:, None] @ turn[None].transpose(0, 1, 3, 2))
        out[own] = (off < RigSensorOptions.max_turn_deg).sum(axis=1)
    return out
