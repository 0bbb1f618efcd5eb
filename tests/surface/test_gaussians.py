"""Gaussians: the image and its derivatives against slow definitions, training, and scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from unposed.plugins.splat.gsplat import drawn_by
from unposed.surface.gaussians import losses, rasterise as rasterise_module
from unposed.surface.gaussians.adam import BETAS, EPSILON, adam_step
from unposed.surface.gaussians.initial import initial_gaussians, thinned_seeds, with_fillers
from unposed.surface.gaussians.losses import photo_loss, structural_similarity
from unposed.surface.gaussians.poses import aligned, moved, moved_camera
from unposed.surface.gaussians.projection import BLUR_PX2, Parameters, draw, rotations
from unposed.surface.gaussians.rasterise import LEAST_ALPHA, MOST_ALPHA, FlatGaussians, rasterise
from unposed.surface.gaussians.scene import SH_0, Gaussians, TrainingOptions, TrainingView
from unposed.surface.gaussians.training import drawn, first_state, scored, trained
from unposed.surface.stereo.view import Pinhole

CAMERA = Pinhole(24, 16, 20.0, 20.0, 12.0, 8.0, np.eye(3, 4))


def some_gaussians(n: int, seed: int = 0) -> Parameters:
    draw_from = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw_from, dtype=torch.float64)

    return Parameters(
        normal(n, 3) * torch.tensor([1.0, 0.7, 0.5]) + torch.tensor([0.0, 0.0, 3.0]),
        -1.8 + 0.3 * normal(n, 3),
        normal(n, 4),
        2.0 * normal(n),
        normal(n, 3),
    )


def slow_image(p: Parameters, camera: Pinhole) -> np.ndarray:
    """Pixel by pixel, Gaussian by Gaussian, with the covariance in matrices."""
    image = np.zeros((camera.height, camera.width, 3))
    passing = np.ones(image.shape[:2])
    y, x = np.mgrid[: camera.height, : camera.width] + 0.5
    turn = rotations(p.quaternion).numpy()
    for k in np.argsort(p.mean[:, 2].numpy()):
        mean, scale = p.mean[k].numpy(), np.diag(np.exp(p.log_scale[k].numpy()))
        u, v, z = mean[0] / mean[2], mean[1] / mean[2], mean[2]
        if z <= 0.03 or abs(u) > 1.3 * 12 / 20 or abs(v) > 1.3 * 8 / 20:
            continue
        flat = np.array([[camera.fx / z, 0, -camera.fx * u / z], [0, camera.fy / z, -camera.fy * v / z]])
        covariance = flat @ turn[k] @ scale @ scale @ turn[k].T @ flat.T + BLUR_PX2 * np.eye(2)
        d = np.stack([x - camera.fx * u - camera.cx, y - camera.fy * v - camera.cy], axis=-1)
        q = np.einsum("hwi,ij,hwj->hw", d, np.linalg.inv(covariance), d)
        alpha = min(MOST_ALPHA, 1 / (1 + np.exp(-p.logit[k].item()))) * np.exp(-q / 2)
        alpha[alpha < LEAST_ALPHA] = 0
        image += (passing * alpha)[..., None] * p.rgb()[k].numpy()
        passing *= 1 - alpha
    return image


def test_images_are_those_of_the_definition() -> None:
    parameters = some_gaussians(40)
    image, covered = draw(parameters, CAMERA)
    np.testing.assert_allclose(image, slow_image(parameters, CAMERA), atol=1e-9)
    assert 0 <= float(covered.min()) <= float(covered.max()) <= 1
    assert bool((covered[image.sum(dim=-1) > 0] > 0).all())


@pytest.mark.parametrize("name", ["mean", "log_scale", "quaternion", "logit", "coefficient"])
def test_derivatives_are_differences(name: str) -> None:
    parameters = some_gaussians(40, seed=1)
    weight = torch.rand(16, 24, 3, dtype=torch.float64)
    value = getattr(parameters, name).clone().requires_grad_()

    def total(changed: torch.Tensor) -> torch.Tensor:
        return (draw(replace(parameters, **{name: changed}), CAMERA)[0] * weight).sum()

    (found,) = torch.autograd.grad(total(value), value)
    for index in np.random.default_rng(0).choice(value.numel(), 20, replace=False):
        step = torch.zeros(value.numel(), dtype=torch.float64)
        step[index] = 1e-6
        step = step.reshape(value.shape)
        with torch.no_grad():
            slope = float(total(value + step) - total(value - step)) / 2e-6
        assert float(found.reshape(-1)[index]) == pytest.approx(slope, abs=1e-5)


@pytest.mark.parametrize(("name", "value"), [("MOST_CELLS", 300), ("LEAST_FILLED", 0.1), ("TILE_PX", (5, 3))])
def test_the_way_that_tiles_are_worked_on_changes_nothing(
    name: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layers a few at a time, tiles of all lengths at once, and other tiles."""
    seen = []
    for _ in range(2):
        tensors = {name: value.requires_grad_() for name, value in some_gaussians(40, seed=2).tensors().items()}
        image, covered = draw(Parameters(**tensors), CAMERA)
        image.square().sum().backward()
        seen.append([image.detach(), covered, *(each.grad for each in tensors.values())])
        monkeypatch.setattr(rasterise_module, name, value)
    for usual, other in zip(*seen, strict=True):
        torch.testing.assert_close(other, usual, rtol=0, atol=1e-11)


def test_derivatives_by_the_pose_are_differences() -> None:
    """Of the image, in a camera that stands elsewhere and has moved already."""
    camera = moved_camera(CAMERA, np.array([0.03, -0.05, 0.02, 0.1, 0.05, -0.2]))
    parameters, centre = some_gaussians(40, seed=1), torch.from_numpy(camera.centre)
    weight = torch.rand(16, 24, 3, dtype=torch.float64)
    motion = torch.tensor([0.02, 0.01, -0.03, 0.05, -0.04, 0.1], dtype=torch.float64, requires_grad=True)

    def total(changed: torch.Tensor) -> torch.Tensor:
        return (draw(moved(parameters, changed, centre), camera)[0] * weight).sum()

    (found,) = torch.autograd.grad(total(motion), motion)
    for each, step in zip(found, 1e-6 * torch.eye(6, dtype=torch.float64), strict=True):
        with torch.no_grad():
            slope = float(total(motion + step) - total(motion - step)) / 2e-6
        assert float(each) == pytest.approx(slope, abs=1e-5)
    there = moved_camera(camera, motion.detach().numpy())
    torch.testing.assert_close(draw(parameters, there)[0], draw(moved(parameters, motion, centre), camera)[0].detach())


def test_nothing_in_sight_is_a_black_image() -> None:
    behind = replace(some_gaussians(5), mean=-some_gaussians(5).mean)
    image, covered = draw(behind, CAMERA)
    assert not image.any()
    assert not covered.any()
    assert not rasterise(one_flat((500.0, 8.0), 1.0), 24, 16).image.any()


def one_flat(mean: tuple[float, float], sigma_px: float) -> FlatGaussians:
    conic = np.array([[1.0, 0.0, 1.0]], np.float32) / np.float32(sigma_px**2)
    one = np.ones(1, np.float32)
    return FlatGaussians(np.array([mean], np.float32), conic, 0.9 * one, np.ones((1, 3), np.float32), one)


def test_gaussians_that_have_vanished_have_no_derivatives() -> None:
    """Their opacity is zero in single precision, and nothing is divided by it."""
    gone = replace(some_gaussians(5), logit=torch.full((5,), -200.0))
    tensors = {name: value.float().requires_grad_() for name, value in gone.tensors().items()}
    draw(Parameters(**tensors), CAMERA)[0].sum().backward()
    assert not any(each.grad.any() for each in tensors.values())


def test_needles_too_thin_for_float32_leave_the_image_finite() -> None:
    """The determinants of some are below zero by rounding."""
    turns = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
    sizes = torch.tensor([3.0, 1e-4, 1e-4]).log().repeat(100, 1)
    needles = Parameters(
        torch.tensor([[0.0, 0.0, 0.1]]).repeat(100, 1), sizes, turns, torch.ones(100), torch.ones(100, 3)
    )
    image, covered = draw(needles, replace(CAMERA, fx=400.0, fy=400.0))
    assert image.isfinite().all() and covered.isfinite().all()


@pytest.mark.parametrize("sigma_px", [30.0, 300.0, 3000.0])
def test_a_gaussian_larger_than_the_image_covers_it(sigma_px: float) -> None:
    drawn = rasterise(one_flat((12.0, 8.0), sigma_px), 24, 16)
    assert drawn.covered.min() > 0.8 and drawn.image.min() > 0.8


def test_similarity_of_images() -> None:
    image = torch.rand(16, 24, 3)
    torch.testing.assert_close(structural_similarity(image, image), torch.ones(16, 24))
    assert float(structural_similarity(image, torch.rand(16, 24, 3)).mean()) < 0.5
    assert float(photo_loss(image, image, None, 0.2)) == pytest.approx(0.0, abs=1e-6)
    half = torch.zeros(16, 24)
    half[:, :12] = 1.0
    other = image.clone()
    other[:, 18:] = 0.0
    assert float(photo_loss(other, image, half, 0.0)) == 0.0


def test_blurs_on_all_devices_are_the_same_and_derivatives_are_differences() -> None:
    """By OpenCV as tap by tap, also where the window is larger than the image; each pixel by its weights."""
    for height, width in ((16, 24), (4, 30)):
        image = torch.rand(height, width, 3, dtype=torch.float64, requires_grad=True)
        there = losses._summed_there(image) / losses._summed_there(torch.ones_like(image))
        torch.testing.assert_close(losses.window_mean(image), there)
        y, x = np.mgrid[:height, :width]
        weight = np.exp(-((x - 2) ** 2 + (y - 1) ** 2) / 4.5) * (abs(x - 2) <= 5) * (abs(y - 1) <= 5)
        mean = (weight[..., None] * image.detach().numpy()).sum(axis=(0, 1)) / weight.sum()
        np.testing.assert_allclose(there[1, 2].detach(), mean)
        photo = torch.rand(height, width, 3, dtype=torch.float64)
        assert torch.autograd.gradcheck(lambda x, y=photo: structural_similarity(x, y), (image,))


def wall_views(gains: tuple[float, ...] = (1.0,) * 5) -> tuple[list[TrainingView], Gaussians]:
    """Photos of Gaussians on a wall, the middle one held out, with exposures; and those Gaussians."""
    rng = np.random.default_rng(0)
    y, x = np.meshgrid(np.linspace(-1.6, 1.6, 17), np.linspace(-2.4, 2.4, 25), indexing="ij")
    xyz = np.stack([x.ravel(), y.ravel(), np.full(x.size, 3.0)], axis=1)
    truth = initial_gaussians(xyz, rng.integers(20, 235, (len(xyz), 3)).astype(np.uint8), [])
    truth = replace(truth, logit=np.full(len(xyz), 3.0, np.float32), log_scale=truth.log_scale + np.float32(0.3))
    views = []
    for number, gain in enumerate(gains):
        camera = replace(CAMERA, cam_from_world=np.c_[np.eye(3), [0.15 * (2 - number), 0.0, 0.0]])
        image = drawn(truth, camera, draw)[0].numpy() * gain
        views.append(
            TrainingView(f"{number}.png", camera, np.rint(image.clip(0, 1) * 255).astype(np.uint8), None, number == 2)
        )
    return views, truth


def grey_start(truth: Gaussians) -> Gaussians:
    return replace(truth, coefficient=np.zeros_like(truth.coefficient), logit=np.zeros_like(truth.logit))


def test_training_shows_photos_that_were_held_out() -> None:
    views, truth = wall_views()
    state = first_state(grey_start(truth), len(views))
    before = scored(state.gaussians, views[2:3], draw)[0]
    *_, state = trained(state, views, TrainingOptions(steps=120, colour_rate=0.05), draw)
    (after,) = scored(state.gaussians, views[2:3], draw)
    assert state.step == 120
    assert after.covered > 0.9
    assert after.psnr > before.psnr + 6
    assert after.ssim > before.ssim


def test_a_training_goes_on_as_if_it_had_not_stopped() -> None:
    views, truth = wall_views()
    options = TrainingOptions(steps=20, coarse_share=0.4)
    states = list(trained(first_state(grey_start(truth), len(views)), views, options, draw))
    *_, resumed = trained(states[4], views, options, draw)
    assert states[4].step == 10
    for name, value in vars(states[-1].gaussians).items():
        np.testing.assert_allclose(getattr(resumed.gaussians, name), value, atol=1e-6)
    assert list(trained(states[-1], views, options, draw)) == []


def hill_views() -> tuple[list[TrainingView], Gaussians]:
    """Photos of a hill whose colours change slowly, the middle one held out; and its Gaussians. All depths differ: at
    one depth, a camera that turns changes what hides what."""
    y, x = np.meshgrid(np.linspace(-1.6, 1.6, 17), np.linspace(-2.4, 2.4, 25), indexing="ij")
    xyz = np.stack([x, y, 3.0 - np.exp(-(x**2) - y**2) + 0.013 * x + 0.007 * y], axis=2).reshape(-1, 3)
    colours = 127 + 100 * np.sin(np.stack([3 * x + y, 2 * y - x, 3 * y + 2 * x], axis=2).reshape(-1, 3))
    truth = initial_gaussians(xyz, colours.astype(np.uint8), [])
    truth = replace(truth, log_scale=truth.log_scale + np.float32(0.3))
    views = []
    for number in range(5):
        camera = replace(CAMERA, cam_from_world=np.c_[np.eye(3), [0.15 * (2 - number), 0.0, 0.0]])
        image = drawn(truth, camera, draw)[0].numpy()
        views.append(
            TrainingView(f"{number}.png", camera, np.rint(image.clip(0, 1) * 255).astype(np.uint8), None, number == 2)
        )
    return views, truth


def seen_apart_px(a: Pinhole, b: Pinhole) -> float:
    """How far two cameras see four points apart, at most: to turn and to shift a camera look much alike."""
    corners = np.array([[x, y, 2.8] for x in (-1.0, 1.0) for y in (-0.7, 0.7)])
    return float(np.abs(a.project(corners)[0] - b.project(corners)[0]).max())


def test_a_photo_finds_the_pose_that_it_was_moved_from() -> None:
    views, truth = hill_views()
    wrong = moved_camera(views[2].camera, np.array([0.03, -0.03, 0.02, 0.02, 0.02, 0.02]))
    parameters = Parameters(**{name: torch.from_numpy(value) for name, value in vars(truth).items()})
    found = aligned(parameters, replace(views[2], camera=wrong), draw, TrainingOptions())
    assert seen_apart_px(wrong, views[2].camera) > 0.6
    assert seen_apart_px(found.camera, views[2].camera) < 0.2


def test_poses_are_trained_as_far_as_they_are_uncertain() -> None:
    views, truth = hill_views()
    right = views[1].camera
    certain = [replace(view, sigma_rad=1e-4, sigma_centre=1e-4) for view in views]
    certain[1] = replace(certain[1], camera=moved_camera(right, np.array([0.03, 0.03, 0.0, 0.0, 0.0, 0.0])))
    uncertain = [*certain[:1], replace(certain[1], sigma_rad=0.1, sigma_centre=0.1), *certain[2:]]
    options = TrainingOptions(steps=60, pose_rate=0.05, mean_rate=1e-6)
    apart = []
    for given in (certain, uncertain):
        *_, state = trained(first_state(truth, 5), given, options, draw)
        apart.append(seen_apart_px(moved_camera(given[1].camera, state.motion[1]), right))
    assert apart[0] > 0.6 > 0.3 > apart[1]
    assert not state.motion[2].any()  # held out
    assert np.abs(state.motion[[0, 3, 4]]).max() < 1e-3


def test_steps_are_those_of_adam() -> None:
    start = torch.randn(5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ours, theirs = start.clone().requires_grad_(), start.clone().requires_grad_()
    still = start.clone().requires_grad_()
    adam, moments = torch.optim.Adam([theirs], betas=BETAS, eps=EPSILON), dict[str, torch.Tensor]()
    for step in range(1, 21):
        adam.param_groups[0]["lr"] = rate = 0.1 * 0.9**step
        for tensor in (ours, theirs):
            tensor.grad = None
            torch.autograd.backward(((tensor - step) ** 2).sum())
        adam.step()
        adam_step({"x": ours, "still": still}, moments, step, {"x": rate, "still": rate})
    np.testing.assert_allclose(ours.detach(), theirs.detach(), rtol=1e-12)
    assert set(moments) == {"x.exp_avg", "x.exp_avg_sq"} and torch.equal(still, start)


def test_exposure_is_learned_photo_by_photo() -> None:
    views, truth = wall_views((0.7, 0.9, 1.0, 0.9, 0.7))
    options = TrainingOptions(steps=200, gain_rate=0.03, colour_rate=0.001, opacity_rate=0.001, scale_rate=0.0001)
    *_, state = trained(first_state(truth, len(views)), views, options, draw)
    gain = np.exp(state.log_gain - state.log_gain[[0, 1, 3, 4]].mean(axis=0))
    np.testing.assert_allclose(gain[[0, 4]] / gain[[1, 3]], 7 / 9, rtol=0.08)


def test_what_is_masked_is_neither_trained_on_nor_scored() -> None:
    views, truth = wall_views()
    hidden = np.ones((16, 24), bool)
    hidden[:, :12] = False
    spoiled = views[2].rgb.copy()
    spoiled[:, :12] = 255
    view = replace(views[2], rgb=spoiled, visible=hidden)
    (whole,), (masked,) = scored(truth, [replace(view, visible=None)], draw), scored(truth, [view], draw)
    assert masked.psnr > 40 > whole.psnr
    assert masked.covered == pytest.approx(0.5, abs=0.01)


def test_cells_without_a_seed_get_one_behind_their_neighbours() -> None:
    views, _ = wall_views()
    xyz = np.array([[0.0, 0.0, 3.0], [0.1, 0.0, 3.0], [0.0, 0.1, 4.0], [0.1, 0.1, 4.0]])
    more, rgb = with_fillers(xyz, np.zeros((4, 3), np.uint8), views[:1], 4)
    assert len(more) == len(rgb)
    assert len(more) >= 4 + 20
    np.testing.assert_allclose(more[4:, 2], 4.0)
    fewer, _ = thinned_seeds(np.random.default_rng(0).uniform(1, 2, (500, 3)), np.zeros((500, 3), np.uint8), views, 100)
    assert 20 < len(fewer) <= 100


def test_gsplat_is_called_as_its_documentation_says() -> None:
    """Against a double of gsplat.rasterization with its parameters, which draws as the trainer for CPUs does."""

    def rasterization(
        means: torch.Tensor,
        quats: torch.Tensor,
        scales: torch.Tensor,
        opacities: torch.Tensor,
        colors: torch.Tensor,
        viewmats: torch.Tensor,
        Ks: torch.Tensor,
        width: int,
        height: int,
        near_plane: float,
        packed: bool,
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, object]]:
        assert viewmats.shape == (1, 4, 4) and near_plane == 0.5
        (fx, _, cx), (_, fy, cy), _ = Ks[0].tolist()
        camera = Pinhole(width, height, fx, fy, cx, cy, viewmats[0, :3].numpy())
        coefficient = (colors - 0.5) / SH_0
        image, covered = draw(Parameters(means, scales.log(), quats, torch.logit(opacities), coefficient), camera)
        return image[None], covered[None, ..., None], {}

    parameters = some_gaussians(30)
    expected, ours = draw(parameters, CAMERA), drawn_by(rasterization, parameters, CAMERA, 0.5)
    torch.testing.assert_close(ours[0].double(), expected[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(ours[1].double(), expected[1], atol=1e-5, rtol=0)
