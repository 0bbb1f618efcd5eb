"""Made-up collections: photos of known cameras around random points, with all that stages before a mapper would say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unposed.optim.bundle.intrinsics import Intrinsics, intrinsics_with_priors
from unposed.optim.bundle.problem import Bundle
from unposed.optim.cameras import CAMERA_MODELS, intrinsics_of, params_of, project
from unposed.optim.evaluation import PoseErrors, evaluate_poses
from unposed.optim.intrinsics_priors import FocalSource
from unposed.optim.view_graph import Keypoints, ViewGraph
from unposed.pipeline.artifacts import (
    Camera,
    CameraPriors,
    Features,
    PairMatches,
    Photo,
    Photos,
    TwoViewGeometry,
)
from unposed.pipeline.stage import Resources
from unposed.plugins.view_graph.verified import VerifiedViewGraph

SIZE = (1600, 1200)
Index = NDArray[np.int64]


class Collection:
    """Photos on an arc of `sweep_deg` around a cloud of points, each of which is seen from up to 70 degrees aside.

    `lenses` are parameters of `model`, photo i uses lens i modulo their number; `sizes` likewise. Every photo owns
    `decoys` key points that show nothing; a share `wrong` of the matches leads to these.
    """

    def __init__(
        self,
        *,
        photos: int = 10,
        points: int = 400,
        sweep_deg: float = 90.0,
        distance: float = 6.0,
        roll_deg: float = 3.0,
        model: str = "SIMPLE_RADIAL",
        lenses: Sequence[Sequence[float]] = ((1500.0, 800.0, 600.0, 0.0),),
        sizes: Sequence[tuple[int, int]] = (SIZE,),
        grouped: bool = True,
        noise_px: float = 0.0,
        wrong: float = 0.0,
        decoys: int = 100,
        seed: int = 0,
    ) -> None:
        self.rng = rng = np.random.default_rng(seed)
        self.model, self.photos, self.wrong = model, photos, wrong
        lens_of = np.arange(photos) % len(lenses)
        self.size = np.array(sizes)[np.arange(photos) % len(sizes)]
        self.photo_intrinsics = np.array([intrinsics_of(model, lens) for lens in lenses])[lens_of]
        # Photos of one size are one group; their common start values need not be true.
        groups = np.unique(self.size, axis=0, return_inverse=True)[1] if grouped else lens_of
        self.camera_of_photo = groups.ravel().astype(np.int64)
        self.first = np.unique(self.camera_of_photo, return_index=True)[1]

        turn = np.radians(np.linspace(0.0, sweep_deg, photos, endpoint=sweep_deg < 360.0))
        centres = distance * np.column_stack([np.sin(turn), rng.uniform(-0.25, 0.15, photos), -np.cos(turn)])
        self.cam_from_world = np.array([look_at_origin(c, rng.normal(0.0, roll_deg)) for c in centres])
        shell = rng.standard_normal((points, 3))
        shell *= rng.uniform(0.6, 1.4, (points, 1)) / np.linalg.norm(shell, axis=1, keepdims=True)
        self.points = shell * [1.0, 0.7, 1.0]

        self.point_of: list[np.ndarray] = []
        xy = []
        for photo, (pose, centre) in enumerate(zip(self.cam_from_world, centres, strict=True)):
            y = self.points @ pose[:, :3].T + pose[:, 3]
            pixel = project(y, self.photo_intrinsics[photo], CAMERA_MODELS[model].fisheye)
            towards = (centre - self.points) / np.linalg.norm(centre - self.points, axis=1, keepdims=True)
            facing = np.sum(towards * self.points, axis=1) > 0.35 * np.linalg.norm(self.points, axis=1)
            inside = ((pixel > 0) & (pixel < self.size[photo])).all(axis=1)
            seen = np.flatnonzero(facing & inside & (rng.random(points) < 0.9))
            self.point_of.append(np.concatenate([seen, np.full(decoys, -1)]))
            true = pixel[seen] + noise_px * rng.standard_normal((len(seen), 2))
            xy.append(np.concatenate([true, rng.uniform(0, self.size[photo], (decoys, 2))]))
        start = np.cumsum([0, *map(len, xy)])
        self.keypoints = Keypoints(np.concatenate(xy), start.astype(np.int64), self.size.astype(np.int64))
        self.graph = self._graph()

    def _graph(self) -> ViewGraph:
        pairs, rows_a, rows_b, fundamental = [], [], [], []
        for a in range(self.photos):
            for b in range(a + 1, self.photos):
                point_a, point_b = self.point_of[a], self.point_of[b]
                _, at_a, at_b = np.intersect1d(point_a[point_a >= 0], point_b[point_b >= 0], return_indices=True)
                if len(at_a) < 20:
                    continue
                lost = self.rng.random(len(at_b)) < self.wrong
                at_b[lost] = self.rng.integers(int((point_b >= 0).sum()), len(point_b), lost.sum())
                pairs.append((a, b))
                rows_a.append(self.keypoints.start[a] + at_a)
                rows_b.append(self.keypoints.start[b] + at_b)
                fundamental.append(self.fundamental(a, b))
        nothing = np.zeros(0, np.int64)
        stop = np.cumsum(list(map(len, rows_a)), dtype=np.int64)
        return ViewGraph(
            keypoints=self.keypoints,
            pairs=np.array(pairs, np.int64).reshape(-1, 2),
            match_start=stop - np.array(list(map(len, rows_a)), np.int64),
            match_stop=stop,
            row_a=np.concatenate([nothing, *rows_a]),
            row_b=np.concatenate([nothing, *rows_b]),
            fundamental=np.array(fundamental).reshape(-1, 3, 3),
            kind=np.zeros(len(pairs), np.int8),
            focal_px=np.full(len(pairs), np.nan),
        )

    def fundamental(self, a: int, b: int) -> np.ndarray:
        """The true one, of unit norm, without distortion."""
        pose_a, pose_b = self.cam_from_world[[a, b]]
        rotation = pose_b[:, :3] @ pose_a[:, :3].T
        x, y, z = pose_b[:, 3] - rotation @ pose_a[:, 3]
        inverse_a, inverse_b = (np.linalg.inv(calibration(self.photo_intrinsics[i])) for i in (a, b))
        matrix = inverse_b.T @ np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ rotation @ inverse_a
        return np.asarray(matrix / np.linalg.norm(matrix))

    def without_fundamental(self) -> ViewGraph:
        """A graph that says nothing of focal lengths."""
        return replace(self.graph, fundamental=np.zeros_like(self.graph.fundamental))

    def with_pairs(self, pairs: ArrayLike, rows_a: Sequence[Index], rows_b: Sequence[Index]) -> ViewGraph:
        """The graph with more edges, whose fundamental matrices are not known."""
        m, more = self.graph, len(rows_a)
        stop = len(m.row_a) + np.cumsum([len(rows) for rows in rows_a])
        return replace(
            m,
            pairs=np.concatenate([m.pairs, np.asarray(pairs, np.int64).reshape(-1, 2)]),
            match_start=np.concatenate([m.match_start, stop - [len(rows) for rows in rows_a]]),
            match_stop=np.concatenate([m.match_stop, stop]),
            row_a=np.concatenate([m.row_a, *rows_a]),
            row_b=np.concatenate([m.row_b, *rows_b]),
            kind=np.append(m.kind, np.zeros(more, np.int8)),
            fundamental=np.concatenate([m.fundamental, np.zeros((more, 3, 3))]),
            focal_px=np.append(m.focal_px, np.full(more, np.nan)),
        )

    def initial_intrinsics(
        self, factor: float = 1.0, source: FocalSource = "guess", noise_px: float = 1.5
    ) -> Intrinsics:
        """As an earlier stage may leave them: focal lengths by a factor, points centred, no distortion."""
        params = []
        for photo in self.first:
            row = self.photo_intrinsics[photo].copy()
            row[:2] *= factor
            row[2:4] = self.size[photo] / 2.0
            row[4:] = 0.0
            params.append(params_of(self.model, row))
        k = len(params)
        sizes = self.size[self.first].astype(np.float64)
        return intrinsics_with_priors([self.model] * k, params, sizes, [source] * k, self.camera_of_photo, noise_px)

    def bundle(self, *, wrong: float = 0.0, wrong_px: float = 80.0) -> Bundle:
        """The truth, as seen in the photos, points seen once left out; a share of the observations is far off."""
        row = np.concatenate([np.flatnonzero(point >= 0) for point in self.point_of])
        photo = np.repeat(np.arange(self.photos), [int((point >= 0).sum()) for point in self.point_of])
        row = row + self.keypoints.start[photo]
        point = np.concatenate(self.point_of)[row]
        often = (np.bincount(point, minlength=len(self.points)) >= 2)[point]
        row, photo, point = row[often], photo[often], point[often]
        order = np.lexsort((photo, point))
        row, photo, point = row[order], photo[order], point[order]
        used, point = np.unique(point, return_inverse=True)
        xy = self.keypoints.xy[row].copy()
        lies = self.rng.random(len(xy)) < wrong
        xy[lies] += wrong_px * self.rng.standard_normal((lies.sum(), 2))
        return Bundle(
            models=(self.model,) * len(self.first),
            intrinsics=self.photo_intrinsics[self.first],
            camera_of_photo=self.camera_of_photo,
            cam_from_world=self.cam_from_world,
            points=self.points[used],
            xy=xy,
            photo=photo,
            point=point.astype(np.int64),
            row=row,
        )

    def bundle_without(self, photo: int) -> Bundle:
        """As if a photo had not been placed; points that only one other sees are gone."""
        full = self.bundle()
        seen = full.photo != photo
        often = np.bincount(full.point[seen], minlength=len(full.points)) >= 2
        seen &= often[full.point]
        poses = full.cam_from_world.copy()
        poses[photo] = np.nan
        return replace(
            full,
            cam_from_world=poses,
            points=full.points[often],
            xy=full.xy[seen],
            photo=full.photo[seen],
            point=(np.cumsum(often) - 1)[full.point[seen]],
            row=full.row[seen],
        )

    def errors(self, cam_from_world: np.ndarray) -> PoseErrors:
        return evaluate_poses(self.cam_from_world, cam_from_world)


def look_at_origin(centre: np.ndarray, roll_deg: float) -> np.ndarray:
    """(3, 4) pose of a camera that looks at the origin, x to the right and y down but for a roll."""
    z = -centre / np.linalg.norm(centre)
    x = np.cross([0.0, 1.0, 0.0], z)
    x /= np.linalg.norm(x)
    level = np.array([x, np.cross(z, x), z])
    cosine, sine = np.cos(np.radians(roll_deg)), np.sin(np.radians(roll_deg))
    rotation = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]]) @ level
    return np.column_stack([rotation, -rotation @ centre])


def calibration(intrinsics: np.ndarray) -> np.ndarray:
    fx, fy, cx, cy = intrinsics[:4]
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def mapper_inputs(world: Any, keep: Callable[[int, int], bool] = lambda a, b: True) -> dict[str, Any]:
    """What a mapper reads, of the pairs to keep."""
    n = len(world.graph.keypoints)
    photos = Photos(tuple(Photo(f"{i}.jpg", Path(), str(i), *world.size[i].tolist()) for i in range(n)), {})
    sizes = world.size[world.first].tolist()
    cameras = CameraPriors(
        tuple(Camera("SIMPLE_RADIAL", w, h, (1.2 * max(w, h), w / 2, h / 2, 0.0)) for w, h in sizes),
        world.camera_of_photo.astype(np.int32),
        ("guess",) * len(sizes),
    )
    features = {}
    for i in range(n):
        xy = world.graph.keypoints.xy[world.graph.keypoints.rows_of(i)].astype(np.float32)
        ones = np.ones(len(xy), np.float32)
        features[i] = Features(xy, ones, np.zeros((len(xy), 1), np.uint8), np.zeros((len(xy), 3), np.uint8), ones)
    matching, verification = {}, {}
    for edge, (a, b) in enumerate(world.graph.pairs.tolist()):
        if not keep(a, b):
            continue
        rows = world.graph.match_rows(edge)
        index_a = (world.graph.row_a[rows] - world.graph.keypoints.start[a]).astype(np.int32)
        index_b = (world.graph.row_b[rows] - world.graph.keypoints.start[b]).astype(np.int32)
        weight = np.ones(len(index_a), np.float32)
        matching[a, b] = PairMatches(features[a].xy[index_a], features[b].xy[index_b], weight, index_a, index_b)
        verification[a, b] = TwoViewGeometry(
            kind="general",
            inliers=np.ones(len(index_a), bool),
            b_from_a=np.eye(3, 4),
            focals_px=np.full(2, 2000.0),
            focal_source="prior",
            fundamental=world.graph.fundamental[edge],
            angle_deg=10.0,
        )
    graph = VerifiedViewGraph()(
        photos, matching, verification, Resources("cpu", threads=1, ram_bytes=1 << 30, vram_bytes=0), features
    )
    return {"photos": photos, "cameras": cameras, "view_graph": graph}
