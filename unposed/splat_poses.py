"""Poses that were trained along with a splat: kept only where photos that were held out get better."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unposed.optim.bundle.adjust import adjust_bundle
from unposed.optim.bundle.pose_priors import no_pose_priors
from unposed.optim.bundle.problem import BundleOptions
from unposed.optim.rotations import rotation_angle_deg
from unposed.pipeline.artifacts import Photos, SparseModel
from unposed.pipeline.colmap_model import write_models
from unposed.pipeline.errors import InputError
from unposed.surface.gaussians.initial import as_arrays
from unposed.surface.gaussians.poses import aligned, moved_camera
from unposed.surface.gaussians.projection import Parameters, draw
from unposed.surface.gaussians.scene import SplatState, TrainingOptions, TrainingView, ViewScore
from unposed.surface.gaussians.training import scored

from .model_bundles import bundle_of_model, model_of_bundle

REFINED = "refined"
"""Folder of the model with the new poses, as sparse/0."""


@dataclass(frozen=True)
class MovedPose:
    """How far the pose of a photo has come from that of the model."""

    name: str
    turned_deg: float
    shifted: float
    """Units of the world."""


@dataclass(frozen=True, eq=False)
class TrainedPoses:
    """What it was worth to train poses. Photos held out find their own pose before they are compared, either way."""

    kept: bool
    """Whether the splat is that with the new poses."""
    psnr_of_given: float
    """Mean over the photos held out, of the splat with the poses of the model."""
    psnr_of_trained: float
    moved: tuple[MovedPose, ...]
    """By photo, those held out as well."""
    views: tuple[TrainingView, ...]
    """All photos with the poses that are kept."""
    scores: tuple[ViewScore, ...]
    """Of the photos held out."""

    def facts(self) -> dict[str, Any]:
        """Figures for people and programs."""
        figures = {name: round(getattr(self, name), 3) for name in ("psnr_of_given", "psnr_of_trained")}
        return {"kept": self.kept, **figures, "moved": [asdict(each) for each in self.moved]}


def check_trainable_poses(model: SparseModel, options: TrainingOptions) -> None:
    """InputError where poses cannot be trained, or nobody could say whether that was good."""
    if len(model.photos) < options.held_out_from:
        remedy = " or set training.held_out_from=3" if len(model.photos) == 3 else ""
        raise InputError(
            f"poses are trained with {options.held_out_from} photos or more, one of them held out: leave "
            f"training.pose_rate 0{remedy}"
        )
    if model.rigs is not None:
        raise InputError("poses of photos of a rig are not trained: leave training.pose_rate 0")


def rotation_sigmas_deg(summary: Mapping[str, Any], model: SparseModel, photos: Photos) -> NDArray[np.float64]:
    """(p,) standard deviations of the rotations of a model's photos, from summary.json; infinite where not known."""
    figures = [summary["photos"].get(photos[index].name, {}).get("sigma_deg") for index in model.photos.tolist()]
    return np.array([np.inf if each is None else each for each in figures], np.float64)


def judged_poses(
    views: Sequence[TrainingView], given: SplatState, trained: SplatState, options: TrainingOptions
) -> TrainedPoses:
    """Compare a splat whose poses were kept with one whose poses were trained, by the photos held out."""
    both = []
    for state in (given, trained):
        tensors = {name: torch.from_numpy(value) for name, value in as_arrays(state.gaussians).items()}
        own = [aligned(Parameters(**tensors), view, draw, options) for view in views if view.held_out]
        both.append((own, scored(state.gaussians, own, draw)))
    before, after = (float(np.mean([score.psnr for score in scores])) for _, scores in both)
    kept = after >= before + options.pose_gain_db
    held_out, scores = both[1]
    found = iter(held_out)
    new = [
        next(found) if view.held_out else replace(view, camera=moved_camera(view.camera, motion))
        for view, motion in zip(views, trained.motion, strict=True)
    ]
    if not kept:
        scores = scored(given.gaussians, [view for view in views if view.held_out], draw)
    moved = [_moved(old, view) for old, view in zip(views, new, strict=True)]
    return TrainedPoses(kept, before, after, tuple(moved), tuple(new if kept else views), tuple(scores))


def _moved(old: TrainingView, new: TrainingView) -> MovedPose:
    turn = new.camera.cam_from_world[:, :3] @ old.camera.cam_from_world[:, :3].T
    shift = float(np.linalg.norm(new.camera.centre - old.camera.centre))
    return MovedPose(old.name, round(float(rotation_angle_deg(turn)), 4), float(f"{shift:.4g}"))


def write_refined(folder: Path, model: SparseModel, photos: Photos, poses: TrainedPoses) -> None:
    """Write the model with its new poses, its points moved to where these see them; nothing where none were kept."""
    shutil.rmtree(folder / REFINED, ignore_errors=True)
    if not poses.kept:
        return
    bundle = replace(
        bundle_of_model(model), cam_from_world=np.stack([view.camera.cam_from_world for view in poses.views])
    )
    fixed = replace(no_pose_priors(len(model.photos)), fixed=np.ones(len(model.photos), bool))
    bundle, _ = adjust_bundle(bundle, BundleOptions(focal=False), pose_priors=fixed)
    write_models([model_of_bundle(model, bundle)], photos, folder / REFINED / "sparse")
