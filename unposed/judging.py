"""Judge without any truth whether a splat will train well on a reconstruction, and which photos would spoil it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from math import degrees, isfinite
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np

from unposed.optim.arrays import Array
from unposed.optim.option_ranges import Positive, Share, Within
from unposed.optim.verdict.held_out_poses import HeldOutPoseOptions, PoseTest, held_out_poses
from unposed.pipeline.artifacts import Photos, SparseModel
from unposed.pipeline.config import build
from unposed.pipeline.errors import InputError
from unposed.pipeline.progress import Progress, Quiet
from unposed.pipeline.registry import Registry
from unposed.pipeline.resources import machine
from unposed.pipeline.slots import SplatTrainer
from unposed.pipeline.stage import Resources
from unposed.pipeline.threads import one_thread_each
from unposed.surface.gaussians.scene import TrainingView
from unposed.surface.stereo.held_out import HeldOutImageOptions, ImageTest, held_out_images
from unposed.surface.stereo.view import StereoView

from .dense_points import shown_as
from .loading import load
from .model_bundles import bundle_of_model
from .options import Settings
from .settings import built_options


@dataclass(frozen=True)
class JudgeOptions:
    """How photos are tested, and from when on a splat of them will not be sharp."""

    max_side_px: Annotated[int, Within("[64, inf)")] = 192
    """Longer side that photos are compared at. Half a degree is about 1.5 pixels there; time grows with its square."""
    trained_side_px: Annotated[int, Within("[64, inf)")] = 1600
    """Longer side that programs train on at most, in whose pixels errors of points are counted."""
    sharp_px: Positive = 1.5
    """Median error over all photos above which details of that size blur."""
    lost_share: Share = 0.34
    """Share of photos that hurt from which on the whole model is not to be trusted."""
    poses: HeldOutPoseOptions = field(default_factory=HeldOutPoseOptions)
    images: HeldOutImageOptions = field(default_factory=HeldOutImageOptions)


Outlook = Literal["well", "without", "soft", "badly", "unknown"]
"""Whether a splat trains well: it does, does without some photos, blurred, or does not; or nothing could be tested."""


@dataclass(frozen=True)
class JudgedPhoto:
    """A photo, tested by the others."""

    name: str
    pose: PoseTest
    """By points that only other photos have placed."""
    image: ImageTest
    """Against its neighbours, over depths in which it had no part."""
    shift_deg: float
    """The shift of the image as an angle."""

    @property
    def hurts(self) -> bool:
        """Whether a splat is better without it. Points that fit outweigh an image that looks different, as in other
        weather, but not one that would fit beside."""
        return self.pose.fails or self.image.beside or (self.image.fails and not self.pose.tested)

    @property
    def tested(self) -> bool:
        """Whether anything could be said of it."""
        return self.pose.tested or self.image.tested

    @property
    def reason(self) -> str:
        """Why it hurts, or why nothing is known; empty where it is well."""
        pose, image = self.pose, self.image
        if pose.fails:
            where = f"{pose.points} points that other photos place are {pose.error_px:.1f} px off"
            if pose.moved_px < 0.5 * pose.error_px:
                return (
                    f"pose off by {pose.turn_deg:.2f} degrees: {where}, and {pose.moved_px:.1f} px once it is corrected"
                )
            return f"pose wrong: {where}"
        if image.beside:
            return f"pose off by about {self.shift_deg:.2f} degrees: its image lies beside what its neighbours show"
        if self.hurts:
            return f"shows something else than its neighbours do there (correlation {image.correlation:.2f})"
        return "" if self.tested else "not tested: too little in common with the other photos"

    def facts(self) -> dict[str, Any]:
        """Figures for programs; null where nothing could be measured."""
        tests = {"pose": asdict(self.pose), "image": asdict(self.image)}
        plain = {
            name: {key: _rounded(value) for key, value in test.items() if key not in ("fails", "beside")}
            for name, test in tests.items()
        }
        plain["image"]["shift_deg"] = _rounded(self.shift_deg)
        return {"hurts": self.hurts, "tested": self.tested, "reason": self.reason, **plain}


@dataclass(frozen=True, eq=False)
class JudgedModel:
    """What a splat of the largest model will be like, and its photos."""

    outlook: Outlook
    error_px: float
    """Median over the photos of their error by points of others, in pixels that are trained on."""
    photos: tuple[JudgedPhoto, ...]
    """By name."""

    @property
    def hurting(self) -> tuple[JudgedPhoto, ...]:
        """The photos that a splat is better without."""
        return tuple(each for each in self.photos if each.hurts)

    @property
    def line(self) -> str:
        """The verdict in words."""
        hurting, every = len(self.hurting), len(self.photos)
        if self.outlook == "unknown":
            return "cannot be judged: most photos have too little in common with two others"
        if self.outlook == "badly":
            return f"will not train well: {hurting} of {every} photos contradict the others"
        blurred = f"details of less than {self.error_px:.1f} px blur"
        if self.outlook == "soft":
            return f"will train softly: {blurred}" + (f", and {hurting} of {every} photos hurt" if hurting else "")
        if self.outlook == "without":
            return f"will train well without {hurting} of {every} photos, which hurt"
        return "will train well: every photo shows what the others say it should"

    def facts(self) -> dict[str, Any]:
        """Figures for people and programs."""
        photos = {each.name: each.facts() for each in self.photos}
        return {"outlook": self.outlook, "line": self.line, "error_px": _rounded(self.error_px), "photos": photos}


def judge(
    out: str | Path,
    photos: str | Path | None = None,
    *,
    settings: Settings = (),
    device: str = "auto",
    progress: Progress | None = None,
) -> JudgedModel:
    """Judge whether a splat will train well on the largest model of the finished reconstruction in `out`.

    photos: the photo folder, if it has moved. settings: fields of JudgeOptions as lines `key=value`. device: where
    depths are estimated.

    Every photo is tested by what it had no part in: points that only other photos place, and depths of its neighbours
    from further photos, through which its image must look like theirs. A pose that is off by half a degree is found.
    That all poses are bent alike, none of the photos can tell.
    """
    options = built_options(JudgeOptions, settings, "judge")
    made = load(out, photos)
    if not made.sparse.models:
        raise InputError(f"{out}: there is no model in it: no photo was registered")
    model, shown, resources = made.sparse.models[0], progress or Quiet(), machine(device, None)
    if not len(model.points):
        raise InputError(f"{out}: its model has no points, by which photos could be tested: reconstruct with points")
    with closing(shown), one_thread_each(), shown_as(shown, "judge", resources) as reporting:
        return judged_model(model, made.photos, options, reporting)


def judged_model(model: SparseModel, photos: Photos, options: JudgeOptions, resources: Resources) -> JudgedModel:
    """Test all photos of a model."""
    resources.report(0, 2, "points")
    scale = _trained_scale(model, options.trained_side_px)
    bundle = bundle_of_model(model)
    poses = held_out_poses(bundle, scale, options.poses)
    resources.report(1, 2, "images")
    views = _small_views(model, photos, options, resources)
    device = resources.device if resources.device.startswith("cuda") else "cpu"
    left_out = np.array([each.fails for each in poses])
    images = held_out_images(views, bundle.points, bundle.photo, bundle.point, left_out, options.images, device)
    judged = [
        JudgedPhoto(photos[index].name, pose, image, degrees(image.shift_px / view.camera.fx))
        for index, pose, image, view in zip(model.photos.tolist(), poses, images, views, strict=True)
    ]
    resources.report(2, 2, "images")
    return _judged(sorted(judged, key=lambda each: each.name), options)


def _judged(judged: list[JudgedPhoto], options: JudgeOptions) -> JudgedModel:
    errors = [each.pose.error_px for each in judged if each.pose.tested]
    error_px = float(np.median(errors)) if errors else float("nan")
    hurting, every = sum(each.hurts for each in judged), len(judged)
    outlook: Outlook = "without" if hurting else "well"
    if sum(each.tested for each in judged) < 0.5 * every:
        outlook = "unknown"
    elif hurting > options.lost_share * every:
        outlook = "badly"
    elif error_px > options.sharp_px:
        outlook = "soft"
    return JudgedModel(outlook, error_px, tuple(judged))


def _trained_scale(model: SparseModel, trained_side_px: int) -> Array:
    """(cameras,) pixels of the images that are trained on per pixel of the photo."""
    return np.array([min(1.0, trained_side_px / max(camera.width, camera.height)) for camera in model.cameras])


def _small_views(model: SparseModel, photos: Photos, options: JudgeOptions, resources: Resources) -> list[StereoView]:
    """Small undistorted images, as the trainer for CPUs makes them, with sides that can be halved."""
    training = {"max_side_px": options.max_side_px, "seeds": 1}
    trainer: SplatTrainer = build(Registry().find("splat", "cpu"), {"training": training}, "splat.cpu")
    few = model.points[:1].astype(np.float64)
    sigma_deg = np.zeros(len(model.photos))  # no pose is trained
    return [
        _stereo_view(view, 2**options.images.sweep.coarse_halvings)
        for view in trainer(model, photos, few, model.rgb[:1], sigma_deg, None, resources).views
    ]


def _stereo_view(view: TrainingView, multiple_px: int) -> StereoView:
    height, width = (side // multiple_px * multiple_px for side in view.rgb.shape[:2])
    grey = cv2.cvtColor(view.rgb, cv2.COLOR_RGB2GRAY)[:height, :width].astype(np.float32) / np.float32(255)
    visible = None if view.visible is None else np.ascontiguousarray(view.visible[:height, :width])
    return StereoView(replace(view.camera, width=width, height=height), np.ascontiguousarray(grey), visible)


def _rounded(value: float) -> float | None:
    return round(float(value), 4) if isfinite(value) else None
