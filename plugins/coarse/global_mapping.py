"""Global mapping: rotation averaging and global positioning, under the intrinsics that fit best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np

from unposed.optim.mapping.global_mapper import map_component
from unposed.optim.mapping.intrinsics_search import select_intrinsics
from unposed.optim.view_graph import ViewGraph
from unposed.pipeline.artifacts import CameraPriors, Doubts, InitialModel, InitialModels, Photos
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain

from ..shared.models import initial_model_of, intrinsics_of_priors, reasons_left_out, without_doubts


@dataclass(frozen=True)
class Global:
    """Selects intrinsics, averages rotations, solves for positions, and adjusts a spread subset of the tracks.

    Every connected component of the view graph is mapped on its own.
    """

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 13

    tracks_per_photo: Annotated[int, Within("[20, inf)")] = 150
    """Poses need no more; the fine stage uses all."""
    max_edge_deg: Annotated[float, Within("(0, 90]")] = 5.0
    """Edges whose rotation disagrees more with the averaged ones are left out."""
    min_photos: Annotated[int, Within("[2, inf)")] = 3
    """Smaller components are not worth a model of their own, unless there is no larger one."""
    seed: int = 0

    def __call__(
        self,
        photos: Photos,
        cameras: CameraPriors,
        view_graph: ViewGraph,
        doubts: Doubts | None = None,
    ) -> InitialModels:
        graph = without_doubts(view_graph, doubts)
        intrinsics = intrinsics_of_priors(cameras, graph.unit_px)
        known = np.array([source != "guess" for source in cameras.focal_source])
        found: list[InitialModel] = []
        warnings: dict[str, None] = {}  # a set that keeps its order
        rest = graph
        while len(rest):
            # Every component has its own cameras, even where sizes are equal: each is searched for itself.
            member = rest.largest_component()
            if found and member.sum() < self.min_photos:
                break
            inside = member[rest.pairs[:, 0]]
            component = rest.select(inside)
            choice = select_intrinsics(
                component,
                intrinsics,
                known,
                assumed_groups=cameras.grouping == "assumed",
                unit_px=graph.unit_px,
                seed=self.seed,
            )
            model = map_component(
                component,
                None,
                choice.intrinsics,
                unit_px=graph.unit_px,
                max_edge_deg=self.max_edge_deg,
                tracks_per_photo=self.tracks_per_photo,
                seed=self.seed,
            )
            if model is None or (found and model.posed.sum() < self.min_photos):
                rest = rest.select(~inside)
                continue
            warnings.update(dict.fromkeys(choice.warnings))
            found.append(initial_model_of(model.bundle, choice.intrinsics, graph.keypoints))
            rest = rest.among(~model.posed)
        found.sort(key=lambda model: -len(model.photos))
        return InitialModels(tuple(found), reasons_left_out(graph, found), tuple(warnings))
