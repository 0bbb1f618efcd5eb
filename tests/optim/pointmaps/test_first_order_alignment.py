"""The first-order recipe: equal to what the published code does with the same input, step by step."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from unposed.optim.pointmaps.first_order_alignment import (
    COARSE_PHASE,
    FINE_PHASE,
    AdamPhase,
    AlignmentParameters,
    AnchoredMatches,
    FirstOrderAlignment,
    FirstOrderProblem,
    align_first_order,
    alignment_result,
    cosine_rate,
    power_loss,
    run_adam,
)
from unposed.optim.pointmaps.kinematic_tree import Tree

Reference = Callable[[str], Any]
PHOTOS = 4
USABLE = 5.0
"""Pairs whose best match is less sure than this go by what the network saw from the other photo."""

NAMES = {
    "quat": "rotation",
    "trans": "translation",
    "log_size": "log_scale",
    "log_focal": "log_focal",
    "pp": "principal",
    "core_depth": "depth",
}


@pytest.fixture(scope="module")
def small(reference: Reference) -> tuple[AnchoredMatches, Tree]:
    """Four made-up views; the pair (0, 3) has no dependable match."""
    given = reference("fixtures/ga_small_input.safetensors")
    made = reference("fixtures/ga_small_intermediate.safetensors")
    depth = [made[f"core_depth.{i}"].ravel() for i in range(PHOTOS)]
    pixels = [made[f"anchor_pix.{i}"] for i in range(PHOTOS)]
    depth_start = np.cumsum([0, *map(len, depth)])
    start = np.cumsum([0, *map(len, pixels)])
    rows_a, rows_b, weight, predicting_photo, predicted_row, predicted, predicted_weight = ([] for _ in range(7))
    for i in range(PHOTOS):
        for j in range(i + 1, PHOTOS):
            begin_i, end_i, begin_j, end_j = made[f"pair.{i}-{j}.slices"]
            if given[f"{i}-{j}.conf"].max() > USABLE:
                rows_a.append(start[i] + np.arange(begin_i, end_i))
                rows_b.append(start[j] + np.arange(begin_j, end_j))
                weight.append(made[f"pair.{i}-{j}.conf"])
                continue
            for a, b in ((i, j), (j, i)):
                points = made[f"pred21.{a}>{b}.pts"]
                predicting_photo.append(np.full(len(points), a))
                predicted_row.append(start[b] + np.arange(len(points)))
                predicted.append(points)
                predicted_weight.append(made[f"pred21.{a}>{b}.conf"])
    matched = AnchoredMatches(
        size=np.array([[64, 48]] * PHOTOS),
        focal_px=made["base_focals"],
        confidence=np.array([made[f"canon_conf.{i}"].mean() for i in range(PHOTOS)]),
        depth=np.concatenate(depth),
        depth_start=depth_start,
        photo=np.repeat(np.arange(PHOTOS), np.diff(start)),
        xy=np.concatenate(pixels)[:, :2],
        anchor=np.concatenate([made[f"anchor_idx.{i}"] + depth_start[i] for i in range(PHOTOS)]),
        offset=np.concatenate([made[f"anchor_off.{i}"] for i in range(PHOTOS)]),
        row_a=np.concatenate(rows_a),
        row_b=np.concatenate(rows_b),
        weight=np.concatenate(weight),
        predicting_photo=np.concatenate(predicting_photo),
        predicted_row=np.concatenate(predicted_row),
        predicted=np.concatenate(predicted),
        predicted_weight=np.concatenate(predicted_weight),
    )
    return matched, Tree(int(made["mst_root"][0]), [(int(a), int(b)) for a, b in made["mst_edges"]])


@pytest.mark.parametrize("iteration", [0, 1, 2, 5, 10, 50, 100, 200, 299])
@pytest.mark.parametrize(("number", "phase"), [(0, COARSE_PHASE), (1, FINE_PHASE)], ids=["coarse", "fine"])
def test_losses_and_gradients_along_the_published_path(
    reference: Reference, small: tuple[AnchoredMatches, Tree], number: int, phase: AdamPhase, iteration: int
) -> None:
    trace = reference("fixtures/ga_small_trace.safetensors")
    expected = reference("fixtures/ga_small_result.safetensors")["default.loss"][300 * number + iteration]
    before = f"phase{number}.it{iteration}."
    state = AlignmentParameters(**{name: torch.from_numpy(trace[before + key].copy()) for key, name in NAMES.items()})
    state = replace(
        state, log_scale=state.log_scale[:, 0], log_focal=state.log_focal[:, 0], depth=state.depth.reshape(-1)
    )
    for tensor in state.tensors(phase):
        tensor.requires_grad_()
    loss = FirstOrderProblem(*small).loss(state, phase)
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert cosine_rate(phase.rate, iteration / phase.iterations) == pytest.approx(trace[before + "lr"][0])
    if iteration > 10:  # later gradients are what is left of numbers that cancel
        return
    loss.backward()
    for key, name in NAMES.items():
        if before + "grad." + key in trace:
            theirs = trace[before + "grad." + key]
            ours = getattr(state, name).grad.numpy().reshape(theirs.shape)
            np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())


@pytest.fixture(scope="module")
def after_coarse(small: tuple[AnchoredMatches, Tree]) -> tuple[FirstOrderProblem, AlignmentParameters, list[float]]:
    """The state and the losses of the first phase, which three of the published alignments share."""
    problem = FirstOrderProblem(*small)
    return (problem, *run_adam(problem, problem.start(shared=False), COARSE_PHASE))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "phases", "shared", "end"),
    [
        ("default", (COARSE_PHASE, FINE_PHASE), False, 1e-2),
        ("shared", (COARSE_PHASE, FINE_PHASE), True, 1e-2),
        ("coarse_only", (COARSE_PHASE,), False, 1e-3),
        ("nodepth", (COARSE_PHASE, replace(FINE_PHASE, depth=False)), False, 1e-2),
    ],
)
def test_the_end_is_as_good_as_the_published_one(
    reference: Reference,
    small: tuple[AnchoredMatches, Tree],
    after_coarse: tuple[FirstOrderProblem, AlignmentParameters, list[float]],
    name: str,
    phases: tuple[AdamPhase, ...],
    shared: bool,
    end: float,
) -> None:
    expected = reference("fixtures/ga_small_result.safetensors")
    curve = expected[f"{name}.loss"]
    if shared:
        found = align_first_order(*small, phases, shared=True)
    else:
        problem, state, losses = after_coarse
        for phase in phases[1:]:
            state, more = run_adam(problem, state, phase)
            losses = losses + more
        found = alignment_result(problem, state, losses)
    assert len(found.losses) == len(curve)
    np.testing.assert_allclose(found.losses[:8], curve[:8], rtol=1e-5)
    assert found.losses[-1] == pytest.approx(curve[-1], rel=end)  # Adam's steps are signs: paths part after a while
    if name == "coarse_only":  # short enough to end at the same place
        to_first, first_to = np.linalg.inv(found.world_from_cam[0]), expected["coarse_only.cam2w"][0]
        gauge = first_to @ to_first  # nothing holds the world, rounding turns it
        np.testing.assert_allclose(gauge @ found.world_from_cam, expected["coarse_only.cam2w"], atol=2e-2)
        np.testing.assert_allclose(found.depth.reshape(PHOTOS, -1), expected["coarse_only.depthmaps"], rtol=2e-2)
        np.testing.assert_allclose(found.focal_px, expected["coarse_only.intrinsics"][:, 0, 0], rtol=1e-5)
        points = np.concatenate([expected[f"coarse_only.pts3d.{i}"] for i in range(PHOTOS)])
        np.testing.assert_allclose(found.points @ gauge[:3, :3].T + gauge[:3, 3], points, atol=2e-2)


def test_losses_and_rates_by_the_table(reference: Reference) -> None:
    table = reference("fixtures/loss_functions.json")
    distance = torch.tensor(table["distance"], dtype=torch.float64)
    for gamma, expected in table["gamma"].items():
        np.testing.assert_allclose(power_loss(distance, float(gamma)), expected, rtol=1e-6, atol=1e-12)
    for progress, expected in table["cosine"].items():
        assert cosine_rate(0.07, float(progress)) == pytest.approx(expected, abs=1e-12)


def made_up(photos: int = 5, points: int = 200, seed: int = 0) -> tuple[AnchoredMatches, np.ndarray]:
    """Photos on an arc, every point matched between all of them, every depth known but for the photo's scale."""
    rng = np.random.default_rng(seed)
    turn = np.radians(np.linspace(-30.0, 30.0, photos))
    world = rng.uniform(-1.0, 1.0, (points, 3))
    size, focal = (320, 240), 300.0
    poses, xy, depth = [], [], []
    for angle in turn:
        rotation = np.array([[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]])
        centre = rotation @ [0.0, 0.0, -5.0]
        poses.append(np.vstack([np.column_stack([rotation, centre]), [0, 0, 0, 1]]))
        y = (world - centre) @ rotation
        xy.append(focal * y[:, :2] / y[:, 2:] + np.array(size) / 2.0)
        depth.append(y[:, 2] * rng.uniform(0.5, 2.0))
    pairs = [(a, b) for a in range(photos) for b in range(a + 1, photos)]
    each = np.arange(points)
    nothing = np.zeros(0, np.int64)
    matched = AnchoredMatches(
        size=np.array([size] * photos),
        focal_px=np.full(photos, focal),
        confidence=np.ones(photos),
        depth=np.concatenate(depth),
        depth_start=points * np.arange(photos + 1),
        photo=np.repeat(np.arange(photos), points),
        xy=np.concatenate(xy),
        anchor=np.arange(photos * points),
        offset=np.ones(photos * points),
        row_a=np.concatenate([a * points + each for a, _ in pairs]),
        row_b=np.concatenate([b * points + each for _, b in pairs]),
        weight=np.ones(len(pairs) * points),
        predicting_photo=nothing,
        predicted_row=nothing,
        predicted=np.zeros((0, 3)),
        predicted_weight=np.zeros(0),
    )
    return matched, np.array(poses)


def relative_errors_deg(found: FirstOrderAlignment, truth: np.ndarray) -> np.ndarray:
    ours, theirs = (np.linalg.inv(poses[0]) @ poses for poses in (found.world_from_cam, truth))
    turned = np.trace(ours[:, :3, :3].transpose(0, 2, 1) @ theirs[:, :3, :3], axis1=1, axis2=2)
    return np.degrees(np.arccos(np.clip((turned - 1.0) / 2.0, -1.0, 1.0)))


@pytest.mark.slow
def test_perfect_matches_are_aligned() -> None:
    matched, truth = made_up(points=80)
    tree = Tree(2, [(2, 1), (2, 3), (1, 0), (3, 4)])
    phases = replace(COARSE_PHASE, iterations=200), replace(FINE_PHASE, iterations=200, principal=False)
    found = align_first_order(matched, tree, phases)
    assert relative_errors_deg(found, truth).max() < 0.1
    np.testing.assert_allclose(found.focal_px, 300.0, rtol=5e-3)


def test_it_starts_with_all_cameras_in_one_place() -> None:
    """Each at the typical depth before the common middle, whatever its focal length and size."""
    matched, _ = made_up()
    problem = FirstOrderProblem(matched, Tree(0, [(0, i) for i in range(1, 5)]))
    view = problem.view(problem.start(shared=False))
    np.testing.assert_allclose(view.centre[:, 2], -problem.median, rtol=1e-6)
    np.testing.assert_allclose(view.depth, matched.depth, rtol=1e-5)
    shared = problem.start(shared=True)
    assert shared.log_focal.shape == (1,)
    np.testing.assert_allclose(problem.view(shared).focal, 300.0, rtol=1e-6)


def test_the_state_of_given_cameras_is_theirs() -> None:
    matched, truth = made_up()
    problem = FirstOrderProblem(matched, Tree(2, [(2, 1), (2, 3), (1, 0), (3, 4)]))
    rng = np.random.default_rng(1)
    focal, size = rng.uniform(250.0, 350.0, 5), rng.uniform(1.0, 2.0, 5)
    principal = rng.uniform(100.0, 180.0, (5, 2))
    view = problem.view(problem.state_of(truth[:, :3], focal, principal, size))
    np.testing.assert_allclose(view.rotation, truth[:, :3, :3], atol=1e-6)
    np.testing.assert_allclose(view.centre * size.min(), truth[:, :3, 3], atol=1e-4)
    np.testing.assert_allclose(view.focal, focal, rtol=1e-6)
    np.testing.assert_allclose(view.principal, principal, rtol=1e-6)
    middle = problem.median.numpy() * size * focal / 300.0  # depths stretch with the focal length, about the middle
    spread = (problem.median * torch.from_numpy(size)).repeat_interleave(200) * (problem.start_depth - 1.0)
    np.testing.assert_allclose(view.depth * size.min(), np.repeat(middle, 200) + spread.numpy(), rtol=1e-4)


def test_no_match_at_all_is_no_harm() -> None:
    matched, _ = made_up(photos=2)
    nothing = np.zeros(0, np.int64)
    empty = replace(matched, row_a=nothing, row_b=nothing, weight=np.zeros(0))
    found = align_first_order(empty, Tree(0, [(0, 1)]), (replace(COARSE_PHASE, iterations=3),))
    assert np.isfinite(found.world_from_cam).all()
