"""The observations of a bundle adjustment in the memory of a torch device, and segment sums in a fixed order."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .objective import Objective
from .reprojection import FreeParameters, ObservationNoise

TORCH_CHUNK_SIZE = 1 << 18
"""Observations linearized together: intermediate tensors take some hundred megabytes."""


PART_LENGTH = 64
"""Rows of one owner that are added up one after the other. A GPU does that in one thread per sum: for the 2,500
observations of a photo that is a millisecond of waiting for memory, in parts a twentieth of it."""


class OwnerParts:
    """Rows that are sorted by owner in parts of at most PART_LENGTH, each of one owner."""

    def __init__(self, counts: NDArray[np.int64], device: torch.device) -> None:
        parts = -(-counts // PART_LENGTH)
        lengths = np.full(parts.sum(), PART_LENGTH)
        lengths[(np.cumsum(parts) - 1)[counts > 0]] = (counts - (parts - 1) * PART_LENGTH)[counts > 0]
        self.longest = int(lengths.max(initial=1))
        self.length = torch.from_numpy(lengths).to(device)
        self.start = torch.from_numpy(np.cumsum(lengths) - lengths).to(device)
        self._of_owner = torch.from_numpy(parts).to(device)

    def sums(self, of_parts: Tensor) -> Tensor:
        """(owners, n) from (parts, n)."""
        return _summed(of_parts, self._of_owner)

    def summed(self, rows: Tensor) -> Tensor:
        """(owners, n) from (rows, n)."""
        return self.sums(_summed(rows, self.length))


class TorchSegmentSums:
    """Sums of rows by owner, sorted by owner first where they are not; their order, and so their bits, are fixed.

    Rows of an owner are summed in parts of PART_LENGTH, and then the parts.
    """

    def __init__(self, owner: NDArray[np.int64], owners: int, device: torch.device) -> None:
        counts = np.bincount(owner, minlength=owners)
        self._parts = OwnerParts(counts, device) if counts.max(initial=0) > PART_LENGTH else None
        self._lengths = torch.from_numpy(counts).to(device)
        self.order: Tensor | None = None
        if (np.diff(owner) < 0).any():
            self.order = torch.from_numpy(np.argsort(owner, kind="stable")).to(device)

    def __call__(self, rows: Tensor) -> Tensor:
        """(owners, ...) from (n, ...)."""
        return self.of_sorted(rows if self.order is None else rows[self.order])

    def of_sorted(self, rows: Tensor) -> Tensor:
        """The same from rows that are in the order of their owners."""
        flat = rows.reshape(len(rows), -1)
        sums = _summed(flat, self._lengths) if self._parts is None else self._parts.summed(flat)
        return sums.reshape(len(sums), *rows.shape[1:])


def _summed(rows: Tensor, lengths: Tensor) -> Tensor:
    return torch.segment_reduce(rows.contiguous(), "sum", lengths=lengths, axis=0, unsafe=True)


class TorchLayout:
    """The constant part of an objective whose observations are one block, on the device."""

    def __init__(self, objective: Objective, device: torch.device, points: int) -> None:
        self.device = device
        order, free = objective.order, objective.free
        self.shared = free.intrinsics_size > 0 and not order.camera_per_photo
        photo, point = order.photo.astype(np.int64), order.point
        camera = order.camera_of_photo[photo]
        self.photo, self.point, self.camera = (self.to_device(v) for v in (photo, point, camera))
        self.xy = self.to_device(order.xy)
        self.fisheye = self.to_device(order.fisheye) if order.fisheye.any() else None
        intrinsics = tuple(
            tuple((i, share if isinstance(share, float) else self.to_device(share)) for i, share in parts)
            for parts in free.intrinsics
        )
        self.free: FreeParameters = replace(free, intrinsics=intrinsics)
        self.noise: ObservationNoise = objective.noise.map(self.to_device)
        self.point_sums = TorchSegmentSums(point, points, device)
        self._photo_sums_by_camera = TorchSegmentSums(np.sort(order.camera_of_photo), len(order.cameras), device)
        self.photos_by_camera = self.to_device(np.argsort(order.camera_of_photo, kind="stable"))
        self.camera_of_photo = self.to_device(order.camera_of_photo)
        self._photo_counts = np.bincount(photo, minlength=len(order.photos))
        self.chunks = self._chunks(photo, len(order.photos))
        if self.shared:
            key = camera * points + point
            pairs, pair_of_observation = np.unique(key, return_inverse=True)  # pairs of a camera and a point
            self.pair_sums = TorchSegmentSums(pair_of_observation, len(pairs), device)
            self.pair_point = self.to_device(pairs % points)
            self.pair_sums_by_camera = TorchSegmentSums(pairs // points, len(order.cameras), device)

    @cached_property
    def by_point(self) -> Tensor:
        """(m,) place of each observation where they are sorted by point."""
        order = self.point_sums.order
        counted = torch.arange(len(self.point), device=self.device)
        return counted if order is None else torch.empty_like(order).scatter_(0, order, counted)

    @cached_property
    def photo_parts(self) -> OwnerParts:
        """The observations of each photo."""
        return OwnerParts(self._photo_counts, self.device)

    def to_device(self, values: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)

    def empty(self, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=self.device)

    def observed_intrinsics(self, intrinsics: Tensor, part: slice) -> tuple[Tensor, Tensor | bool]:
        """Intrinsics (8, n) of some observations, from (8, k), and whether each is a fisheye."""
        camera = self.camera[part]
        return intrinsics[:, camera], False if self.fisheye is None else self.fisheye[camera]

    def camera_sums(self, of_photos: Tensor) -> Tensor:
        """(k, ...) sums over the photos of each camera."""
        return self._photo_sums_by_camera(of_photos[self.photos_by_camera])

    def _chunks(self, photo: NDArray[np.int64], photos: int) -> list[tuple[slice, slice, TorchSegmentSums]]:
        """Chunks of observations of consecutive photos: their rows, their photos, and the sums by photo."""
        bounds = np.searchsorted(photo, np.arange(photos + 1)).tolist()
        out, begin = [], 0
        for end in range(1, len(bounds)):
            if end == len(bounds) - 1 or bounds[end + 1] - bounds[begin] > TORCH_CHUNK_SIZE:
                part = slice(bounds[begin], bounds[end])
                owner = photo[part] - begin
                out.append((part, slice(begin, end), TorchSegmentSums(owner, end - begin, self.device)))
                begin = end
        return out
