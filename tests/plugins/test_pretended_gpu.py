"""Networks, dense matching and bundle adjustment where tensors are not in the memory of the host: for machines without
a GPU, on one that is none, see `pretended_gpu`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pretended_gpu import GPU, PretendedGpu, on_both

from unposed.optim.bundle.adjust import adjust_bundle
from unposed.optim.bundle.adjust_torch import adjust_by_torch
from unposed.optim.bundle.losses import HUBER, SQUARED, Loss, barron
from unposed.optim.bundle.pose_priors import DepthPriors, no_pose_priors
from unposed.optim.bundle.problem import BundleOptions, IntrinsicsPrior, camera_points
from unposed.optim.pair.reciprocal_matching import seed_grid
from unposed.optim.pair.reciprocal_on_device import (
    DenseSides,
    nearest_by_distance,
    nearest_by_product,
    reciprocal_both_ways_on_device,
)
from unposed.pipeline.artifacts import PairMatches, Photo
from unposed.pipeline.images.photos import single_photos
from unposed.pipeline.stage import Resources, Sides
from unposed.plugins.features.mast3r import Mast3rTokens
from unposed.plugins.matching.dust3r import Dust3rMatcher
from unposed.plugins.matching.mast3r import Mast3rMatcher


def test_what_is_there_cannot_be_mixed_with_what_is_here() -> None:
    with PretendedGpu():  # type: ignore[no-untyped-call]
        there, here = torch.ones(3, device=GPU), torch.ones(3)
        np.testing.assert_array_equal((there + there.new_ones(3)).cpu().numpy(), 2.0)
        with pytest.raises(RuntimeError, match="same device"):
            there + here
        with pytest.raises(RuntimeError, match="not supported"):
            np.asarray(there)


@pytest.mark.parametrize("search", [nearest_by_product, nearest_by_distance])
def test_dense_maps_are_searched_where_they_are(search: Any) -> None:
    random = np.random.default_rng(0)
    a, b = random.standard_normal((2, 24, 32, 3)).astype(np.float32)
    seeds = seed_grid(24, 32, 2)

    def work(device: str) -> Any:
        sides = DenseSides(*(torch.from_numpy(each).to(device) for each in (a, b)))
        return reciprocal_both_ways_on_device([sides], seeds, seeds, search)

    for here, there in zip(*on_both(work), strict=True):
        assert len(here.a) > 5
        np.testing.assert_array_equal(here, there)


@pytest.fixture
def photos(tmp_path: Path) -> Sides[Photo]:
    random = np.random.default_rng(0)
    for name in "ab":
        small = Image.fromarray(random.integers(0, 256, (8, 10, 3), dtype=np.uint8))
        small.resize((160, 128)).save(tmp_path / f"{name}.png")
    return Sides(*single_photos(tmp_path / "a.png", tmp_path / "b.png").photos)


@pytest.mark.parametrize(
    "stage", [Mast3rMatcher(seed_px=4), Mast3rMatcher(seed_px=4, max_side_px=128), Dust3rMatcher(max_gap=10.0)]
)
def test_from_photos_to_matches(stage: Any, photos: Sides[Photo], reference: Callable[[str], Path]) -> None:
    file = reference("fixtures/tiny_mast3r.pth")

    def work(device: str) -> PairMatches:
        resources = Resources(device, 1, 1 << 30, 1 << 30)
        encode = Mast3rTokens(weights=file, keep="float32", size_px=64, precision="float32")
        tokens = Sides(*encode.batch([(photo,) for photo in photos], resources))
        found: PairMatches = replace(stage, weights=file, precision="float32")(tokens, photos, resources)
        return found

    here, there = on_both(work)
    rows_here, rows_there = ({tuple(row) for row in np.hstack([each.xy_a, each.xy_b])} for each in (here, there))
    assert len(rows_here & rows_there) > max(10, 0.9 * len(rows_here | rows_there))  # noise has ties, nearly
    for name in ("depth", "confidence"):
        for one, other in zip(here.grids, there.grids, strict=True):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-3)


@pytest.mark.parametrize("model", ["OPENCV", "OPENCV_FISHEYE"])
@pytest.mark.parametrize("loss", [HUBER, barron(-2.0), SQUARED], ids=["huber", "barron", "squared"])
def test_all_that_may_pull_on_a_bundle_does_so_there(collection: Callable[..., Any], model: str, loss: Loss) -> None:
    lens = (1500.0, 1520.0, 810.0, 590.0, -0.05, 0.02, 0.001, -0.002)
    bundle = collection(photos=6, points=40, noise_px=0.5, model=model, lenses=(lens,)).bundle(wrong=0.02)
    options = BundleOptions(principal=True, distortion=True, loss=loss, max_iterations=3)
    centre = -np.einsum("cji,cj->ci", bundle.cam_from_world[:, :, :3], bundle.cam_from_world[:, :, 3])
    anchors = replace(
        no_pose_priors(6), fixed=np.arange(6) == 2, centre=centre + 0.1, centre_sigma=np.full((6, 3), 0.1)
    )
    given = (
        IntrinsicsPrior(bundle.intrinsics * 1.01, np.full(bundle.intrinsics.shape, 0.5)),
        np.linspace(0.5, 2.0, len(bundle.xy)),
        anchors,
        DepthPriors(1.1 * camera_points(bundle)[:, 2], np.full(len(bundle.xy), 0.1)),
    )
    here, there = on_both(lambda device: adjust_by_torch(device, bundle, options, *given)[1])
    assert here.final_cost < here.initial_cost
    np.testing.assert_allclose(there.costs, here.costs, rtol=1e-9)


@pytest.mark.parametrize("lenses", [1, 2])
def test_bundles_are_adjusted_there_as_here(collection: Callable[..., Any], lenses: int) -> None:
    several = {"lenses": ((1500.0, 800.0, 600.0, -0.05),) * lenses, "sizes": ((1600, 1200),) * lenses}
    bundle = collection(photos=6, points=60, noise_px=0.5, **several).bundle(wrong=0.02, wrong_px=20.0)
    options = BundleOptions(distortion=True, loss_px=1.0, max_iterations=6)
    here, there = on_both(lambda device: adjust_by_torch(device, bundle, options)[1])
    np.testing.assert_allclose(there.costs, here.costs, rtol=1e-9)
    processor = adjust_bundle(bundle, options)[1]
    assert there.initial_cost == pytest.approx(processor.initial_cost, rel=1e-12)
    assert there.final_cost == pytest.approx(processor.final_cost, rel=1e-2)  # steps by conjugate gradients are rough
    assert there.final_cost < 0.5 * there.initial_cost
