"""Cameras that are turned see the same: pixels, poses, intrinsics and fundamental matrices agree in every frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from unposed.optim.cameras import CAMERA_MODELS, intrinsics_of, project
from unposed.optim.quarter_turns import (
    quarter_rotations,
    turned_params,
    turned_pixels,
    turned_sizes,
    turned_view_graph,
)

PARAMS = {
    "SIMPLE_RADIAL": (900.0, 650.0, 460.0, 0.1),
    "PINHOLE": (900.0, 850.0, 650.0, 460.0),
    "OPENCV": (900.0, 850.0, 650.0, 460.0, 0.1, -0.03, 0.004, -0.002),
    "OPENCV_FISHEYE": (500.0, 510.0, 650.0, 460.0, 0.03, -0.01, 0.002, -0.001),
}
SIZE = (1280, 960)


@pytest.mark.parametrize("model", PARAMS)
@pytest.mark.parametrize("quarters", range(4))
def test_a_turned_camera_sees_turned_pixels(model: str, quarters: int) -> None:
    rng = np.random.default_rng(0)
    y = np.column_stack([rng.uniform(-0.6, 0.6, (50, 2)), np.ones(50)])
    many, size = np.full(50, quarters), np.tile(SIZE, (50, 1))
    fisheye = CAMERA_MODELS[model].fisheye
    xy = project(y, intrinsics_of(model, PARAMS[model]), fisheye)
    params = turned_params(model, PARAMS[model], SIZE, quarters)
    turned = project(y @ quarter_rotations(many)[0].T, intrinsics_of(model, params), fisheye)
    np.testing.assert_allclose(turned, turned_pixels(xy, size, many), atol=1e-9)
    wide = turned_sizes(size[:1], many[:1])[0].tolist()
    np.testing.assert_allclose(turned_params(model, params, tuple(wide), -quarters), PARAMS[model], atol=1e-9)
    np.testing.assert_allclose(turned_pixels(turned, np.tile(wide, (50, 1)), -many), xy, atol=1e-9)


def test_one_quarter_is_what_numpy_calls_rot90() -> None:
    image = np.arange(12).reshape(3, 4)  # 4 wide, 3 high
    centres = np.stack(np.meshgrid(np.arange(4) + 0.5, np.arange(3) + 0.5), axis=-1).reshape(-1, 2)
    for quarters in range(4):
        at = turned_pixels(centres, np.tile((4, 3), (12, 1)), np.full(12, quarters))
        column, line = (at - 0.5).astype(int).T
        np.testing.assert_array_equal(np.rot90(image, quarters)[line, column], image.ravel())


def test_matches_keep_their_distance_from_epipolar_lines(collection: Callable[..., Any]) -> None:
    world = collection(photos=5, noise_px=2.0, sizes=[(1600, 1200), (1300, 1200)])
    quarters = np.array([0, 1, 2, 3, 1])
    graph, turned = world.graph, turned_view_graph(world.graph, quarters)
    np.testing.assert_array_equal(turned.keypoints.size[1], (1200, 1300))

    def errors(graph: Any) -> np.ndarray:
        (row_a, row_b), edge = graph.matches(), graph.edge_of_match()
        a, b = (np.column_stack([graph.keypoints.xy[row], np.ones(len(row))]) for row in (row_a, row_b))
        line = np.einsum("nij,nj->ni", graph.fundamental[edge], a)
        return np.asarray(np.abs(np.sum(b * line, axis=1)) / np.linalg.norm(line[:, :2], axis=1))

    assert np.median(errors(graph)) > 0.5
    np.testing.assert_allclose(errors(turned), errors(graph), rtol=1e-6, atol=1e-6)
    back = turned_view_graph(replace(turned), -quarters)
    np.testing.assert_allclose(back.keypoints.xy, graph.keypoints.xy, atol=1e-9)
