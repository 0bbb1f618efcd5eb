"""How the observations of an adjustment lie on a device of torch, and sums over them in a fixed order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .objective import Objective
from .reprojection import Freedom, Noise

CHUNK = 1 << 18
"""Observations at a time: what arises between them and the sums takes some hundred megabytes."""


class Segments:
    """Sums over runs of rows that belong together, after sorting where they do not lie so."""

    def __init__(self, owner: NDArray[np.int64], owners: int, device: torch.device) -> None:
        counts = np.bincount(owner, minlength=owners)
        self.lengths = torch.from_numpy(counts).to(device)
        self.order: Tensor | None = None
        if (np.diff(owner) < 0).any():
            self.order = torch.from_numpy(np.argsort(owner, kind="stable")).to(device)

    def __call__(self, rows: Tensor) -> Tensor:
        """(owners, ...) from (n, ...)."""
        flat = rows.reshape(len(rows), -1)
        if self.order is not None:
            flat = flat[self.order]
        summed = torch.segment_reduce(flat.contiguous(), "sum", lengths=self.lengths, axis=0, unsafe=True)
        return summed.reshape(len(self.lengths), *rows.shape[1:])


class Layout:
    """What an adjustment, whose sights are one block, needs on the device and never changes."""

    def __init__(self, task: Objective, device: torch.device, points: int) -> None:
        self.device = device
        sights, free = task.sights, task.free
        self.shared = free.lens > 0 and not sights.own
        photo, point = sights.photo.astype(np.int64), sights.point
        camera = sights.camera_of_photo[photo]
        self.photo, self.point, self.camera = (self.sent(v) for v in (photo, point, camera))
        self.xy = self.sent(sights.xy)
        self.fisheye = self.sent(sights.fisheye) if sights.fisheye.any() else None
        columns = tuple(
            tuple((i, share if isinstance(share, float) else self.sent(share)) for i, share in parts)
            for parts in free.columns
        )
        self.free: Freedom = replace(free, columns=columns)
        self.noise: Noise = task.noise.each(self.sent)
        self.by_point = Segments(point, points, device)
        self.by_camera = Segments(np.sort(sights.camera_of_photo), len(sights.cameras), device)
        self.photos_by_camera = self.sent(np.argsort(sights.camera_of_photo, kind="stable"))
        self.camera_of_photo = self.sent(sights.camera_of_photo)
        self.chunks = self._chunks(photo, len(sights.photos))
        if self.shared:
            key = camera * points + point
            pairs, view = np.unique(key, return_inverse=True)
            self.by_view = Segments(view, len(pairs), device)
            self.view_camera, self.view_point = self.sent(pairs // points), self.sent(pairs % points)
            self.views_by_camera = Segments(pairs // points, len(sights.cameras), device)
            self.views_by_point = Segments(pairs % points, points, device)

    def sent(self, values: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)

    def empty(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float64, device=self.device)

    def lenses(self, intrinsics: Tensor, part: slice) -> tuple[Tensor, Tensor | bool]:
        """Intrinsics (8, n) of some observations, out of (8, k), and which are of fisheyes."""
        camera = self.camera[part]
        return intrinsics[:, camera], False if self.fisheye is None else self.fisheye[camera]

    def camera_sums(self, of_photos: Tensor) -> Tensor:
        """(k, ...) sums over the photos of each camera."""
        return self.by_camera(of_photos[self.photos_by_camera])

    def _chunks(self, photo: NDArray[np.int64], photos: int) -> list[tuple[slice, tuple[slice, Segments]]]:
        """Runs of observations, of the photos that they belong to, and sums over the latter."""
        bounds = np.searchsorted(photo, np.arange(photos + 1)).tolist()
        out, begin = [], 0
        for end in range(1, len(bounds)):
            if end == len(bounds) - 1 or bounds[end + 1] - bounds[begin] > CHUNK:
                part = slice(bounds[begin], bounds[end])
                owner = photo[part] - begin
                out.append((part, (slice(begin, end), Segments(owner, end - begin, self.device))))
                begin = end
        return out
