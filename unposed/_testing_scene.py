"""The synthetic scene of unposed.testing: three photos of sixty points, and every artifact that describes them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from unposed.optim.view_graph import Keypoints, ViewGraph, build_view_graph
from unposed.pipeline.artifacts import (
    Camera,
    CameraPrior,
    CameraPriors,
    Doubts,
    Features,
    InitialModel,
    InitialModels,
    PairMatches,
    Photo,
    Photos,
    Ranking,
    SceneGraph,
    SparseModel,
    SparseModels,
    TwoViewGeometry,
)
from unposed.pipeline.images.photos import scan
from unposed.pipeline.store.codec import decode, encode

PAIRS = ((0, 1), (0, 2), (1, 2))
SIZE, FOCAL_PX, POINTS = (240, 160), 200.0, 60


@dataclass(frozen=True)
class MadeUpScene:
    """Inputs for stages, all arrays read-only."""

    photos: Photos
    models: SparseModels
    values: dict[type, Any]
    """By artifact: a tuple by photo, a dict by pair, or one value for the collection."""

    def arrays(self) -> list[Any]:
        """Everything a stage might change."""
        return [list(v.items()) if isinstance(v, dict) else v for k, v in self.values.items() if k is not Photos]

    def emptied(self) -> MadeUpScene:
        """The same photos without key points, matches and pairs."""
        values = dict(self.values)
        values[Features] = tuple(_rows(each, 0) for each in values[Features])
        values[PairMatches] = {pair: _rows(each, 0) for pair, each in values[PairMatches].items()}
        values[TwoViewGeometry] = {
            pair: replace(each, kind="none", inliers=each.inliers[:0]) for pair, each in values[TwoViewGeometry].items()
        }
        for kind in (Ranking, SceneGraph):
            values[kind] = _rows(values[kind], 0)
        return MadeUpScene(self.photos, SparseModels((), {}), values | {SparseModels: SparseModels((), {})})


@contextmanager
def made_up_scene() -> Iterator[MadeUpScene]:
    """Make the scene; its photo files last as long as the block."""
    from PIL import Image

    rng = np.random.default_rng(0)
    points = rng.uniform((-2, -1, 6), (2, 1, 9), (POINTS, 3))
    descriptors = rng.integers(0, 90, (POINTS, 128))
    rgb = rng.integers(0, 256, (POINTS, 3)).astype(np.uint8)
    poses = np.array([np.column_stack([np.eye(3), (-0.4 * i, 0.05 * i, 0.1 * i)]) for i in range(3)])
    camera = Camera("SIMPLE_RADIAL", *SIZE, (FOCAL_PX, SIZE[0] / 2, SIZE[1] / 2, 0.0))
    xy = [_project(points, pose) for pose in poses]
    features = tuple(
        Features(
            xy=each.astype(np.float32),
            scale=np.linspace(8, 2, POINTS, dtype=np.float32),
            descriptors=(descriptors + rng.integers(0, 4, descriptors.shape)).astype(np.uint8),
            rgb=rgb,
            score=np.linspace(8, 2, POINTS, dtype=np.float32),
        )
        for each in xy
    )
    rows = np.arange(POINTS, dtype=np.int32)
    matches = {
        (a, b): PairMatches(features[a].xy, features[b].xy, np.full(POINTS, 0.9, np.float32), rows, rows)
        for a, b in PAIRS
    }
    pairs, similarity = np.array(PAIRS, np.int32), np.array([0.9, 0.8, 0.7], np.float32)
    camera_models, all_photos, one_camera = (camera,), np.arange(3, dtype=np.int32), np.zeros(3, np.int32)
    model = SparseModel(
        cameras=camera_models,
        photos=all_photos,
        camera_of_photo=one_camera,
        cam_from_world=poses,
        xy=np.concatenate(xy),
        xy_start=np.arange(4) * POINTS,
        points=points,
        rgb=rgb,
        error_px=np.zeros(POINTS),
        obs_xy=(np.arange(POINTS)[:, None] + np.arange(3) * POINTS).ravel(),
        obs_point=np.repeat(np.arange(POINTS), 3),
    )
    with tempfile.TemporaryDirectory() as folder:
        for number, each in enumerate(xy):
            Image.fromarray(_image(each, rgb)).save(Path(folder) / f"{number}.png")
        photos = scan(folder)
        values: dict[type, Any] = {
            Features: features,
            PairMatches: matches,
            TwoViewGeometry: {pair: _two_view(poses[pair[0]], poses[pair[1]]) for pair in PAIRS},
            Ranking: Ranking(pairs, similarity),
            SceneGraph: SceneGraph(pairs, similarity),
            CameraPriors: CameraPriors((camera,), np.zeros(3, np.int32), ("guess",)),
            CameraPrior: (CameraPrior(camera, "guess"),) * 3,
            ViewGraph: _view_graph(xy, rgb, matches, poses),
            InitialModels: InitialModels((InitialModel(camera_models, all_photos, one_camera, poses),), {}),
            Doubts: Doubts(np.zeros((0, 2), np.int32), ()),
            SparseModels: SparseModels((model,), {}),
        }
        values = {kind: _read_only(value) for kind, value in values.items()}
        yield MadeUpScene(photos, values[SparseModels], values | {Photo: photos.photos, Photos: photos})


def _project(points: Any, cam_from_world: Any) -> Any:
    """Pixels (n, 2) of points (n, 3)."""
    local = points @ cam_from_world[:, :3].T + cam_from_world[:, 3]
    return FOCAL_PX * local[:, :2] / local[:, 2:] + np.array(SIZE) / 2


def _image(xy: Any, rgb: Any) -> Any:
    """Grey, with a disc at every point."""
    x, y = np.meshgrid(np.arange(SIZE[0]) + 0.5, np.arange(SIZE[1]) + 0.5)
    image = np.full((*x.shape, 3), 128, np.uint8)
    for (u, v), colour in zip(xy, rgb, strict=True):
        image[np.hypot(x - u, y - v) < 4] = colour
    return image


def _two_view(a_from_world: Any, b_from_world: Any) -> TwoViewGeometry:
    t = b_from_world[:, 3] - a_from_world[:, 3]  # no rotation
    t = t / np.linalg.norm(t)
    cross = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]])
    pixel_inverse = np.linalg.inv(np.array([[FOCAL_PX, 0, SIZE[0] / 2], [0, FOCAL_PX, SIZE[1] / 2], [0, 0, 1]], float))
    return TwoViewGeometry(
        kind="general",
        inliers=np.ones(POINTS, bool),
        b_from_a=np.column_stack([np.eye(3), t]),
        focals_px=np.full(2, FOCAL_PX),
        focal_source="guess",
        fundamental=pixel_inverse.T @ cross @ pixel_inverse,
        angle_deg=4.0,
    )


def _view_graph(xy: Any, rgb: Any, matches: Mapping[tuple[int, int], PairMatches], poses: Any) -> ViewGraph:
    keypoints = Keypoints(
        np.concatenate(xy), np.arange(4) * POINTS, np.tile(SIZE, (3, 1)), np.ones(3 * POINTS), np.tile(rgb, (3, 1))
    )
    rows = [np.arange(POINTS) + photo * POINTS for photo in range(3)]
    return build_view_graph(
        keypoints,
        np.array(list(matches), np.int64),
        np.full(len(matches), POINTS),
        np.concatenate([rows[a] for a, _ in matches]),
        np.concatenate([rows[b] for _, b in matches]),
        fundamental=np.array([_two_view(poses[a], poses[b]).fundamental for a, b in matches]),
        weight=np.ones(POINTS * len(matches), np.float32),
    )


def _read_only(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _read_only(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return tuple(_read_only(each) for each in value)
    return decode(encode(value), type(value))


def _rows(value: Any, count: int) -> Any:
    """The first rows of every array of an artifact."""
    return replace(value, **{k: v[:count] for k, v in vars(value).items() if isinstance(v, np.ndarray)})
