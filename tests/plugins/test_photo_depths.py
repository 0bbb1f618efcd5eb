"""Depths that a network predicts for single photos: carried to matches, and heard where there are few tracks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from worlds import look_at_origin

from unposed.optim.rotations import rotation_angle_deg
from unposed.pipeline.artifact_rules import broken_rules
from unposed.pipeline.artifacts import (
    Camera,
    CameraPriors,
    DepthGrid,
    Features,
    PairMatches,
    Photo,
    Photos,
    SparseModel,
    TwoViewGeometry,
)
from unposed.pipeline.slots import DepthPredictor
from unposed.pipeline.stage import Grain, Resources, Sides
from unposed.plugins.coarse.align import PointMapMapper
from unposed.plugins.fine.bundle import BundleAdjustment
from unposed.plugins.matching.with_depths import MatchesWithDepths, depth_at
from unposed.plugins.view_graph.verified import VerifiedViewGraph

CPU = Resources("cpu", threads=1, ram_bytes=1 << 30, vram_bytes=0)
WIDTH, HEIGHT, FOCAL_PX = 1600, 1200, 1500.0
STEP = 20


def grid_of(depth: NDArray[np.float64], step: float = 10.0) -> DepthGrid:
    return DepthGrid((5.0, 5.0), (step, step), depth.astype(np.float32), np.ones(depth.shape, np.float32), 100.0)


def test_depths_lie_between_their_samples() -> None:
    row, column = np.mgrid[:6, :8]
    slope = np.exp(0.1 + 0.02 * column - 0.03 * row)
    xy = np.random.default_rng(0).uniform((5, 5), (75, 55), (50, 2))
    wanted = np.exp(0.1 + 0.02 * (xy[:, 0] - 5) / 10 - 0.03 * (xy[:, 1] - 5) / 10)
    np.testing.assert_allclose(depth_at(grid_of(slope), xy, 1.2), wanted, rtol=1e-6)
    corner = depth_at(grid_of(slope), np.array([[0.0, 0.0], [80.0, 60.0]]), 1.2)
    np.testing.assert_allclose(corner, [slope[0, 0], slope[-1, -1]], rtol=1e-6)
    assert depth_at(grid_of(np.array([[2.0]])), np.array([[70.0, 3.0]]), 1.2).tolist() == [2.0]


def test_nothing_is_known_at_outlines_nor_beside_the_sky() -> None:
    steps = np.where(np.arange(8) < 4, 2.0, 3.0) * np.ones((6, 1))
    xy = np.array([[20.0, 20.0], [40.0, 20.0], [60.0, 20.0]])
    np.testing.assert_allclose(depth_at(grid_of(steps), xy, 1.2), [2.0, np.nan, 3.0])
    np.testing.assert_allclose(depth_at(grid_of(steps), xy, 1.6)[[0, 2]], [2.0, 3.0])
    for unknown in (np.nan, 0.0, -1.0, np.inf):
        steps[2, 6] = unknown
        assert np.isnan(depth_at(grid_of(steps), xy[2:], 1.2)).all()


def test_depths_of_the_matcher_itself_stay() -> None:
    xy = np.array([[20.0, 20.0]], np.float32)
    grid = grid_of(np.ones((6, 8)))
    own = PairMatches(xy, xy, np.ones(1, np.float32), depth_a=np.full(1, 7.0, np.float32))
    assert MatchesWithDepths()(own, Sides(grid, grid)) is own


def test_what_is_no_grid_of_depths_is_named() -> None:
    grid = grid_of(np.ones((2, 3)))
    assert not broken_rules(grid, [(40, 30)], 2)
    wrong = DepthGrid((0.0, 0.0), (0.0, 1.0), np.ones((2, 3), np.int64), np.ones((2, 2), np.float32), -1.0)
    assert broken_rules(wrong, [(40, 30)], 2) == [
        "depth is of int64, not floating point",
        "confidence has shape (2, 2), not (2, 3)",
        "focal_px is not positive; NaN if it is unknown",
        "step_px is not positive",
    ]


@dataclass(frozen=True)
class BallDepths:
    """A network that knows that all it is shown is a ball, but neither how large nor how far away it is: its depths are
    off by smooth waves, its focal lengths by 2 %."""

    grain: ClassVar[Literal[Grain.PHOTO]] = Grain.PHOTO
    version: ClassVar[int] = 1

    wave: float = 0.02

    def __call__(self, photos: Photo) -> DepthGrid:
        number = int(photos.name.partition(".")[0])
        random = np.random.default_rng(number)
        xy = np.stack(np.meshgrid(np.arange(STEP / 2, WIDTH, STEP), np.arange(STEP / 2, HEIGHT, STEP)), axis=-1)
        depth = ball_depth(pose(number), xy.reshape(-1, 2)).reshape(xy.shape[:2])
        error = self.wave * np.cos(np.pi * xy / (WIDTH, HEIGHT) + random.uniform(0, 6, 2)).sum(axis=-1)
        scale, focal = random.uniform(0.2, 5.0), FOCAL_PX * float(np.exp(0.02 * random.standard_normal()))
        known = (scale * depth * np.exp(error)).astype(np.float32)
        return DepthGrid((STEP / 2, STEP / 2), (STEP, STEP), known, np.ones(known.shape, np.float32), focal)


_: DepthPredictor = BallDepths()


def pose(number: int) -> NDArray[np.float64]:
    turn = np.radians(10.0 * number)
    return np.asarray(look_at_origin(4.0 * np.array([np.sin(turn), 0.1 * number, -np.cos(turn)]), 0.0))


def ball_depth(cam_from_world: NDArray[np.float64], xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Depth of a ball of radius one about the origin; NaN beside it."""
    rays = np.column_stack([(xy - (WIDTH / 2, HEIGHT / 2)) / FOCAL_PX, np.ones(len(xy))])
    middle = cam_from_world[:, 3]
    a, b, c = (rays**2).sum(axis=1), rays @ middle, middle @ middle - 1.0
    with np.errstate(invalid="ignore"):
        return np.asarray((b - np.sqrt(b**2 - a * c)) / a)


def two_photos(with_depths: bool, seed: int) -> SparseModel:
    """Two photos of the ball, matches with noise of half a pixel, cameras of unknown focal length."""
    random = np.random.default_rng(seed)
    world = random.standard_normal((900, 3))
    world /= np.linalg.norm(world, axis=1, keepdims=True)
    seen, xy = np.ones(len(world), bool), []
    for number in (0, 1):
        camera = world @ pose(number)[:, :3].T + pose(number)[:, 3]
        pixel = FOCAL_PX * camera[:, :2] / camera[:, 2:] + (WIDTH / 2, HEIGHT / 2)
        with np.errstate(invalid="ignore"):
            seen &= np.abs(camera[:, 2] / ball_depth(pose(number), pixel) - 1.0) < 1e-6
        xy.append(pixel + 0.5 * random.standard_normal(pixel.shape))
    points = [each[seen].astype(np.float32) for each in xy]
    count = int(seen.sum())
    rows = np.arange(count, dtype=np.int32)
    photos = Photos(tuple(Photo(f"{number}.jpg", Path(), str(number), WIDTH, HEIGHT) for number in (0, 1)), {})
    ones = np.ones(count, np.float32)
    features = {
        number: Features(points[number], ones, np.zeros((count, 0), np.uint8), np.zeros((count, 3), np.uint8), ones)
        for number in (0, 1)
    }
    matches = PairMatches(points[0], points[1], ones, rows, rows)
    if with_depths:
        matches = MatchesWithDepths()(matches, Sides(*map(BallDepths(), photos.photos)))
        assert matches.depth_a is not None and np.isfinite(matches.depth_a).mean() > 0.6  # none at the rim
    relative = pose(1)[:, :3] @ pose(0)[:, :3].T
    x, y, z = pose(1)[:, 3] - relative @ pose(0)[:, 3]
    inverse = np.linalg.inv(np.array([[FOCAL_PX, 0, WIDTH / 2], [0, FOCAL_PX, HEIGHT / 2], [0, 0, 1]]))
    fundamental = inverse.T @ np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ relative @ inverse
    geometry = TwoViewGeometry(
        "general", np.ones(count, bool), np.eye(3, 4), np.full(2, 1500.0), "guess", fundamental, 10.0
    )
    guess = Camera("SIMPLE_PINHOLE", WIDTH, HEIGHT, (1.2 * WIDTH, WIDTH / 2, HEIGHT / 2))
    cameras = CameraPriors((guess,), np.zeros(2, np.int32), ("guess",), "given")
    graph = VerifiedViewGraph()(photos, {(0, 1): matches}, {(0, 1): geometry}, CPU, features=features)
    assert (graph.depth_a is not None) == with_depths
    given: dict[str, Any] = {"photos": photos, "cameras": cameras, "view_graph": graph, "resources": CPU}
    coarse = PointMapMapper()(**given, matching={(0, 1): matches})
    (model,) = BundleAdjustment()(**given, coarse=coarse).models
    return model


def errors(model: SparseModel) -> tuple[float, float]:
    """Of the focal length, relative, and of the rotation between both photos in degrees."""
    found, true = (b[:, :3] @ a[:, :3].T for a, b in (model.cam_from_world, (pose(0), pose(1))))
    focal = float(model.cameras[0].params[0])
    return abs(focal / FOCAL_PX - 1.0), float(rotation_angle_deg((found @ true.T)[None])[0])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_two_photos_find_their_focal_length_by_depths_of_each_alone(seed: int) -> None:
    """Which two photos of a ball hardly tell."""
    focal, turn = errors(two_photos(True, seed))
    assert focal < 0.04
    assert turn < 1.0
    assert focal < errors(two_photos(False, seed))[0]
