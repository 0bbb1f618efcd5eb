"""Global mapping: rotation averaging and global positioning under the intrinsics that fit best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from unposed.optim.bundle.intrinsics import Intrinsics
from unposed.optim.bundle.problem import Bundle
from unposed.optim.mapping.global_mapper import GlobalMapperOptions, map_component
from unposed.optim.mapping.intrinsics_search import IntrinsicsChoice, IntrinsicsSearchOptions, select_intrinsics
from unposed.optim.partition.cluster_graph import ClusterGraph, ClusterGraphs, ClusterModel
from unposed.optim.partition.divided_mapping import DividedMappingOptions, DividedModel, MapClusters, map_divided
from unposed.optim.view_graph import ViewGraph
from unposed.pipeline.artifacts import CameraPriors, Doubts, InitialModel, InitialModels, Photos
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain, Resources

from ..shared.failed_components import FailedComponents
from ..shared.models import PRIOR_NOISE, initial_model_of, intrinsics_of_priors, reasons_left_out, without_doubts

PHOTO_BYTES = 1 << 20
"""Working memory of global mapping per photo, at most: it limits how many clusters are mapped side by side."""

ONE_THREAD = Resources("cpu", threads=1, ram_bytes=1 << 30, vram_bytes=0)


@dataclass(frozen=True)
class DivisionOptions(DividedMappingOptions):
    """When and how large components of the view graph are mapped part by part.

    The limit is a number of photos and not the memory of this machine, so that results are the same everywhere; memory
    decides how many clusters are mapped at a time.
    """

    max_photos: Annotated[int, Within("[8, inf)")] = 3000
    """Components with more photos are cut into clusters of at most so many, and of at most cut.cluster_photos. Below,
    it takes as much CPU undivided, and is more exact: 1,200 photos around a block end at 0.09 degrees, in parts at
    0.18."""


@dataclass(frozen=True)
class GlobalMapper(GlobalMapperOptions):
    """Intrinsics search, rotation averaging, global positioning and bundle adjustment of a subset of the tracks.

    Every connected component of the view graph is mapped separately, and large ones part by part. Options called errors
    are in units of the expected key point error.
    """

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 15

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
    division: DivisionOptions = field(default_factory=DivisionOptions)
    """Division of large components into clusters."""

    def __call__(
        self,
        photos: Photos,
        cameras: CameraPriors,
        view_graph: ViewGraph,
        doubts: Doubts | None = None,
        resources: Resources = ONE_THREAD,
    ) -> InitialModels:
        graph = without_doubts(view_graph, doubts)
        intrinsics = intrinsics_of_priors(cameras, graph.keypoint_error_px, self.prior_noise)
        known = np.array([source != "guess" for source in cameras.focal_source])
        found: list[InitialModel] = []
        warnings: dict[str, None] = {}  # an ordered set
        failed = FailedComponents("mapping")
        rest = graph
        while len(rest):
            # Components do not share cameras, even where sizes are equal: each is searched separately.
            member = rest.largest_component()
            if found and member.sum() < self.min_photos:
                break
            inside = member[rest.pairs[:, 0]]
            component = rest.select(inside)
            mapped = failed.attempt(
                int(member.sum()), partial(self._mapped_component, component, cameras, intrinsics, known, resources)
            )
            bundle = None if mapped is None else mapped[1]
            posed = np.zeros(len(photos), bool) if bundle is None else np.isfinite(bundle.cam_from_world[:, 0, 0])
            if mapped is None or bundle is None or (found and posed.sum() < self.min_photos):
                rest = rest.select(~inside)
                continue
            choice, _, apart = mapped
            warnings.update(dict.fromkeys([*choice.warnings, *apart]))
            found.append(initial_model_of(bundle, choice.intrinsics, graph.keypoints))
            rest = rest.among(~posed)
        failed.raise_if_nothing(len(found))
        found.sort(key=lambda model: -len(model.photos))
        return InitialModels(tuple(found), reasons_left_out(graph, found), (*warnings, *failed.warnings))

    def _mapped_component(
        self,
        component: ViewGraph,
        cameras: CameraPriors,
        intrinsics: Intrinsics,
        known: NDArray[np.bool_],
        resources: Resources,
    ) -> tuple[IntrinsicsChoice, Bundle | None, tuple[str, ...]]:
        """The intrinsics of a component, its model, and warnings about its division."""
        choice = select_intrinsics(
            component,
            intrinsics,
            known,
            assumed_groups=cameras.grouping == "assumed",
            keypoint_error_px=component.keypoint_error_px,
            options=self.intrinsics_search,
            mapper=self,
            seed=self.seed,
            threads=resources.threads,
        )
        return choice, *self._mapped(component, choice.intrinsics, resources)

    def _mapped(
        self, component: ViewGraph, intrinsics: Intrinsics, resources: Resources
    ) -> tuple[Bundle | None, tuple[str, ...]]:
        """The model of a component, divided or not, and warnings about its division."""
        limit = self.division.max_photos
        if len(np.unique(component.pairs)) > limit:
            cut = self.division.cut
            divided = map_divided(
                component,
                intrinsics,
                keypoint_error_px=component.keypoint_error_px,
                options=replace(self.division, cut=replace(cut, cluster_photos=min(cut.cluster_photos, limit))),
                mapper=self,
                seed=self.seed,
                apply=_side_by_side(resources),
            )
            if divided is not None:
                return divided.bundle, _warnings(divided)
        model = map_component(
            component,
            None,
            intrinsics,
            keypoint_error_px=component.keypoint_error_px,
            options=self,
            seed=self.seed,
            threads=resources.threads,
        )
        return None if model is None else model.bundle, ()


@dataclass(frozen=True)
class WithoutResources:
    """A function for `Resources.map` that has no use for them."""

    function: Callable[[ClusterGraph], ClusterModel]

    def __call__(self, item: ClusterGraph, resources: Resources) -> ClusterModel:
        return self.function(item)


def _warnings(divided: DividedModel) -> tuple[str, ...]:
    if not divided.apart:
        return ()
    count = sum(len(core) for core in divided.apart)
    return (
        f"{len(divided.apart)} of {divided.clusters} clusters of photos were not joined with the others, since they "
        f"could not be mapped or are inconsistent with them: {count} photos",
    )


def _side_by_side(resources: Resources) -> MapClusters:
    """Map clusters by the executor: on the threads of this machine or on a cluster, as far as memory goes."""

    def apply(mapped: Callable[[ClusterGraph], ClusterModel], clusters: ClusterGraphs) -> list[ClusterModel]:
        largest = max(map(len, clusters.photos), default=1)
        return resources.map(
            WithoutResources(mapped), clusters, item_bytes=PHOTO_BYTES * largest, message="mapping clusters"
        )

    return apply
