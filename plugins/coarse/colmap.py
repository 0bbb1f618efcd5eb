"""COLMAP's incremental mapper: photos are registered one by one, with bundle adjustments in between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import pycolmap

from unposed.optim.view_graph import ViewGraph
from unposed.pipeline.artifacts import CameraPriors, Doubts, Photos, SparseModels, TwoViewGeometry
from unposed.pipeline.stage import Grain, PerPair

from ..shared.colmap_database import fill, sparse_models
from ..shared.models import without_doubts
from ..shared.verified_pairs import better_geometries


@dataclass(frozen=True)
class ColmapMapper:
    """The incremental mapper with its default options; given focal lengths are constant."""

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 2

    refine_principal_point: bool = False
    """Only useful where many photos share a camera."""
    seed: int = 0

    def __call__(
        self,
        photos: Photos,
        cameras: CameraPriors,
        view_graph: ViewGraph,
        verification: PerPair[TwoViewGeometry],
        doubts: Doubts | None = None,
        closer_verification: PerPair[TwoViewGeometry] | None = None,
    ) -> SparseModels:
        pycolmap.logging.minloglevel = 3  # most errors are about attempts that it discards
        pycolmap.set_random_seed(self.seed)
        graph = without_doubts(view_graph, doubts)
        given = {row + 1 for row, source in enumerate(cameras.focal_source) if source == "given"}
        options = pycolmap.IncrementalPipelineOptions(
            random_seed=self.seed,
            num_threads=1,  # more threads sum in another order: results would not be reproducible
            constant_cameras=given,
            ba_refine_principal_point=self.refine_principal_point,
            extract_colors=False,
        )
        manager = pycolmap.ReconstructionManager()
        with pycolmap.Database.open(":memory:") as database:
            fill(database, photos, cameras, graph, better_geometries(verification, closer_verification))
            pycolmap.IncrementalPipeline(options, database, manager).run()
        return sparse_models(manager, photos, graph, "COLMAP's incremental mapper")
