"""Poses of photos that are trained along with the Gaussians."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from unposed.optim.arrays import Array, Array32

from ..stereo.view import Pinhole
from .adam import adam_step
from .losses import photo_loss
from .projection import Parameters, rotations
from .scene import TrainingOptions, TrainingView

ALIGNMENT_STEPS = 60
"""Steps by which a photo that was held out finds its pose: the loss of real photos has settled after 40."""


def moved(parameters: Parameters, motion: Tensor, centre: Tensor) -> Parameters:
    """The Gaussians as a camera that has moved sees them from where it was, so that every way of drawing will do.

    x -> c + E(w) (x - c) + t with motion (6,) = (w, t) and the position c of the camera in the world; E turns by
    2 atan(|w| / 2) about w, which is |w| as long as that is small.
    """
    w = 0.5 * motion[:3]
    turn = rotations(torch.cat([torch.ones_like(w[:1]), w])[None])[0]
    scalar, vector = parameters.quaternion[:, :1], parameters.quaternion[:, 1:]
    quaternion = torch.cat(
        [scalar - vector @ w[:, None], vector + scalar * w + torch.linalg.cross(w.expand_as(vector), vector)], dim=1
    )
    mean = (parameters.mean - centre) @ turn.T + (centre + motion[3:])
    return replace(parameters, mean=mean, quaternion=quaternion)


def moved_camera(camera: Pinhole, motion: Array | Array32) -> Pinhole:
    """The camera that sees the Gaussians where they are as it saw the moved ones before."""
    w, t = torch.tensor(0.5 * np.asarray(motion[:3], np.float64)), np.asarray(motion[3:], np.float64)
    turn = rotations(torch.cat([torch.ones_like(w[:1]), w])[None])[0].numpy()
    pose, centre = camera.cam_from_world, camera.centre
    shift = pose[:, :3] @ (centre - turn @ centre + t) + pose[:, 3]
    return replace(camera, cam_from_world=np.concatenate([pose[:, :3] @ turn, shift[:, None]], axis=1))


def motion_units(views: Sequence[TrainingView], xyz: Array32) -> Array32:
    """(views, 6) steps in which motions are counted: what moves the median point by a pixel, in front of the camera; a
    standard deviation of the pose, where that is less."""
    units = np.empty((len(views), 6), np.float32)
    for row, view in enumerate(views):
        depth = view.camera.project(xyz)[1]
        ahead = depth[depth > 0]
        per_px = 1.0 / view.camera.fx
        units[row, :3] = min(per_px, view.sigma_rad)
        units[row, 3:] = min(per_px * float(np.median(ahead) if len(ahead) else 1.0), view.sigma_centre)
    return units


def pose_prior(motion: Tensor, view: TrainingView, loss: Tensor, options: TrainingOptions) -> Tensor:
    """What a motion (6,) costs against the loss of a photo, by the standard deviations of its pose.

    The loss times the number of independent errors in the photo, over the mean error, is a likelihood. So
    (|w|^2 / s_w^2 + |t|^2 / s_t^2) / 2 is multiplied by that mean over that number.
    """
    squares = (motion[:3] ** 2).sum() / view.sigma_rad**2 + (motion[3:] ** 2).sum() / view.sigma_centre**2
    independent = view.camera.width * view.camera.height / options.correlated_px**2
    return 0.5 * squares * loss.detach() / independent


def aligned(
    parameters: Parameters,
    view: TrainingView,
    draw: Callable[[Parameters, Pinhole], tuple[Tensor, Tensor]],
    options: TrainingOptions,
) -> TrainingView:
    """A photo with the pose from which it looks most like the Gaussians, near its own."""
    tensors = {name: value.detach() for name, value in parameters.tensors().items()}
    parameters = Parameters(**tensors)
    like = parameters.mean
    unit = torch.from_numpy(motion_units([view], like.cpu().numpy())[0]).to(like)
    centre = torch.from_numpy(view.camera.centre).to(like)
    photo = torch.from_numpy(view.rgb.astype(np.float32) / np.float32(255)).to(like)
    weight = None if view.visible is None else torch.from_numpy(view.visible.astype(np.float32)).to(like)
    steps = torch.zeros(6, dtype=like.dtype, device=like.device, requires_grad=True)
    moments: dict[str, Tensor] = {}
    for step in range(ALIGNMENT_STEPS):
        motion = unit * steps
        image, covered = draw(moved(parameters, motion, centre), view.camera)
        counted = (covered > 0.5).to(like) if weight is None else weight * (covered > 0.5)
        with torch.no_grad():
            share = counted[..., None]
            gain = (share * image * photo).sum(dim=(0, 1)) / (share * image * image).sum(dim=(0, 1)).clamp_min(1e-6)
        loss = photo_loss(image * gain, photo, counted, options.structure)
        torch.autograd.backward(loss + pose_prior(motion, view, loss, options))
        adam_step({"steps": steps}, moments, step + 1, {"steps": 0.1 * 0.05 ** (step / ALIGNMENT_STEPS)})
    return replace(view, camera=moved_camera(view.camera, (unit * steps).detach().cpu().numpy()))
