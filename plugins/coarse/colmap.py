"""Poses from COLMAP's incremental mapper, for a fine stage of ours to refine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from unposed.optim.view_graph import ViewGraph
from unposed.pipeline.artifacts import CameraPriors, Doubts, InitialModels, Photos, TwoViewGeometry
from unposed.pipeline.stage import Grain, PerPair

from ..fine.colmap import ColmapMapper
from ..shared.colmap_database import poses_only


@dataclass(frozen=True)
class ColmapPoses:
    """Runs fine.colmap with its defaults and keeps poses and intrinsics."""

    grain: ClassVar[Grain] = Grain.COLLECTION
    version: ClassVar[int] = 2

    seed: int = 0

    def __call__(
        self,
        photos: Photos,
        cameras: CameraPriors,
        view_graph: ViewGraph,
        verification: PerPair[TwoViewGeometry],
        doubts: Doubts | None = None,
    ) -> InitialModels:
        mapper = ColmapMapper(seed=self.seed)
        return poses_only(mapper(photos, cameras, view_graph, verification, doubts))
