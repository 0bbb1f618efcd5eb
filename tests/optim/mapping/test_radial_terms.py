"""A second radial term: found where lenses have one, left alone where they do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from unposed.optim.bundle.adjust import adjust_bundle
from unposed.optim.mapping.radial_terms import RadialTermOptions, with_radial_terms
from unposed.optim.mapping.refinement import RefinementResult, RefineOptions, prior_of_refinement, refine

Make = Callable[..., Any]
PHONE = (1500.0, 800.0, 600.0, 0.1, -0.25)
PLAIN = (1500.0, 800.0, 600.0, -0.05, 0.0)
SIZES = ((1600, 1200), (1600, 1199))
"""Two sizes are two cameras."""


def outcomes(world: Any, **options: Any) -> tuple[RefinementResult, RefinementResult]:
    """Refined with one radial term, and what becomes of that."""
    true = world.bundle()
    values = true.intrinsics.copy()
    values[:, 5] = 0.0
    start = replace(true, models=("SIMPLE_RADIAL",) * len(true.models), intrinsics=values)
    prior = prior_of_refinement(start, world.initial_intrinsics().prior)
    refinement = RefineOptions(max_iterations=(40, 20))
    none = np.zeros(0, np.int64)
    found = refine(world.graph, start, prior, none, refinement, keypoint_error_px=1.0)
    own = RadialTermOptions(**options)
    return found, with_radial_terms(world.graph, found, prior, None, adjust_bundle, refinement, own)


def rotation_deg(world: Any, found: RefinementResult) -> float:
    return float(np.median(world.errors(found.bundle.cam_from_world).rotation_error_deg))


@pytest.mark.parametrize(("noise_px", "wrong"), [(0.0, 0.0), (0.4, 0.0), (0.4, 0.05)])
def test_a_lens_with_two_terms_gets_both(collection: Make, noise_px: float, wrong: float) -> None:
    world = collection(
        photos=8, points=1500, distance=2.2, model="RADIAL", lenses=(PHONE,), noise_px=noise_px, wrong=wrong
    )
    before, after = outcomes(world)
    assert before.bundle.models == ("SIMPLE_RADIAL",) and after.bundle.models == ("RADIAL",)
    np.testing.assert_allclose(after.bundle.intrinsics[0, 4:6], PHONE[3:], atol=0.01 if noise_px == 0.0 else 0.05)
    assert rotation_deg(world, after) < 0.5 * rotation_deg(world, before)
    assert len(after.summaries) == len(before.summaries) + 1


@pytest.mark.parametrize("noise_px", [0.2, 0.6])
def test_a_lens_with_one_term_keeps_it(collection: Make, noise_px: float) -> None:
    world = collection(photos=8, points=1500, distance=2.2, model="RADIAL", lenses=(PLAIN,), noise_px=noise_px)
    before, after = outcomes(world)
    assert after is before


def test_of_two_cameras_only_the_one_that_needs_it(collection: Make) -> None:
    world = collection(
        photos=10, points=1500, distance=2.2, model="RADIAL", lenses=(PHONE, PLAIN), sizes=SIZES, noise_px=0.4
    )
    before, after = outcomes(world, min_observations=300)
    by_first_coefficient = dict(zip(after.bundle.models, after.bundle.intrinsics[:, 4], strict=True))
    assert set(after.bundle.models) == {"RADIAL", "SIMPLE_RADIAL"}
    assert by_first_coefficient["RADIAL"] > 0.05 > by_first_coefficient["SIMPLE_RADIAL"]
    off = [np.abs(each.bundle.intrinsics[:, 0] / 1500.0 - 1.0).max() for each in (before, after)]
    assert off[1] < 0.5 * off[0]


def test_few_observations_and_the_option_leave_all_as_it_is(collection: Make) -> None:
    world = collection(photos=8, points=1500, distance=2.2, model="RADIAL", lenses=(PHONE,), noise_px=0.4)
    for options in ({"enabled": False}, {"min_observations": 10**6}, {"min_gain": 1.0}):
        before, after = outcomes(world, **options)
        assert after is before
