"""Focal lengths and canonical maps: equal to the published ones where these are sane, better where they are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from unposed.optim.pointmaps.canonical_point_maps import canonical_point_map
from unposed.optim.pointmaps.predicted_focals import focal_robust, focal_weiszfeld, plausible_focal

Arrays = dict[str, NDArray[Any]]
SANE, SPOILT = ("0", "1", "3"), ("2", "4", "5")


@pytest.fixture(scope="module")
def maps(reference: Callable[[str], Arrays]) -> Arrays:
    return reference("fixtures/focal.safetensors")


@pytest.fixture(scope="module")
def focals(reference: Callable[[str], Any]) -> dict[str, dict[str, float]]:
    return reference("fixtures/focal.json")


@pytest.mark.parametrize("case", SANE)
def test_published_focals(maps: Arrays, focals: dict[str, dict[str, float]], case: str) -> None:
    published, points = focals[case], maps[f"{case}.pts3d"]
    height, width, _ = points.shape
    found = focal_weiszfeld(points)
    assert found == pytest.approx(published["weiszfeld_free"], rel=1e-4)
    assert plausible_focal(found, width, height) == pytest.approx(published["weiszfeld_clip"], rel=1e-4)
    truth = published["true_focal"]
    assert abs(focal_robust(points) - truth) <= abs(found - truth) + 1e-3


@pytest.mark.parametrize("case", SPOILT)
def test_gross_errors_do_not_decide(maps: Arrays, focals: dict[str, dict[str, float]], case: str) -> None:
    published, truth = focals[case], focals[case]["true_focal"]
    found = focal_robust(maps[f"{case}.pts3d"])
    assert abs(found - truth) < 0.02 * truth
    assert abs(found - truth) < 0.2 * abs(published["median_free"] - truth)
    assert abs(published["weiszfeld_free"] - truth) > 0.9 * truth  # where the published estimate ends


def a_map(focal: float, depth: NDArray[np.float64]) -> NDArray[np.float32]:
    height, width = depth.shape
    y, x = np.mgrid[:height, :width]
    return (
        np.stack([(x - width / 2) / focal, (y - height / 2) / focal, np.ones_like(depth)], -1) * depth[..., None]
    ).astype(np.float32)


def test_focal_where_confidence_is_right() -> None:
    rng = np.random.default_rng(0)
    points = a_map(55.0, rng.uniform(2, 5, (40, 60)))
    wrong = rng.random((40, 60)) < 0.7
    points[wrong] = a_map(30.0, rng.uniform(2, 5, (40, 60)))[wrong]
    assert focal_robust(points, np.where(wrong, 0.05, 5.0)) == pytest.approx(55.0, rel=1e-3)


def test_focal_of_a_thinned_map() -> None:
    points = a_map(55.0, np.random.default_rng(0).uniform(2, 5, (40, 64)))
    assert focal_robust(points[2::4, 2::4], step=4) == pytest.approx(55.0, rel=1e-6)


def test_maps_without_an_opinion() -> None:
    nothing = np.full((8, 8, 3), np.nan, np.float32)
    assert np.isnan(focal_robust(nothing))
    assert plausible_focal(float("nan"), 640, 480) == pytest.approx(554.26, abs=0.01)  # 60 degrees


@pytest.mark.parametrize(("case", "predictions", "block"), [("avg-angle", 3, 8), ("single_S4", 1, 4)])
def test_published_canonical_maps(reference: Callable[[str], Arrays], case: str, predictions: int, block: int) -> None:
    published = reference("fixtures/canonical.safetensors")
    found = canonical_point_map(published["ptmaps"][:predictions], published["confs"][:predictions], block)
    for ours, theirs in zip(found, ("canon", "canon2", "conf"), strict=True):
        np.testing.assert_allclose(ours, published[f"{case}.{theirs}"], rtol=1e-5, atol=1e-5)


def test_published_offsets(reference: Callable[[str], Arrays]) -> None:
    published = reference("fixtures/canonical.safetensors")
    ratio = canonical_point_map(published["ptmaps"], published["confs"]).depth_ratio
    x, y = published["offsets.xy"].T
    assert np.array_equal(y // 8 * 8 + x // 8, published["offsets.idx"])
    relative = ratio[y, x] / ratio[y // 8 * 8 + 4, x // 8 * 8 + 4]
    np.testing.assert_allclose(relative, published["offsets.value"], rtol=1e-5, atol=1e-5)


def test_scales_of_predictions_do_not_bend_the_surface() -> None:
    depth = 3.0 + 0.02 * np.mgrid[:32, :48][1] + 0.3 * np.sin(np.mgrid[:32, :48][0] / 5.0)
    one = a_map(40.0, depth)
    both = canonical_point_map(np.stack([one, 2.5 * one]), np.full((2, 32, 48), 3.0, np.float32))
    alone = canonical_point_map(one[None], np.full((1, 32, 48), 3.0, np.float32))
    np.testing.assert_allclose(both.depth_ratio, alone.depth_ratio, atol=2e-4)
    np.testing.assert_allclose(alone.depth_ratio[4::8, 4::8], 1.0, atol=1e-6)
