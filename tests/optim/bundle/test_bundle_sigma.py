"""Observations that are not equally exact."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from unposed.optim.bundle.adjust import adjust_bundle
from unposed.optim.bundle.problem import BundleOptions

Make = Callable[..., Any]


def test_usual_observations_are_those_without_a_word(collection: Make) -> None:
    start = collection(photos=5, points=100, noise_px=0.5).bundle()
    plain, told = (
        adjust_bundle(start, BundleOptions())[0],
        adjust_bundle(start, BundleOptions(), sigma=np.ones(len(start.xy)))[0],
    )
    assert plain.cam_from_world.tobytes() == told.cam_from_world.tobytes()


def test_twice_the_sigma_is_half_the_error(collection: Make) -> None:
    """Dividing all errors by two is measuring in units of two pixels."""
    start = collection(photos=5, points=100, noise_px=0.5).bundle(wrong=0.05)
    exact = {"max_iterations": 100, "tolerance": 1e-12}
    halved, summary = adjust_bundle(start, BundleOptions(loss_px=1.0, **exact), sigma=np.full(len(start.xy), 2.0))
    plain, plain_summary = adjust_bundle(start, BundleOptions(loss_px=2.0, **exact))
    assert summary.final_cost == pytest.approx(plain_summary.final_cost / 4.0, rel=1e-9)
    np.testing.assert_allclose(halved.intrinsics, plain.intrinsics, rtol=1e-5)


def test_inexact_observations_pull_less(collection: Make) -> None:
    """Every third observation is four times as noisy: who knows it is nearer to the truth."""
    off = {"told": [], "untold": []}
    for seed in range(4):
        world = collection(photos=8, points=250, seed=seed)
        start = world.bundle()
        sigma = np.where(np.arange(len(start.xy)) % 3 == 0, 4.0, 1.0)
        start.xy[:] += 0.3 * sigma[:, None] * np.random.default_rng(seed).standard_normal(start.xy.shape)
        for name, known in (("told", sigma), ("untold", None)):
            found, _ = adjust_bundle(start, BundleOptions(loss_px=2.0, max_iterations=50, tolerance=1e-9), sigma=known)
            off[name].append(np.nanmean(world.errors(found.cam_from_world).centre_error))
    assert np.mean(off["told"]) < 0.9 * np.mean(off["untold"])
