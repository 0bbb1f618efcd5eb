"""COLMAP's incremental mapper: photos are added one after the other, with bundle adjustments in between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pycolmap

from unposed.pipeline.artifacts import (
    CameraPriors,
    Doubts,
    Features,
    PairMatches,
    Photos,
    SparseModels,
    TwoViewGeometry,
)
from unposed.pipeline.stage import Grain, PerPair, PerPhoto

from ..evidence import evidence_of
from .colmap_database import fill, scenes


@dataclass(frozen=True)
class Colmap:
    """The incremental mapper with its defaults; given focal lengths are held fixed."""

    grain: ClassVar[Grain] = Grain.COLLECTION
    version: ClassVar[int] = 1

    refine_principal_point: bool = False
    """Only wise where many photos share a camera."""
    seed: int = 0

    def __call__(
        self,
        photos: Photos,
        cameras: CameraPriors,
        matching: PerPair[PairMatches],
        verification: PerPair[TwoViewGeometry],
        features: PerPhoto[Features] | None = None,
        doubts: Doubts | None = None,
    ) -> SparseModels:
        pycolmap.logging.minloglevel = 3  # what it calls errors are mostly models it gave up
        pycolmap.set_random_seed(self.seed)
        evidence = evidence_of(photos, features, matching, verification, doubts)
        given = {row + 1 for row, source in enumerate(cameras.focal_source) if source == "given"}
        options = pycolmap.IncrementalPipelineOptions(
            random_seed=self.seed,
            num_threads=1,  # more of them sum in another order, and no two runs would be alike
            constant_cameras=given,
            ba_refine_principal_point=self.refine_principal_point,
            extract_colors=False,
        )
        manager = pycolmap.ReconstructionManager()
        with pycolmap.Database.open(":memory:") as database:
            fill(database, photos, cameras, evidence, verification)
            pycolmap.IncrementalPipeline(options, database, manager).run()
        return scenes(manager, photos, evidence, "COLMAP's incremental mapper")
