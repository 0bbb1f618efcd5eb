"""COLMAP's global mapper (GLOMAP): rotation averaging, global positioning, bundle adjustment."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar, Literal

import pycolmap

from unposed.optim.view_graph import ViewGraph
from unposed.pipeline.artifacts import CameraPriors, Doubts, Photos, SparseModels, TwoViewGeometry
from unposed.pipeline.stage import Grain, PerPair

from ..shared.colmap_database import fill, sparse_models
from ..shared.models import without_doubts
from ..shared.verified_pairs import better_geometries


@dataclass(frozen=True)
class GlomapMapper:
    """The global mapper with its default options, after view-graph calibration of unknown focal lengths."""

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 2

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
        # One thread: more threads sum in another order, and results would not be reproducible.
        options = pycolmap.GlobalPipelineOptions(random_seed=self.seed, num_threads=1, image_path="")
        # The wheel is built without CUDA and would only warn.
        options.mapper.global_positioning.use_gpu = options.mapper.bundle_adjustment.ceres.use_gpu = False
        given = [source == "given" for source in cameras.focal_source]
        if all(given):
            adjustment = options.mapper.bundle_adjustment
            adjustment.refine_focal_length = adjustment.refine_extra_params = False
        manager = pycolmap.ReconstructionManager()
        with TemporaryDirectory(prefix="unposed-glomap-") as folder:
            # View-graph calibration needs a file, the only reason why this database is not in memory.
            path = Path(folder) / "database.db"
            with pycolmap.Database.open(path) as database:
                fill(database, photos, cameras, graph, better_geometries(verification, closer_verification))
            if "guess" in cameras.focal_source:
                pycolmap.calibrate_view_graph(path, pycolmap.ViewGraphCalibrationOptions(random_seed=self.seed))
            with pycolmap.Database.open(path) as database:
                pycolmap.GlobalPipeline(options, database, manager).run()
        found = sparse_models(manager, photos, graph, "COLMAP's global mapper")
        if any(given) and not all(given):
            return replace(found, warnings=("the global mapper refines all focal lengths, also those given",))
        return found
