"""A made-up wall, whose points lie in one plane: every pair has two poses."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from worlds import look_at_origin

from unposed.optim.cameras import project
from unposed.optim.mapping.planar_ambiguity import PlanarAmbiguityOptions, PlanePoses, resolve_planar_ambiguity
from unposed.optim.mapping.plane_poses import plane_poses
from unposed.optim.mapping.relative_poses import RelativePoses
from unposed.optim.rotations import rotation_angle_deg
from unposed.optim.view_graph import Keypoints, ViewGraph, build_view_graph

MODELS = ("SIMPLE_RADIAL",)
INTRINSICS = np.array([[1500.0, 1500.0, 800.0, 600.0, 0.05, 0.0, 0.0, 0.0]])
PHOTOS, POINTS = 8, 80


class Wall:
    """Photos from many sides of a wall, all of whose points lie in one plane; every pair is matched."""

    def __init__(self, noise_px: float, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        turn = np.radians(np.linspace(-45.0, 45.0, PHOTOS))
        centres = 5.0 * np.column_stack([np.sin(turn), rng.uniform(-1.5, 1.5, PHOTOS), -np.cos(turn)])
        self.poses = np.array([look_at_origin(centre, rng.normal(0.0, 5.0)) for centre in centres])
        points = np.column_stack([rng.uniform(-1.0, 1.0, (POINTS, 2)), np.zeros(POINTS)])
        xy = []
        for pose in self.poses:
            pixel = project(points @ pose[:, :3].T + pose[:, 3], np.repeat(INTRINSICS, POINTS, axis=0))
            xy.append(pixel + noise_px * rng.standard_normal(pixel.shape))
        pairs = np.array(list(combinations(range(PHOTOS), 2)))
        rows = [(POINTS * pairs[:, side, None] + np.arange(POINTS)).ravel() for side in (0, 1)]
        keypoints = Keypoints(np.concatenate(xy), POINTS * np.arange(PHOTOS + 1), np.full((PHOTOS, 2), (1600, 1200)))
        self.graph: ViewGraph = build_view_graph(keypoints, pairs, np.full(len(pairs), POINTS), *rows)
        a, b = pairs.T
        rotation = self.poses[b, :, :3] @ self.poses[a, :, :3].transpose(0, 2, 1)
        baseline = self.poses[b, :, 3] - np.einsum("eij,ej->ei", rotation, self.poses[a, :, 3])
        unit = baseline / np.linalg.norm(baseline, axis=1, keepdims=True)
        self.true = np.concatenate([rotation, unit[:, :, None]], axis=2)

    def both(self, edge: int) -> list[tuple[np.ndarray, float]]:
        """The poses of an edge, the one nearer to the truth first."""
        found = plane_poses(
            self.graph,
            MODELS,
            INTRINSICS,
            np.zeros(PHOTOS, int),
            edge,
            keypoint_error_px=1.0,
            max_error=4.0,
            min_inliers=10,
        )
        return sorted(found, key=lambda each: float(rotation_angle_deg(each[0][:, :3] @ self.true[edge, :, :3].T)))

    def resolved(self, b_from_a: np.ndarray, planes: PlanePoses | None = None, **options: Any) -> np.ndarray:
        """Errors of the rotations after the choice."""
        everyone = np.arange(len(self.graph))
        found = resolve_planar_ambiguity(
            self.graph,
            RelativePoses(everyone, b_from_a, np.full(len(everyone), float(POINTS))),
            MODELS,
            INTRINSICS,
            np.zeros(PHOTOS, int),
            keypoint_error_px=1.0,
            options=PlanarAmbiguityOptions(**options),
            planes=planes,
        )
        return np.asarray(rotation_angle_deg(found.b_from_a[:, :, :3] @ self.true[:, :, :3].transpose(0, 2, 1)))
