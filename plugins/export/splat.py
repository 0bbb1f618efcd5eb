"""Export undistorted photos and a COLMAP model to train Gaussian splats from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal, get_args

import numpy as np

from unposed.optim.cameras import CAMERA_MODELS, CX, CY, FX, FY, intrinsics_of
from unposed.optim.option_ranges import Count
from unposed.optim.undistortion import UndistortionOptions, centred_pinhole, origins, undistorted
from unposed.pipeline.artifacts import Camera, Photos, SparseModel, SparseModels
from unposed.pipeline.colmap_model import write_models
from unposed.pipeline.config import Within
from unposed.pipeline.errors import InputError
from unposed.pipeline.logs import module_logger

from .splat_depths import write_depths
from .splat_files import (
    SplatReadme,
    held_out_names,
    link_colmap,
    write_frame,
    write_normal_points,
    write_split,
    write_test_names,
    write_transforms,
)
from .splat_images import Resampling, SplatImages, have_masks, named_if_unreadable, plain_names
from .splat_model import (
    chosen_points,
    frame_of,
    in_frame,
    names_of,
    selected,
    trainable,
    without_cameras_of_none,
    without_far_cameras,
)

LOG = module_logger(__name__)

SplatPart = Literal["points", "test", "lists", "transforms", "colmap", "copies", "depths"]
"""What some programs read beside images and sparse/0: sparse/0/points3D.ply; sparse/0/test.txt; lists of the parts;
transforms.json with sparse_pc.ply; colmap/sparse/0; smaller copies of the images; and depth maps, if there are any."""


@dataclass(frozen=True)
class SplatExport:
    """A folder that programs for Gaussian splatting train from as it is: undistorted photos in images, a COLMAP model
    of them in sparse/0, transforms.json, and README.txt with a command for each program.

    Cameras are PINHOLE with a central principal point, since some trainers ignore anything else without a warning. Only
    the largest model is written, with its photos upright in one folder, under names of ASCII letters that every program
    reads: a/1.png becomes a_1.jpg. What is masked or transparent is black in folder/masks. README.txt names what is
    left out, and unposed_frame.json has the way back to the frame of the reconstruction.
    """

    parts: ClassVar[frozenset[SplatPart]] = frozenset(get_args(SplatPart))
    program: ClassVar[str] = ""
    """The program that README.txt has a command for; empty: all."""

    quality: Annotated[int, Within("[1, 100]")] = 95
    """Of the JPEG files."""
    halvings: Annotated[int, Within("[0, 5]")] = 3
    """Smaller copies in images_2, images_4, ...; sides of the images are multiples of the largest factor."""
    test_every: Annotated[int, Within("[2, inf)")] = 8
    """Every so many photos, by name, are listed as held out from training."""
    max_side: Annotated[int | None, Within("[64, inf)")] = None
    """Longer side of the images at most, in pixels; none: that of the photos."""
    sharp_megapixels: Annotated[float, Within("[0, inf)")] = 4.0
    """Photos up to this size are resampled by cubic interpolation, larger ones by linear interpolation, in half the
    time: optics and colour filters blur the pixels of large photos more than it does."""
    frame: Literal["unit", "metric", "keep"] = "unit"
    """unit: y down, the cameras around the origin, the farthest at a distance of 1; metric: the same with the scale of
    the reconstruction, as where it was aligned to metres; keep: the frame of the reconstruction."""
    bake: Literal["none", "black", "white", "alpha"] = "none"
    """What masks hide is also painted, or made transparent, for programs that read no masks; alpha makes PNG files."""
    points: Count | None = None
    """At most so many points, chosen at random; none: all."""
    camera_ratio: Annotated[float, Within("(1, inf)")] = 10.0
    """Cameras so many times as far from the median as the median distance are left out: scale and learning rates of
    trainers follow the farthest. Of a walk along a line, or around an object, none is beyond 3."""
    point_ratio: Annotated[float, Within("(1, inf)")] = 100.0
    """The same for points; what is far behind a scene, such as hills, is within 100, and errors of nearly parallel rays
    are beyond."""
    depths: str | None = None
    """Folder that `unposed dense` has written, whose depth maps are written as depths; none: no depth maps. Set by
    --seeds, too."""
    undistortion: UndistortionOptions = field(default_factory=UndistortionOptions)
    """Largest field of view of the undistorted photos."""

    def __call__(self, sparse: SparseModels, photos: Photos, folder: Path) -> None:
        if not sparse.models:
            raise InputError("there is no model to export: no photo was registered")
        trainable(sparse.models[0], photos)
        model, far = without_far_cameras(sparse.models[0], self.camera_ratio)
        model = without_cameras_of_none(model)
        trainable(model, photos)
        registered = model.photos.tolist()
        names = plain_names(names_of(photos, registered), ".png" if self.bake == "alpha" else ".jpg")
        whole, with_masks = self._write_images(model, photos, names, folder)
        kept, stray = chosen_points(whole, self.points, self.point_ratio)
        frame = frame_of(whole, self.frame)
        whole = in_frame(selected(whole, np.ones(len(whole.xy), bool), kept), frame)
        renamed = list(photos.photos)
        for index, name in zip(registered, names, strict=True):
            renamed[index] = replace(renamed[index], name=name)
        write_models([whole], Photos(tuple(renamed), {}), folder / "sparse")
        self._write_others(whole, names, with_masks, folder)
        if self.depths is not None and "depths" in self.parts:
            self._write_depths(Path(self.depths), whole, photos, names, frame.scale, folder)
        write_frame(frame, folder / "unposed_frame.json")
        missing = set(range(len(photos))) - set(sparse.models[0].photos.tolist())
        readme = SplatReadme(
            len(photos), names_of(photos, sorted(missing)), names_of(photos, far), stray, self._factors(), self.program
        )
        readme.write(whole, folder / "README.txt")
        if far or stray:
            LOG.warning("%d far cameras and %d stray points are left out, see README.txt", len(far), stray)

    def _factors(self) -> tuple[int, ...]:
        """Of the smaller copies."""
        return tuple(2**number for number in range(1, self.halvings + 1)) if "copies" in self.parts else ()

    def _write_images(
        self, model: SparseModel, photos: Photos, names: list[str], folder: Path
    ) -> tuple[SparseModel, bool]:
        """Write images and masks; the model with the cameras and key points of these, and whether there are masks."""
        registered = model.photos.tolist()
        masks = have_masks(photos[index] for index in registered)
        files = SplatImages(folder, self.quality, self._factors(), masks, self.bake if masks else "none")
        files.begin()
        cameras, xy = [], np.full(model.xy.shape, np.nan)
        for number, camera in enumerate(model.cameras):
            given, fisheye = intrinsics_of(camera.model, camera.params), CAMERA_MODELS[camera.model].fisheye
            pinhole, width, height = centred_pinhole(
                given,
                fisheye,
                camera.width,
                camera.height,
                self.undistortion,
                multiple_px=2**self.halvings,
                max_side_px=self.max_side,
            )
            cameras.append(Camera("PINHOLE", width, height, tuple(pinhole[[FX, FY, CX, CY]].tolist())))
            shrunk = min(1.0, float(pinhole[FX] / given[FX]))
            resampling = Resampling(
                origins(pinhole, width, height, given, fisheye),
                (camera.width, camera.height),
                shrunk,
                1e6 * self.sharp_megapixels,
            )
            for row in np.flatnonzero(model.camera_of_photo == number).tolist():
                own = slice(model.xy_start[row], model.xy_start[row + 1])
                new = undistorted(model.xy[own].astype(np.float64), given, fisheye, pinhole)
                outside = ~((new > 0.0) & (new < (width, height))).all(axis=1)
                new[outside] = np.nan
                xy[own] = new
                photo = photos[registered[row]]
                with named_if_unreadable(photo):
                    files.write(photo, resampling, names[row])
        return selected(replace(model, cameras=tuple(cameras), xy=xy), np.isfinite(xy[:, 0])), masks

    def _write_others(self, model: SparseModel, names: list[str], with_masks: bool, folder: Path) -> None:
        """What programs read beside images and the COLMAP model."""
        held_out = held_out_names(names, self.test_every)
        if "points" in self.parts:
            write_normal_points(model, folder / "sparse" / "0" / "points3D.ply")
        if "transforms" in self.parts:
            write_normal_points(model, folder / "sparse_pc.ply")
            write_transforms(model, names, held_out, with_masks, folder / "transforms.json")
        if "lists" in self.parts:
            write_split(names, held_out, folder)
        if "test" in self.parts:
            write_test_names(held_out, folder / "sparse" / "0" / "test.txt")
        if "colmap" in self.parts:
            link_colmap(folder)

    def _write_depths(
        self, dense: Path, model: SparseModel, photos: Photos, names: list[str], scale: float, folder: Path
    ) -> None:
        """Depth maps of the images, unless these are PNG files."""
        if names[0].endswith(".png"):  # depths sorts before images, and Brush takes the first file of a name
            LOG.warning("no depth maps are written beside images in PNG: a program would take them for these")
            return
        cameras = [model.cameras[number] for number in model.camera_of_photo.tolist()]
        write_depths(dense, cameras, names_of(photos, model.photos.tolist()), names, scale, folder)
