"""Steps of bundle adjustment of photos that rigs tie to each other.

A photo of sensor S in frame F has the pose S o F. To first order its change is linear in those of the frame and of the
sensor,

    d_photo = T d_frame + U d_sensor,    T = [ R_S  0  ]    U = [ I            0 ]
                                             [ 0   R_S ],       [ -[t - t_S]x  I ],

so that the reduced system of the photos becomes that of frames and sensors by T and U from both sides, and the rigs
hold exactly, as steps of frames do not change what is between their photos.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import bsr_matrix

from ..arrays import Array, Index
from ..rigs import Rigs
from ..rotations import exp_so3, skew
from .arrowhead import ArrowheadSystem, SolvePlan, plan_solve


@dataclass(frozen=True, eq=False)
class RigStructure:
    """Which photos of an ObservationOrder move together, and how the system of their frames is solved."""

    frame_of_photo: Index
    """(c,) frames are counted anew."""
    sensor_of_photo: Index
    """(c,) row of BundleState.sensors; -1 outside of rigs."""
    refined: Index
    """(r,) rows of the sensors that are unknowns."""
    place: Index
    """(g,) the block of the frames' system that each block of the photos' is added to; -1 within a frame."""
    plan: SolvePlan


@dataclass(frozen=True, eq=False)
class RigMotion:
    """Derivatives of the poses of photos by those of frames and of refined sensors."""

    by_frame: Array
    """(c, p, p) T."""
    by_sensor: Array
    """(c p, r p) U."""


def rig_structure(rigs: Rigs, photos: Index, plan: SolvePlan, pose_size: int, border: int) -> RigStructure:
    """The structure for these photos (c,) of the bundle, whose reduced system has this plan and a border so wide.

    Sensors are refined only where poses have six unknowns: positions alone do not tell how a sensor is turned.
    """
    _, frame_of_photo = np.unique(rigs.tied[photos], return_inverse=True)
    sensor_of_photo = np.where(rigs.known, rigs.sensor_of_photo, -1)[photos]
    refined = np.zeros(0, np.int64)
    if pose_size == 6:
        refined = np.intersect1d(np.flatnonzero(rigs.refined), sensor_of_photo)
    first, second = frame_of_photo[plan.row], frame_of_photo[plan.column]
    frames = int(frame_of_photo.max(initial=-1)) + 1
    code = np.minimum(first, second) * frames + np.maximum(first, second)
    codes = np.unique(code[first != second])
    place = np.where(first == second, -1, np.searchsorted(codes, code))
    whole = plan_solve(codes // frames, codes % frames, frames, pose_size, border + pose_size * len(refined))
    return RigStructure(frame_of_photo, sensor_of_photo, refined, place, whole)


def rig_motion(structure: RigStructure, poses: Array, sensors: Array, pose_size: int) -> RigMotion:
    """Linearize at the poses (12, c) of the photos and the sensors (s, 3, 4)."""
    sensor = np.concatenate([sensors, np.eye(3, 4)[None]])[structure.sensor_of_photo]
    c, p, r = len(sensor), pose_size, len(structure.refined)
    by_frame = np.zeros((c, p, p))
    for begin in range(0, p, 3):
        by_frame[:, begin : begin + 3, begin : begin + 3] = sensor[:, :, :3]
    by_sensor = np.zeros((c, p, r, p))
    for column, row in enumerate(structure.refined.tolist()):
        own = np.flatnonzero(structure.sensor_of_photo == row)
        by_sensor[own, :, column] = np.eye(p)
        translation = poses.T.reshape(-1, 3, 4)[own, :, 3]
        by_sensor[own, 3:, column, :3] = -skew(translation - sensor[own, :, 3])
    return RigMotion(by_frame, by_sensor.reshape(c * p, r * p))


def frame_system(
    structure: RigStructure, motion: RigMotion, plan: SolvePlan, photos: ArrowheadSystem, right: Array
) -> tuple[ArrowheadSystem, Array]:
    """The system of frames, refined sensors and shared cameras from that of photos and shared cameras, of this plan.

    Refined sensors join the cameras in the border.
    """
    t, u, frame = motion.by_frame, motion.by_sensor, structure.frame_of_photo
    (c, p, _), frames = t.shape, int(frame.max(initial=-1)) + 1
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


def move_sensors(structure: RigStructure, poses: Array, sensors: Array, step: Array) -> tuple[Array, Array]:
    """Apply steps (r, 6) of the refined sensors to the poses (c, 3, 4) of their photos and to the sensors (s, 3, 4):
    R_S' = exp(omega) R_S, t_S' = t_S + dt."""
    change = np.zeros((len(sensors) + 1, 6))
    change[structure.refined] = step
    turn = exp_so3(change[:, :3])
    moved = turn[:-1] @ sensors
    moved[:, :, 3] = sensors[:, :, 3] + change[:-1, 3:]
    own = structure.sensor_of_photo
    before, after = (np.concatenate([each, np.zeros((1, 3, 4))])[own, :, 3] for each in (sensors, moved))
    out = turn[own] @ poses
    out[:, :, 3] = np.einsum("cij,cj->ci", turn[own], poses[:, :, 3] - before) + after
    return out, moved
