"""One model of a reconstruction, as arrays and with the attributes of a COLMAP model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from unposed.pipeline.artifacts import Bytes, Camera, Floats, Ints, Photos, SparseModel
from unposed.pipeline.colmap_model import to_colmap
from unposed.pipeline.config import did_you_mean
from unposed.pipeline.errors import InputError

from .amounts import count

if TYPE_CHECKING:
    import pycolmap


@dataclass(frozen=True, eq=False)
class RegisteredPhoto:
    """A photo whose pose is known, with its key points."""

    name: str
    camera_id: int
    camera: Camera
    cam_from_world: Floats
    """(3, 4) float64."""
    xy: Floats
    """(n, 2) float64 pixels: all key points of the photo."""
    point3D_ids: Ints
    """(n,) int64: the point in `Model.points3D` that each key point sees; -1: none."""

    @property
    def center(self) -> Floats:
        """(3,) position of the camera in the world."""
        return np.asarray(-self.cam_from_world[:, :3].T @ self.cam_from_world[:, 3])


@dataclass(frozen=True, eq=False)
class Point3D:
    """A point in the world and the key points that see it."""

    xyz: Floats
    """(3,)."""
    color: Bytes
    """(3,) RGB."""
    error: float
    """Mean reprojection error in pixels."""
    track: tuple[tuple[str, int], ...]
    """Name of a photo, and row of `RegisteredPhoto.xy`."""


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """One connected set of registered photos, their cameras and 3D points (`sparse/0`); its length is their number.

    The arrays are rows of `sparse`, without copies. Cameras and points have the ids of the COLMAP model: their row
    plus one.
    """

    sparse: SparseModel
    """The arrays of the model, observations included."""
    photos: Photos
    """The whole collection; `sparse.photos` holds indices into it."""

    def __len__(self) -> int:
        return len(self.sparse.photos)

    def __repr__(self) -> str:
        return f"<Model: {count(len(self), 'photo')}, {count(len(self.points), 'point')}{self._error_text()}>"

    @cached_property
    def photo_names(self) -> tuple[str, ...]:
        """(p,) names of the registered photos, in the order of `cam_from_world`."""
        return tuple(self.photos[index].name for index in self.sparse.photos.tolist())

    @property
    def cam_from_world(self) -> Floats:
        """(p, 3, 4) float64: world to camera, which looks along +z with y down."""
        return self.sparse.cam_from_world

    @property
    def points(self) -> Floats:
        """(n, 3) float64 in the world."""
        return self.sparse.points

    @property
    def rgb(self) -> Bytes:
        """(n, 3) colours of the points."""
        return self.sparse.rgb

    @property
    def error_px(self) -> Floats:
        """(n,) mean reprojection error of each point."""
        return self.sparse.error_px

    @property
    def mean_reprojection_px(self) -> float | None:
        """Mean of `error_px`; None without points."""
        return float(self.error_px.mean()) if len(self.error_px) else None

    @property
    def cameras(self) -> dict[int, Camera]:
        """Cameras by id; photos may share one."""
        return dict(enumerate(self.sparse.cameras, start=1))

    @cached_property
    def images(self) -> dict[str, RegisteredPhoto]:
        """The registered photos by name."""
        model, found = self.sparse, {}
        for row, (name, camera) in enumerate(zip(self.photo_names, model.camera_of_photo.tolist(), strict=True)):
            rows = slice(int(model.xy_start[row]), int(model.xy_start[row + 1]))
            found[name] = RegisteredPhoto(
                name, camera + 1, model.cameras[camera], model.cam_from_world[row], model.xy[rows], self._seen[rows]
            )
        return found

    @property
    def points3D(self) -> Mapping[int, Point3D]:
        """Points by id, made on access: for whole clouds use `points`, `rgb` and `error_px`."""
        return _Points(self)

    def K(self, name: str) -> Floats:
        """(3, 3) calibration matrix of the photo's camera, in pixels. Distortion is not in it."""
        import pycolmap

        if name not in self.images:
            raise InputError(f"{name}: not registered in this model{did_you_mean(name, self.images)}")
        camera = self.images[name].camera
        known = pycolmap.Camera(
            model=camera.model, width=camera.width, height=camera.height, params=list(camera.params)
        )
        return np.asarray(known.calibration_matrix())

    def to_pycolmap(self) -> pycolmap.Reconstruction:
        """Convert to a pycolmap.Reconstruction; image ids are indices of the collection plus one."""
        return to_colmap(self.sparse, self.photos)

    @cached_property
    def _seen(self) -> Ints:
        """(k,) id of the point that each row of sparse.xy sees, or -1."""
        seen = np.full(len(self.sparse.xy), -1, np.int64)
        seen[self.sparse.obs_xy] = self.sparse.obs_point + 1
        return seen

    def _error_text(self) -> str:
        error = self.mean_reprojection_px
        return "" if error is None else f", mean reprojection error {error:.2f} px"


@dataclass(frozen=True, eq=False, repr=False)
class _Points(Mapping[int, Point3D]):
    """The points of a model by id."""

    model: Model

    def __getitem__(self, point_id: int) -> Point3D:
        model = self.model.sparse
        row = point_id - 1
        if not 0 <= row < len(model.points):
            raise KeyError(point_id)
        start, end = np.searchsorted(model.obs_point, [row, row + 1])
        rows = model.obs_xy[start:end]
        photo = np.searchsorted(model.xy_start, rows, side="right") - 1
        track = zip(photo.tolist(), (rows - model.xy_start[photo]).tolist(), strict=True)
        return Point3D(
            model.points[row],
            model.rgb[row],
            float(model.error_px[row]),
            tuple((self.model.photo_names[each], keypoint) for each, keypoint in track),
        )

    def __iter__(self) -> Iterator[int]:
        return iter(range(1, len(self) + 1))

    def __len__(self) -> int:
        return len(self.model.sparse.points)

    def __repr__(self) -> str:
        return f"<{count(len(self), 'point')} by id>"
