"""Steps of bundle adjustment of photos that rigs tie to each other.

A photo of sensor S in frame F has the pose S o F. To first order its change is linear in those of the frame and of the
sensor,

    d_photo = T d_frame + U d_sensor,    T = [ R_S  0  ]    U = [ I            0 ]
                                             [ 0   R_S ],       [ -[t - t_S]x  I ],

so that the reduced system of the photos becomes that of frames and sensors by T and U from both sides, and the rigs
hold exactly, as steps of frames do not change what is between their photos.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import bsr_matrix

from ..arrays import Array, Index
from ..rigs import Rigs
from ..rotations import exp_so3, skew
from .arrowhead import ArrowheadSystem, SolvePlan, plan_solve
from .normal_equations import BundleState


@dataclass(frozen=True, eq=False)
class TiedPhotos:
    """Which photos of an ObservationOrder move together."""

    frame_of_photo: Index
    """(c,) frames are counted anew."""
    sensor_of_photo: Index
    """(c,) row of BundleState.sensors; -1 outside of rigs."""
    refined: Index
    """(r,) rows of the sensors that are unknowns."""

    @property
    def frames(self) -> int:
        return int(self.frame_of_photo.max(initial=-1)) + 1

    @property
    def unknown_of_photo(self) -> Index:
        """(c,) place in `refined` of the sensor of each photo; r where its pose is no unknown."""
        place = np.full(max(self.sensor_of_photo.max(initial=-1), self.refined.max(initial=-1)) + 2, len(self.refined))
        place[self.refined] = np.arange(len(self.refined))
        return place[self.sensor_of_photo]  # the last one is that of -1


@dataclass(frozen=True, eq=False)
class RigStructure(TiedPhotos):
    """And how the system of their frames is solved."""

    place: Index
    """(g,) the block of the frames' system that each block of the photos' is added to; -1 within a frame."""
    plan: SolvePlan


@dataclass(frozen=True, eq=False)
class RigMotion:
    """Derivatives of the poses of photos by those of frames and of refined sensors."""

    by_frame: Array
    """(c, p, p) T."""
    by_sensor: Array
    """(c, p, p) U, by the sensor of each photo; zero where that is not refined."""


def tied_photos(rigs: Rigs, photos: Index, pose_size: int) -> TiedPhotos:
    """Of these photos (c,) of the bundle.

    Sensors are refined only where poses have six unknowns: positions alone do not tell how a sensor is turned.
    """
    _, frame_of_photo = np.unique(rigs.tied[photos], return_inverse=True)
    sensor_of_photo = np.where(rigs.known, rigs.sensor_of_photo, -1)[photos]
    refined = np.zeros(0, np.int64)
    if pose_size == 6:
        refined = np.intersect1d(np.flatnonzero(rigs.refined), sensor_of_photo)
    return TiedPhotos(frame_of_photo, sensor_of_photo, refined)


def rig_structure(tied: TiedPhotos, plan: SolvePlan, pose_size: int, border: int) -> RigStructure:
    """The structure for photos whose reduced system has this plan and a border so wide."""
    frames, refined = tied.frames, tied.refined
    first, second = tied.frame_of_photo[plan.row], tied.frame_of_photo[plan.column]
    code = np.minimum(first, second) * frames + np.maximum(first, second)
    codes = np.unique(code[first != second])
    place = np.where(first == second, -1, np.searchsorted(codes, code))
    whole = plan_solve(codes // frames, codes % frames, frames, pose_size, border + pose_size * len(refined))
    return RigStructure(tied.frame_of_photo, tied.sensor_of_photo, refined, place, whole)


def rig_motion(tied: TiedPhotos, poses: Array, sensors: Array, pose_size: int) -> RigMotion:
    """Linearize at the poses (12, c) of the photos and the sensors (s, 3, 4)."""
    sensor = np.concatenate([sensors, np.eye(3, 4)[None]])[tied.sensor_of_photo]
    c, p = len(sensor), pose_size
    by_frame, by_sensor = np.zeros((2, c, p, p))
    for begin in range(0, p, 3):
        by_frame[:, begin : begin + 3, begin : begin + 3] = sensor[:, :, :3]
    if len(tied.refined):  # poses have six unknowns
        own = np.flatnonzero(tied.unknown_of_photo < len(tied.refined))
        by_sensor[own] = np.eye(p)
        by_sensor[own, 3:, :3] = -skew(poses.T.reshape(-1, 3, 4)[own, :, 3] - sensor[own, :, 3])
    return RigMotion(by_frame, by_sensor)


def frame_system(
    structure: RigStructure, motion: RigMotion, plan: SolvePlan, photos: ArrowheadSystem, right: Array
) -> tuple[ArrowheadSystem, Array]:
    """The system of frames, refined sensors and shared cameras from that of photos and shared cameras, of this plan.

    Refined sensors join the cameras in the border.
    """
    t, frame, frames = motion.by_frame, structure.frame_of_photo, structure.frames
    (c, p, _), r = t.shape, len(structure.refined)
    columns = np.zeros((c, p, r + 1, p))  # the last ones are those of photos whose sensors are no unknowns
    columns[np.arange(c), :, structure.unknown_of_photo] = motion.by_sensor
    u = columns[:, :, :r].reshape(c * p, r * p)
    transposed = t.transpose(0, 2, 1)
    blocks = transposed[plan.row] @ photos.off_diagonal @ t[plan.column]
    diagonal, off_diagonal = np.zeros((frames, p, p)), np.zeros((len(structure.plan.row), p, p))
    np.add.at(diagonal, frame, transposed @ photos.diagonal @ t)
    within = structure.place < 0
    np.add.at(diagonal, frame[plan.row[within]], blocks[within] + blocks[within].transpose(0, 2, 1))
    turned = (frame[plan.row] > frame[plan.column])[:, None, None]
    blocks = np.where(turned, blocks.transpose(0, 2, 1), blocks)
    np.add.at(off_diagonal, structure.place[~within], blocks[~within])

    pulled = _times(plan, photos, u)  # S U
    whole = np.concatenate([pulled, photos.border, right[: c * p, None]], axis=1)
    sums = np.zeros((frames, p, whole.shape[1]))
    np.add.at(sums, frame, transposed @ whole.reshape(c, p, -1))
    by_frame = sums.reshape(frames * p, -1)
    across = u.T @ photos.border
    corner = np.block([[u.T @ pulled, across], [across.T, photos.corner]])
    system = ArrowheadSystem(diagonal, off_diagonal, by_frame[:, :-1], corner)
    return system, np.concatenate([by_frame[:, -1], u.T @ right[: c * p], right[c * p :]])


def _times(plan: SolvePlan, system: ArrowheadSystem, columns: Array) -> Array:
    """A x for the block of the photos A and few columns x (c p, n)."""
    c, p, _ = system.diagonal.shape
    if not columns.shape[1]:
        return np.zeros_like(columns)
    row = np.concatenate([np.arange(c), plan.row, plan.column])
    column = np.concatenate([np.arange(c), plan.column, plan.row])
    blocks = np.concatenate([system.diagonal, system.off_diagonal, system.off_diagonal.transpose(0, 2, 1)])
    order = np.lexsort((column, row))
    starts = np.searchsorted(row[order], np.arange(c + 1))
    return np.asarray(bsr_matrix((blocks[order], column[order], starts), shape=(c * p, c * p)) @ columns)


def photo_changes(tied: TiedPhotos, motion: RigMotion, frames: Array, sensors: Array) -> tuple[Array, Array]:
    """What photos move with their frames (f, p) (c, p), and in all, with the refined sensors (r, p)."""
    with_frames = np.einsum("cij,cj->ci", motion.by_frame, frames[tied.frame_of_photo])
    own = np.concatenate([sensors, np.zeros((1, frames.shape[1]))])[tied.unknown_of_photo]
    return with_frames, with_frames + np.einsum("cij,cj->ci", motion.by_sensor, own)


def move_sensors(tied: TiedPhotos, state: BundleState, step: Array | None) -> BundleState:
    """Apply steps (r, 6) of the refined sensors to them and to their photos: R_S' = exp(omega) R_S, t_S' = t_S + dt."""
    if step is None or state.sensors is None or not len(step):
        return state
    change = np.zeros((len(state.sensors) + 1, 6))
    change[tied.refined] = step
    turn = exp_so3(change[:, :3])
    sensors = turn[:-1] @ state.sensors
    sensors[:, :, 3] = state.sensors[:, :, 3] + change[:-1, 3:]
    own, poses = tied.sensor_of_photo, state.poses.T.reshape(-1, 3, 4)
    before, after = (np.concatenate([each, np.zeros((1, 3, 4))])[own, :, 3] for each in (state.sensors, sensors))
    moved = turn[own] @ poses
    moved[:, :, 3] = np.einsum("cij,cj->ci", turn[own], poses[:, :, 3] - before) + after
    return replace(state, poses=np.ascontiguousarray(moved.reshape(-1, 12).T), sensors=sensors)
