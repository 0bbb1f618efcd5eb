"""Camera priors of a collection: which photos share a camera, and the focal length of each, from EXIF if available."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Annotated, ClassVar, Literal

import numpy as np

from unposed.optim.camera_turns import CameraTurns
from unposed.optim.cameras import CAMERA_MODELS, FOCAL_GUESS, CameraModelName
from unposed.optim.intrinsics_priors import FocalSource, IntrinsicsPriorOptions
from unposed.pipeline.artifacts import Camera, CameraPriors, Photo, PhotoCalibration, Photos
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain, PerPhoto

from .calibrated import focal_of_camera
from .focal_prior import focal_px
from .given import given_cameras, given_poses, given_sigmas
from .rigs import camera_of_view, rigs_of
from .turned import camera_turns

CONSTANT = (0.0,) * 8
"""Standard deviations of intrinsics that are given without any."""


@dataclass(frozen=True)
class ExifCameras:
    """Photos grouped into cameras.

    grouping: `auto` puts photos of the same body, lens, focal length and size together, and photos without EXIF by
    size alone, a hypothesis that the mapper tests. `single`, `folder` and `image` are not tested.
    Photos of different sizes never share a camera, unless it was turned: portrait and landscape photos of one body are
    two cameras here, which mappers take for one that was turned (see turned.py). Its principal point shows then.
    default_focal: focal length where EXIF has none, in units of the longer side.
    intrinsics, poses: files with known values, which stay constant; those with standard deviations have a prior.
    Formats: unposed/plugins/cameras/given.py.
    Where neither they nor EXIF know a focal length, `calibration` of the photos may: it takes the place of
    default_focal, with a standard deviation, and the photos together decide.
    Photos with the same intrinsics share a camera. The known poses give the result its frame and scale.
    Views of panoramas have a known camera, and those of one panorama are fixed to each other.
    """

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 7

    grouping: Literal["auto", "single", "folder", "image"] = "auto"
    model: CameraModelName = "SIMPLE_RADIAL"
    default_focal: Annotated[float, Within("[0.2, 50]")] = FOCAL_GUESS
    intrinsics: Path | None = None
    poses: Path | None = None
    rigs: Path | None = None
    """Rigs, in the form of COLMAP's rig_config.json: see unposed/plugins/cameras/rigs.py."""
    refine_rigs: bool = False
    """Whether known poses of sensors are refined; otherwise they are constant. Unknown ones are always found."""
    folder_rigs: bool = True
    """Whether folders beside each other with photos of the same names may be the sensors of a rig. They are one only
    where the poses of the photos say so."""
    prior: IntrinsicsPriorOptions = field(default_factory=IntrinsicsPriorOptions)
    """Standard deviations of the intrinsics, for all stages that estimate them."""

    def __call__(self, photos: Photos, calibration: PerPhoto[PhotoCalibration] | None = None) -> CameraPriors:
        given = {} if self.intrinsics is None else given_cameras(self.intrinsics, photos)
        rigs, of_rigs = rigs_of(
            photos, self.rigs, of_folders=self.folder_rigs and self.poses is None, refined=self.refine_rigs
        )
        sigmas = {
            i: sigma
            for i, sigma in given_sigmas(self.intrinsics, photos).items()
            if i in given and i not in of_rigs and photos[i].view is None
        }
        given |= of_rigs
        given |= {i: camera_of_view(photo) for i, photo in enumerate(photos.photos) if photo.view is not None}
        # Sensors that a file names are different cameras; folders may be of one, and views of panoramas are.
        apart = [-1] * len(photos) if rigs is None or self.rigs is None else rigs.sensor_of_photo.tolist()
        groups: dict[Hashable, int] = {}
        camera_of_photo = [
            groups.setdefault(
                (given.get(i) or self._key(photo), sigmas.get(i), -1 if photo.view else apart[i]), len(groups)
            )
            for i, photo in enumerate(photos.photos)
        ]
        members: list[list[int]] = [[] for _ in groups]
        for i, group in enumerate(camera_of_photo):
            members[group].append(i)
        cameras: list[Camera] = []
        sources: list[FocalSource] = []
        guess_log_sigma = np.full(len(groups), np.inf)
        for indices in members:
            known = given.get(indices[0])
            camera, source = self._camera([photos[i] for i in indices])
            if calibration and known is None and source == "guess":
                alone = focal_of_camera(calibration[i] for i in indices if i in calibration)
                if alone is not None:
                    camera, guess_log_sigma[len(cameras)] = with_focal(camera, alone[0]), alone[1]
            cameras.append(known or camera)
            sources.append("given" if known else source)
        poses = None if self.poses is None else given_poses(self.poses, photos, rigs)
        return CameraPriors(
            cameras=tuple(cameras),
            camera_of_photo=np.array(camera_of_photo, np.int32),
            focal_source=tuple(sources),
            grouping="assumed" if self.grouping == "auto" and len(given) < len(photos) else "given",
            cam_from_world=None if poses is None else poses.cam_from_world,
            prior=self.prior,
            rigs=rigs,
            given_sigma=np.array([sigmas.get(indices[0], CONSTANT) for indices in members]) if sigmas else None,
            pose_sigma=None if poses is None else poses.sigma,
            guess_log_sigma=guess_log_sigma if np.isfinite(guess_log_sigma).any() else None,
            turns=self._turns(photos, members, given) if rigs is None else None,
        )

    def _key(self, photo: Photo) -> Hashable:
        return self._body(photo), photo.width, photo.height, photo.orientation

    def _body(self, photo: Photo) -> Hashable:
        """What tells the camera of a photo from others of the same size."""
        if self.grouping == "image":
            return photo.name
        if self.grouping == "folder":
            return photo.name.rpartition("/")[0]
        if self.grouping == "single":
            return None
        exif = photo.exif
        return exif.make, exif.model, exif.lens, exif.focal_mm, exif.focal_35mm, exif.digital_zoom

    def _turns(self, photos: Photos, members: list[list[int]], given: Mapping[int, Camera]) -> CameraTurns | None:
        return camera_turns(
            [
                (None if indices[0] in given else (self._body(photos[indices[0]]),), [photos[i] for i in indices])
                for indices in members
            ]
        )

    def _camera(self, photos: list[Photo]) -> tuple[Camera, FocalSource]:
        width, height = photos[0].width, photos[0].height
        priors = [f for f in (focal_px(photo.exif, width, height) for photo in photos) if f is not None]
        focal = median(priors) if priors else self.default_focal * max(width, height)
        model = CAMERA_MODELS[self.model]
        params = (*[float(focal)] * model.num_focals, width / 2, height / 2, *[0.0] * model.num_distortion)
        return Camera(self.model, width, height, params), "exif" if priors else "guess"


def with_focal(camera: Camera, focal_px: float) -> Camera:
    """The camera with another focal length, across and down."""
    count = CAMERA_MODELS[camera.model].num_focals
    return replace(camera, params=(*[focal_px] * count, *camera.params[count:]))
