"""Train Gaussians on photos, and measure them on photos that were held out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ..stereo.correlation import halved
from ..stereo.view import Pinhole
from .adam import adam_step
from .initial import as_arrays
from .losses import photo_loss, structural_similarity
from .poses import motion_units, moved, pose_prior
from .projection import Parameters
from .scene import Gaussians, SplatState, TrainingOptions, TrainingView, ViewScore

Draw = Callable[[Parameters, Pinhole], tuple[Tensor, Tensor]]
"""Image (h, w, 3) and coverage (h, w) of Gaussians in a camera."""
LEAST_SHARES = {"mean": 0.01, "motion": 0.01}
"""Of the first step widths, at the end; a tenth of those that are not named."""


def first_state(gaussians: Gaussians, views: int) -> SplatState:
    """Where a training begins."""
    size = float(np.exp(np.median(gaussians.log_scale))) if len(gaussians) else 1.0
    nothing = np.zeros((views, 3), np.float32)
    return SplatState(0, gaussians, nothing, np.concatenate([nothing, nothing], axis=1), size, {})


def trained(
    state: SplatState, views: Sequence[TrainingView], options: TrainingOptions, draw: Draw, device: str = "cpu"
) -> Iterator[SplatState]:
    """Take the steps that are missing; gives the state ten times on the way and at the end.

    Each step draws the Gaussians in the camera of a photo, multiplies the channels by its gain, and moves all
    parameters by Adam against the derivatives of the loss. Gains have a mean of one over the photos, so that they
    cannot drift together. With a `pose_rate` the photo's pose is moved as well, against what is known of it.
    """
    training = [number for number, view in enumerate(views) if not view.held_out]
    sizes = [[(views[number].camera, *_target(views[number], device)) for number in range(len(views))]]
    sizes.append([_halved(*each) for each in sizes[0]])
    units = motion_units(views, state.gaussians.mean)
    arrays = {**as_arrays(state.gaussians), "log_gain": state.log_gain, "motion": state.motion / units}
    tensors = {name: torch.tensor(value, device=device).requires_grad_() for name, value in arrays.items()}
    first = {
        "mean": options.mean_rate * state.size,
        "log_scale": options.scale_rate,
        "quaternion": options.quaternion_rate,
        "logit": options.opacity_rate,
        "coefficient": options.colour_rate,
        "log_gain": options.gain_rate,
        "motion": options.pose_rate,
    }
    moments = {name: torch.tensor(value, device=device) for name, value in state.moments.items()}
    trained_on = torch.tensor(training, device=device)
    gain, moves, unit = tensors["log_gain"], tensors["motion"], torch.from_numpy(units).to(device)
    parameters = Parameters(**{name: tensors[name] for name in as_arrays(state.gaussians)})
    report_every = max(1, options.steps // 10)
    for step in range(state.step, options.steps):
        left = 1.0 - step / options.steps
        rates = {name: rate * LEAST_SHARES.get(name, 0.1) ** (1.0 - left) for name, rate in first.items()}
        number = _photo_of(step, training, options.seed)
        camera, photo, weight = sizes[step < options.coarse_share * options.steps][number]
        motion, shown = unit[number] * moves[number], parameters
        if options.pose_rate > 0:
            shown = moved(parameters, motion, torch.from_numpy(camera.centre).to(motion))
        image, _ = draw(shown, camera)
        exposed = image * torch.exp(gain[number] - gain[trained_on].mean(dim=0))
        loss = photo_loss(exposed, photo, weight, options.structure)
        torch.autograd.backward(loss + pose_prior(motion, views[number], loss, options) if options.pose_rate else loss)
        adam_step(tensors, moments, step + 1, rates)
        if (step + 1) % report_every == 0 or step + 1 == options.steps:
            yield _state(step + 1, parameters, gain, unit * moves, state.size, moments)


def _photo_of(step: int, training: Sequence[int], seed: int) -> int:
    """The photo of a step: all in a new order each time, the same wherever a training goes on."""
    turn, place = divmod(step, len(training))
    return training[int(np.random.default_rng([seed, turn]).permutation(len(training))[place])]


def _target(view: TrainingView, device: str) -> tuple[Tensor, Tensor | None]:
    photo = torch.from_numpy(view.rgb.astype(np.float32) / np.float32(255)).to(device)
    return photo, None if view.visible is None else torch.from_numpy(view.visible.astype(np.float32)).to(device)


def _halved(camera: Pinhole, photo: Tensor, weight: Tensor | None) -> tuple[Pinhole, Tensor, Tensor | None]:
    """The same photo at half the size; pixels of which a part is masked count in part."""
    smaller = torch.stack([halved(channel) for channel in photo.unbind(dim=-1)], dim=-1)
    return camera.smaller(2), smaller, None if weight is None else halved(weight)


def _state(
    step: int, parameters: Parameters, gain: Tensor, motion: Tensor, size: float, moments: Mapping[str, Tensor]
) -> SplatState:
    arrays, held = (
        {name: each.detach().cpu().numpy().copy() for name, each in tensors.items()}
        for tensors in (parameters.tensors(), moments)
    )
    exposure, poses = (each.detach().cpu().numpy().copy() for each in (gain, motion))
    return SplatState(step, Gaussians(**arrays), exposure, poses, size, held)


def drawn(gaussians: Gaussians, camera: Pinhole, draw: Draw, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """Image and coverage of Gaussians, without derivatives."""
    with torch.no_grad():
        tensors = {name: torch.from_numpy(value).to(device) for name, value in as_arrays(gaussians).items()}
        image, covered = draw(Parameters(**tensors), camera)
    return image.cpu(), covered.cpu()


def scored(gaussians: Gaussians, views: Sequence[TrainingView], draw: Draw, device: str = "cpu") -> list[ViewScore]:
    """Compare photos with what the Gaussians look like from their cameras.

    Each channel is multiplied by the one number that brings it closest, since nobody knows the exposure of a photo that
    was not trained on. Pixels that are hardly covered or masked are left out: no training photo may have seen them.
    """
    scores = []
    for view in views:
        image, covered = drawn(gaussians, view.camera, draw, device)
        photo, weight = _target(view, "cpu")
        counted = covered > 0.5
        if weight is not None:
            counted &= weight > 0
        share = float(counted.float().mean())
        if not share:
            scores.append(ViewScore(view.name, 0.0, 0.0, 0.0))
            continue
        a, b = image[counted], photo[counted]
        image = (image * ((a * b).sum(dim=0) / (a * a).sum(dim=0).clamp_min(1e-6))).clamp(0.0, 1.0)
        error = float(((image[counted] - b) ** 2).mean())
        similarity = float(structural_similarity(image, photo)[counted].mean())
        scores.append(ViewScore(view.name, -10.0 * float(np.log10(max(error, 1e-10))), similarity, share))
    return scores
