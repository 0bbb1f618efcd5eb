"""The damped step of bundle adjustment in torch, of photos that rigs tie to each other.

With T and U of `rig_steps`, by which photos move with their frames and with refined sensors, the system of frames,
sensors and shared cameras is that of photos and cameras, S, with [T U] from both sides. Like S it is known by its
products with vectors only: photos from frames and sensors, S, and back by sums over the photos of each.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .normal_equations import BundleState
from .rig_steps import TiedPhotos, rig_motion
from .torch_conjugate_gradients import Blocks, conjugate_gradients, inverse_or_zero, row_products
from .torch_layout import TorchLayout, TorchSegmentSums
from .torch_schur import ImplicitSchurComplement


class TorchTies:
    """Which photos move together, on the device."""

    def __init__(self, tied: TiedPhotos, layout: TorchLayout) -> None:
        self.tied, self.refined = tied, len(tied.refined)
        self.frame, self.sensor = (layout.to_device(v) for v in (tied.frame_of_photo, tied.unknown_of_photo))
        self._frame_sums = TorchSegmentSums(tied.frame_of_photo, tied.frames, layout.device)
        self._sensor_sums = TorchSegmentSums(tied.unknown_of_photo, self.refined + 1, layout.device)

    def frame_sums(self, of_photos: Tensor) -> Tensor:
        """(f, ...) sums over the photos of each frame."""
        return self._frame_sums(of_photos)

    def sensor_sums(self, of_photos: Tensor) -> Tensor:
        """(r, ...) sums over the photos of each refined sensor."""
        return self._sensor_sums(of_photos)[: self.refined]


class FramesSchurComplement:
    """The system of frames, refined sensors and shared cameras, from that of photos and cameras at the same state."""

    def __init__(self, schur: ImplicitSchurComplement, ties: TorchTies, state: BundleState) -> None:
        assert state.sensors is not None
        motion = rig_motion(ties.tied, state.poses, state.sensors, schur.photo.shape[1])
        self.schur, self.ties = schur, ties
        self.by_frame, self.by_sensor = (schur.layout.to_device(t) for t in (motion.by_frame, motion.by_sensor))

    def solve(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Changes of photos with their frames (c, d), of sensors (r, d), of cameras (k, q), and of photos in all."""
        frames, sensors, cameras = conjugate_gradients(self.multiply, self._inverse_blocks(), self.right())
        with_frames = row_products(self.by_frame, frames[self.ties.frame])
        return with_frames, sensors, cameras, with_frames + self._with_sensors(sensors)

    def multiply(self, x: Blocks) -> Blocks:
        frames, sensors, cameras = x
        photos = row_products(self.by_frame, frames[self.ties.frame]) + self._with_sensors(sensors)
        return self._gathered(self.schur.multiply((photos, cameras)))

    def right(self) -> Blocks:
        return self._gathered(self.schur.right())

    def _with_sensors(self, sensors: Tensor) -> Tensor:
        """(c, d) what photos move with refined sensors (r, d)."""
        with_none = torch.cat([sensors, sensors.new_zeros(1, sensors.shape[1])])
        return row_products(self.by_sensor, with_none[self.ties.sensor])

    def _gathered(self, blocks: Blocks) -> Blocks:
        """[T U]^T times what photos have."""
        photos, cameras = blocks
        frames = self.ties.frame_sums(row_products(self.by_frame.mT, photos))
        return frames, self.ties.sensor_sums(row_products(self.by_sensor.mT, photos)), cameras

    def _inverse_blocks(self) -> Blocks:
        """Of each frame, sensor and camera alone, without what couples photos of one frame: the sums stay positive."""
        photos, cameras = self.schur.diagonal_blocks()
        frames = self.ties.frame_sums(self.by_frame.mT @ photos @ self.by_frame)
        sensors = self.ties.sensor_sums(self.by_sensor.mT @ photos @ self.by_sensor)
        return tuple(inverse_or_zero(blocks) for blocks in (frames, sensors, cameras))
