"""Training with gsplat on a pretended GPU: every tensor is where it belongs, and the steps are those of a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from pretended_gpu import on_both
from torch import Tensor

from unposed.pipeline.errors import ConfigError
from unposed.plugins.splat.gsplat import check_kernels, drawn_by
from unposed.surface.gaussians.initial import initial_gaussians
from unposed.surface.gaussians.projection import Parameters
from unposed.surface.gaussians.scene import Gaussians, SplatState, TrainingOptions, TrainingView
from unposed.surface.gaussians.training import first_state, trained
from unposed.surface.stereo.view import Pinhole

CAMERA = Pinhole(24, 16, 20.0, 20.0, 12.0, 8.0, np.eye(3, 4))


def rasterization(
    means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, **given: object
) -> tuple[Tensor, ...]:
    """A double of gsplat's function that runs anywhere: round Gaussians, mixed in no order, on which all that is given
    has an effect: Adam makes whole steps of rounding errors."""
    colors, viewmats, intrinsics = (given[name] for name in ("colors", "viewmats", "Ks"))
    width, height = given["width"], given["height"]
    assert isinstance(colors, Tensor) and isinstance(viewmats, Tensor) and isinstance(intrinsics, Tensor)
    assert isinstance(width, int) and isinstance(height, int)
    assert all(each.dtype == torch.float32 for each in (means, quats, scales, opacities, colors, viewmats, intrinsics))
    there = means @ viewmats[0, :3, :3].T + viewmats[0, :3, 3]
    xy = (there @ intrinsics[0].T)[:, :2] / there[:, 2:]
    size = intrinsics[0, 0, 0] * scales.mean(dim=1) / there[:, 2]
    size = size + 0.1 * quats @ quats.new_tensor([1.0, 0.4, 0.3, 0.2])
    x = torch.arange(width, device=means.device) + 0.5
    y = torch.arange(height, device=means.device) + 0.5
    squares = (x - xy[:, :1])[:, None] ** 2 + ((y - xy[:, 1:]) ** 2)[:, :, None]
    weight = opacities[:, None, None] * torch.exp(-0.5 * squares / size[:, None, None] ** 2)
    image = (weight[..., None] * colors[:, None, None]).sum(dim=0) / weight.sum(dim=0)[..., None].clamp_min(1.0)
    return image[None], weight.sum(dim=0).clamp_max(1.0)[None, ..., None], torch.zeros(())


def views_and_start() -> tuple[list[TrainingView], Gaussians]:
    rng = np.random.default_rng(0)
    views = []
    for number in range(4):
        camera = replace(CAMERA, cam_from_world=np.c_[np.eye(3), [0.2 * number, 0.0, 0.0]])
        visible = rng.random((16, 24)) > 0.2 if number == 1 else None
        photo = rng.integers(0, 255, (16, 24, 3)).astype(np.uint8)
        views.append(TrainingView(f"{number}.png", camera, photo, visible, number == 2, 0.01, 0.01))
    xyz = rng.normal(size=(30, 3)) * (1.0, 0.7, 0.3) + (0, 0, 3)
    return views, initial_gaussians(xyz, rng.integers(0, 255, (30, 3)).astype(np.uint8), views)


@pytest.mark.parametrize("pose_rate", [0.0, 0.05])
def test_steps_there_are_those_here(pose_rate: float) -> None:
    """With gains, masks, both sizes of image, and poses; and goes on from what was stored."""
    views, start = views_and_start()
    options = TrainingOptions(steps=10, coarse_share=0.5, pose_rate=pose_rate)

    def work(device: str) -> SplatState:
        def draw(parameters: Parameters, camera: Pinhole) -> tuple[Tensor, Tensor]:
            return drawn_by(rasterization, parameters, camera, 0.01)

        def run(state: SplatState) -> Iterator[SplatState]:
            return trained(state, views, options, draw, device)

        states = list(run(first_state(start, len(views))))
        *_, last = run(states[3])
        return last

    here, there = on_both(work)
    for name, value in vars(here.gaussians).items():
        np.testing.assert_allclose(getattr(there.gaussians, name), value, atol=1e-5)
    np.testing.assert_allclose(there.log_gain, here.log_gain, atol=1e-6)
    np.testing.assert_allclose(there.motion, here.motion, atol=1e-6)
    assert np.abs(here.gaussians.mean - start.mean).max() > 1e-3 and here.log_gain.any()
    assert here.motion.any() == (pose_rate > 0)


def test_kernels_that_do_not_run_are_one_line() -> None:
    """As where gsplat was installed without CUDA's compiler: it can be imported, and fails when it draws."""

    def broken(**_: object) -> None:
        raise AttributeError("'NoneType' object has no attribute 'CameraModelType'\nmore")

    check_kernels(rasterization, "cpu")
    with pytest.raises(ConfigError, match=r"kernels do not run \('NoneType' .* 'CameraModelType'\): install the build"):
        check_kernels(broken, "cpu")
