"""Rigs: cameras that are fixed to each other, and the photos that they took at the same moments.

A photo taken by a sensor of a rig has the pose

    cam_from_world = sensor_from_rig o frame_from_world,

with one frame_from_world for all photos of a moment. The views that a panorama is cut into are a rig without baselines,
and the panorama is its frame. Few photos of a rig see much of the scene by themselves; together they do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .arrays import Array, Index, Mask


@dataclass(frozen=True, eq=False)
class Rigs:
    """Which photos were taken together, and by which sensors. A photo outside of all rigs is a frame of its own."""

    frame_of_photo: Index
    """(photos,) photos of one frame were taken at one moment by one rig."""
    sensor_of_photo: Index
    """(photos,) row of sensor_from_rig; -1 for photos outside of all rigs."""
    rig_of_sensor: Index
    """(sensors,)."""
    sensor_from_rig: Array
    """(sensors, 3, 4) float64. The first sensor of a rig is its reference, with the identity; translations are zero
    where centres coincide, else in one unit for all rigs, which becomes that of the world. NaN where unknown."""
    refined: Mask
    """(sensors,) whether bundle adjustment changes the pose of the sensor; never so of references."""

    def of_photos(self, photos: Index) -> Rigs:
        """The rigs of some of the photos, in this order; sensors keep their numbers."""
        return replace(self, frame_of_photo=self.frame_of_photo[photos], sensor_of_photo=self.sensor_of_photo[photos])

    def scaled(self, factor: float) -> Rigs:
        """The rigs with all baselines so many times as long."""
        return replace(self, sensor_from_rig=self.sensor_from_rig * [1.0, 1.0, 1.0, factor])

    @property
    def known(self) -> Mask:
        """(photos,) which have a sensor of known pose."""
        return np.asarray((self.sensor_of_photo >= 0) & np.isfinite(self.sensor_poses()[:, 0, 0]))

    @property
    def tied(self) -> Index:
        """(photos,) frame of each photo whose sensor has a known pose; all others are frames of their own."""
        more = int(self.frame_of_photo.max(initial=-1)) + 1
        return np.where(self.known, self.frame_of_photo, more + np.arange(len(self.frame_of_photo)))

    @property
    def central(self) -> bool:
        """Whether the centres of all sensors of each rig coincide."""
        return not np.nan_to_num(self.sensor_from_rig[:, :, 3]).any()

    def sensor_poses(self) -> Array:
        """(photos, 3, 4) sensor_from_rig of each photo, the identity outside of rigs."""
        identity = np.eye(3, 4)[None]
        return np.concatenate([self.sensor_from_rig, identity])[self.sensor_of_photo]


def frames_of(rigs: Rigs | None, photos: int) -> Index:
    """(photos,) frame that each photo moves with; without rigs each photo is one."""
    return np.arange(photos) if rigs is None else rigs.tied


def frame_poses(rigs: Rigs, cam_from_world: Array) -> Array:
    """(photos, 3, 4) frame_from_world by the pose (photos, 3, 4) of each photo."""
    sensor = rigs.sensor_poses()
    out = np.empty_like(cam_from_world)
    out[:, :, :3] = sensor[:, :, :3].transpose(0, 2, 1) @ cam_from_world[:, :, :3]
    out[:, :, 3] = np.einsum("pji,pj->pi", sensor[:, :, :3], cam_from_world[:, :, 3] - sensor[:, :, 3])
    return out


def photo_poses(rigs: Rigs, frame_from_world: Array) -> Array:
    """(photos, 3, 4) cam_from_world by the pose (photos, 3, 4) of the frame of each photo."""
    sensor = rigs.sensor_poses()
    out = sensor[:, :, :3] @ frame_from_world
    out[:, :, 3] += sensor[:, :, 3]
    return out


def whole_frames(rigs: Rigs, cam_from_world: Array, weight: Index | None = None) -> Array:
    """Give all photos of a frame the poses that one photo of it determines: that of most `weight` (photos,), or the
    first one that has a pose."""
    posed = np.isfinite(cam_from_world[:, 0, 0])
    score = np.where(posed & rigs.known, 1 if weight is None else 1 + weight, 0)
    order = np.lexsort((np.arange(len(score)), -score, rigs.frame_of_photo))
    frame = rigs.frame_of_photo[order]
    leader = np.zeros(int(rigs.frame_of_photo.max(initial=-1)) + 1, np.int64)
    leader[frame[::-1]] = order[::-1]
    frame_from_world = frame_poses(rigs, cam_from_world)[leader[rigs.frame_of_photo]]
    return np.where(rigs.known[:, None, None], photo_poses(rigs, frame_from_world), cam_from_world)
