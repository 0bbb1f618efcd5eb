"""Global mapping: rotation averaging and global positioning under the intrinsics that fit best."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from unposed.optim.arrays import Array
from unposed.optim.bundle.intrinsics import Intrinsics
from unposed.optim.bundle.problem import Bundle
from unposed.optim.mapping.drafts import Draft, DraftOptions, carried_drafts, competing_drafts, distinct_drafts
from unposed.optim.mapping.global_mapper import GlobalMapperOptions, map_component, track_cost
from unposed.optim.mapping.intrinsics_search import IntrinsicsChoice, select_intrinsics
from unposed.optim.mapping.intrinsics_search_options import IntrinsicsSearchOptions
from unposed.optim.mapping.planar_ambiguity import PlanePoses
from unposed.optim.mapping.pose_alternatives import PoseAlternativeOptions, propose_alternatives
from unposed.optim.mapping.tracks import Tracks, establish_tracks, spread_subset
from unposed.optim.parallel import lent_threads
from unposed.optim.partition.cluster_graph import ClusterGraph, ClusterGraphs, ClusterModel, PartGraph, part_of
from unposed.optim.partition.divided_mapping import DividedMappingOptions, DividedModel, MapClusters, map_divided
from unposed.optim.view_graph import ViewGraph
from unposed.pipeline.artifacts import CameraPriors, Doubts, InitialModel, InitialModels, Photos
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain, Resources
from unposed.pipeline.threads import hold_this_thread

from ..shared.failed_components import FailedComponents
from ..shared.models import PRIOR_NOISE, initial_model_of, intrinsics_of_priors, reasons_left_out, without_doubts
from ..shared.sensor_frames import sensor_frames, upright

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
    it takes as much CPU undivided, and is a little more exact: 1,200 photos around a block end at 0.056 degrees, in
    parts at 0.065."""


@dataclass(frozen=True)
class GlobalMapper(GlobalMapperOptions):
    """Intrinsics search, rotation averaging, global positioning and bundle adjustment of a subset of the tracks.

    Every connected component of the view graph is mapped separately, and large ones part by part. Options called errors
    are in units of the expected key point error.
    """

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 29

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
    drafts: DraftOptions = field(default_factory=DraftOptions)
    """Drafts that compete where one does not decide."""
    alternatives: PoseAlternativeOptions = field(default_factory=PoseAlternativeOptions)
    """Other poses of the planar and weak pairs that alone join two parts."""
    division: DivisionOptions = field(default_factory=DivisionOptions)
    """Division of large components into clusters."""
    thread_chunks: bool = False
    """Whether loops over chunks of arrays run on the threads that the stage is lent, too: worth a try with many cores
    and thousands of photos. Results are the same."""

    def __call__(
        self,
        photos: Photos,
        cameras: CameraPriors,
        view_graph: ViewGraph,
        doubts: Doubts | None = None,
        resources: Resources = ONE_THREAD,
    ) -> InitialModels:
        graph = without_doubts(view_graph, doubts).tied_by(cameras.rigs)
        # Principal points do not matter to this stage, nor does it to which side a camera was turned.
        for frames in sensor_frames(cameras)[:1]:
            turned = self._mapped_all(frames.cameras, frames.view_graph(graph), resources)
            if frames.fit(upright(turned, frames).models):  # else one camera did not take them all
                return upright(turned, frames)
        return self._mapped_all(cameras, graph, resources)

    def _mapped_all(self, cameras: CameraPriors, graph: ViewGraph, resources: Resources) -> InitialModels:
        """The models of all components of the view graph."""
        intrinsics = intrinsics_of_priors(cameras, graph.keypoint_error_px, self.prior_noise)
        known = np.array([source != "guess" for source in cameras.focal_source])
        found: list[list[InitialModel]] = []
        warnings: dict[str, None] = {}  # an ordered set
        failed = FailedComponents("mapping")
        rest = graph
        while len(rest):
            # Components do not share cameras, even where sizes are equal: each is searched separately.
            member = rest.largest_component()
            if found and member.sum() < self.min_photos:
                break
            inside = member[rest.pairs[:, 0]]
            component = part_of(rest.in_units_of(member), intrinsics, member)
            with lent_threads(resources.threads, hold_this_thread, self.thread_chunks):
                mapped = failed.attempt(
                    int(member.sum()), partial(self._mapped_component, component, cameras, known, resources)
                )
            models = [] if mapped is None else mapped[0]
            if mapped is None or not models or (found and len(models[0].photos) < self.min_photos):
                rest = rest.select(~inside)
                continue
            warnings.update(dict.fromkeys(mapped[1]))
            found.append(models)
            posed = np.zeros(graph.photo_count, bool)
            posed[models[0].photos] = True
            rest = rest.among(~posed)
        failed.raise_if_nothing(len(found))
        found.sort(key=lambda models: -len(models[0].photos))
        best = tuple(models[0] for models in found)
        others = tuple(tuple(models[1:]) for models in found) if any(len(models) > 1 for models in found) else ()
        return InitialModels(best, reasons_left_out(graph, best), (*warnings, *failed.warnings), others)

    def _mapped_component(
        self,
        component: PartGraph,
        cameras: CameraPriors,
        known: NDArray[np.bool_],
        resources: Resources,
    ) -> tuple[list[InitialModel], tuple[str, ...]]:
        """The models of a component, the best one first, and warnings."""
        graph, intrinsics = component.graph, component.intrinsics
        noise_px = self.prior_noise * graph.keypoint_error_px
        choice = select_intrinsics(
            graph,
            replace(intrinsics, prior=replace(intrinsics.prior, noise_px=noise_px)),
            known[component.cameras],
            assumed_groups=cameras.grouping == "assumed",
            keypoint_error_px=graph.keypoint_error_px,
            options=self.intrinsics_search,
            mapper=self,
            seed=self.seed,
        )
        drafts, apart = self._mapped(graph, choice, resources)
        models = [initial_model_of(draft.bundle, choice.intrinsics, graph.keypoints) for draft in drafts]
        models = [replace(each, photos=component.photos[each.photos].astype(np.int32)) for each in models]
        return models, (*choice.warnings, *apart)

    def _mapped(
        self, component: ViewGraph, choice: IntrinsicsChoice, resources: Resources
    ) -> tuple[list[Draft], tuple[str, ...]]:
        """The best model of a component, divided or not, others that the fine stage should compare with it, and
        warnings about its division."""
        limit = self.division.max_photos
        if len(np.unique(component.pairs)) > limit:
            cut = self.division.cut
            divided = map_divided(
                component,
                choice.intrinsics,
                keypoint_error_px=component.keypoint_error_px,
                options=replace(self.division, cut=replace(cut, cluster_photos=min(cut.cluster_photos, limit))),
                mapper=self,
                seed=self.seed,
                apply=_side_by_side(resources),
            )
            if divided is not None:
                return [Draft(divided.bundle, 0.0)], _warnings(divided)
        return self._competed(component, choice, resources), ()

    def _competed(self, component: ViewGraph, choice: IntrinsicsChoice, resources: Resources) -> list[Draft]:
        """Drafts under several seeds, focal lengths and poses of ambiguous pairs, the cheapest first."""
        keypoints, error_px = component.keypoints, component.keypoint_error_px
        planes: PlanePoses = {}  # they depend on the intrinsics, and are the same in all drafts under these

        def mapped(intrinsics: Intrinsics, number: int, poses: Mapping[int, Array] | None = None) -> Bundle | None:
            model = map_component(
                component,
                None,
                intrinsics,
                keypoint_error_px=error_px,
                options=self,
                poses=poses,
                seed=self.seed + number,
                planes=planes if intrinsics is choice.intrinsics else None,
            )
            return None if model is None else model.bundle

        @cache
        def tracks() -> Tracks:
            every = establish_tracks(keypoints, *component.matches())
            return spread_subset(every, component.photo_count, self.tracks_per_photo)

        def measured(bundle: Bundle) -> Draft:
            return Draft(bundle, track_cost(keypoints, tracks(), bundle, error_px, self.cost_max_error))

        def draft(intrinsics: Intrinsics, number: int, poses: Mapping[int, Array] | None = None) -> Draft | None:
            bundle = mapped(intrinsics, number, poses)
            return None if bundle is None else measured(bundle)

        contested = not choice.clear or len(np.unique(component.pairs)) <= self.drafts.always_photos
        if contested:
            known = None if choice.confirmed is None else measured(choice.confirmed)
            found = competing_drafts(partial(draft, choice.intrinsics), self.drafts, known)
        else:  # a cost is measured only if there is another one to compare it with
            only = mapped(choice.intrinsics, 0)
            found = [] if only is None else [Draft(only, 0.0)]
        if not found:
            return []
        proposals = propose_alternatives(component, found[0].bundle, error_px, self.alternatives)
        if not contested and proposals:
            found = [measured(found[0].bundle)]
        best, poses = found[0], dict[int, Array]()
        for proposal in proposals:
            other = draft(choice.intrinsics, 0, poses | dict(proposal.poses))
            if other is not None:
                found.append(other)
                if other.cost < best.cost:
                    best, poses = other, poses | dict(proposal.poses)
        found += [other for each in choice.others if (other := draft(each, 0)) is not None]
        return carried_drafts(distinct_drafts(found, self.drafts), self.drafts)


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
