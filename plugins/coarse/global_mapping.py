"""Global mapping: rotation averaging and global positioning under the intrinsics that fit best."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import numpy as np

from unposed.optim.mapping.global_mapper import GlobalMapperOptions, map_component
from unposed.optim.mapping.intrinsics_search import IntrinsicsSearchOptions, select_intrinsics
from unposed.optim.view_graph import ViewGraph
from unposed.pipeline.artifacts import CameraPriors, Doubts, InitialModel, InitialModels, Photos
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain

from ..shared.models import PRIOR_NOISE, initial_model_of, intrinsics_of_priors, reasons_left_out, without_doubts


@dataclass(frozen=True)
class GlobalMapper(GlobalMapperOptions):
    """Intrinsics search, rotation averaging, global positioning and bundle adjustment of a subset of the tracks.

    Every connected component of the view graph is mapped separately. Options called errors are in units of the expected
    key point error.
    """

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 14

    tracks_per_photo: Annotated[int, Within("[20, inf)")] = 150
    """Long tracks first; poses need no more, and the fine stage uses all."""
    max_edge_deg: Annotated[float, Within("(0, 90]")] = 5.0
    """Edges whose rotation is further from the averaged ones are removed."""
    min_photos: Annotated[int, Within("[2, inf)")] = 3
    """Components with fewer photos give no model, unless there is no larger one."""
    seed: int = 0
    prior_noise: Annotated[float, Within("(0, inf)")] = PRIOR_NOISE
    """Noise that priors of intrinsics are weighed against, in expected key point errors."""
    intrinsics_search: IntrinsicsSearchOptions = field(default_factory=IntrinsicsSearchOptions)
    """Intrinsics search; its candidates are mapped with the options of this stage."""

    def __call__(
        self,
        photos: Photos,
        cameras: CameraPriors,
        view_graph: ViewGraph,
        doubts: Doubts | None = None,
    ) -> InitialModels:
        graph = without_doubts(view_graph, doubts)
        intrinsics = intrinsics_of_priors(cameras, graph.keypoint_error_px, self.prior_noise)
        known = np.array([source != "guess" for source in cameras.focal_source])
        found: list[InitialModel] = []
        warnings: dict[str, None] = {}  # an ordered set
        rest = graph
        while len(rest):
            # Components do not share cameras, even where sizes are equal: each is searched separately.
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
                keypoint_error_px=graph.keypoint_error_px,
                options=self.intrinsics_search,
                mapper=self,
                seed=self.seed,
            )
            model = map_component(
                component,
                None,
                choice.intrinsics,
                keypoint_error_px=graph.keypoint_error_px,
                options=self,
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
