"""Global mapping: rotation averaging and global positioning under the intrinsics that fit best."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from unposed.optim.arrays import Array
from unposed.optim.bundle.intrinsics import Intrinsics
from unposed.optim.bundle.problem import Bundle
from unposed.optim.mapping.camera_groups import CameraGroupOptions, with_camera_groups
from unposed.optim.mapping.drafts import Draft, DraftOptions, carried_drafts, competing_drafts, distinct_drafts
from unposed.optim.mapping.global_mapper import GlobalMapperOptions, map_component, track_cost
from unposed.optim.mapping.intrinsics_search import OWN_CAMERAS, IntrinsicsChoice, select_intrinsics
from unposed.optim.mapping.intrinsics_search_options import IntrinsicsSearchOptions
from unposed.optim.mapping.planar_ambiguity import PlanePoses
from unposed.optim.mapping.pose_alternatives import PoseAlternativeOptions, propose_alternatives
from unposed.optim.mapping.tracks import Tracks, establish_tracks, spread_subset
from unposed.optim.parallel import lent_threads
from unposed.optim.partition.cluster_graph import ClusterGraph, ClusterGraphs, ClusterModel, part_of
from unposed.optim.partition.divided_mapping import DividedMappingOptions, DividedModel, MapClusters, map_divided
from unposed.optim.view_graph import ViewGraph
from unposed.pipeline.artifacts import CameraPriors, Doubts, InitialModel, InitialModels, Photos
from unposed.pipeline.config import Within
from unposed.pipeline.stage import CollectionMemory, Grain, Resources
from unposed.pipeline.threads import hold_this_thread

from ..shared.failed_components import FailedComponents
from ..shared.models import PRIOR_NOISE, initial_model_of, intrinsics_of_priors, reasons_left_out, without_doubts
from ..shared.sensor_frames import sensor_frames

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
    version: ClassVar[int] = 31
    memory: ClassVar[CollectionMemory] = CollectionMemory(65 << 20, 300 << 10)

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
    camera_groups: CameraGroupOptions = field(default_factory=CameraGroupOptions)
    """A few cameras instead of one per photo, where the search has found that one did not take them all."""
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
            part = rest.in_units_of(member)
            with lent_threads(resources.threads, hold_this_thread, self.thread_chunks):
                mapped = failed.attempt(
                    int(member.sum()), partial(self._mapped_upright, part, member, cameras, resources)
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

    def _mapped_upright(
        self, graph: ViewGraph, member: NDArray[np.bool_], cameras: CameraPriors, resources: Resources
    ) -> tuple[list[InitialModel], tuple[str, ...]]:
        """The models of a component, in the frames of its sensors where a camera was turned."""
        # Principal points do not matter to this stage, nor does it to which side a camera was turned.
        for frames in sensor_frames(cameras)[:1]:
            if not frames.join(member):
                continue
            turned, warnings = self._mapped_component(frames.view_graph(graph), member, frames.cameras, resources)
            models = [frames.back(model) for model in turned]
            if all(map(frames.fits, models)):  # else one camera did not take them all
                return models, warnings
        return self._mapped_component(graph, member, cameras, resources)

    def _mapped_component(
        self, graph: ViewGraph, member: NDArray[np.bool_], cameras: CameraPriors, resources: Resources
    ) -> tuple[list[InitialModel], tuple[str, ...]]:
        """The models of a component, the best one first, and warnings."""
        known = np.array([source != "guess" for source in cameras.focal_source])
        component = part_of(graph, intrinsics_of_priors(cameras, graph.keypoint_error_px, self.prior_noise), member)
        graph, intrinsics = component.graph, component.intrinsics
        choice = select_intrinsics(
            graph,
            intrinsics,
            known[component.cameras],
            assumed_groups=cameras.grouping == "assumed",
            keypoint_error_px=graph.keypoint_error_px,
            options=self.intrinsics_search,
            mapper=self,
            seed=self.seed,
        )
        maker = _DraftMaker(graph, self)
        if len(choice.intrinsics.models) > len(intrinsics.models):
            choice = self._with_few_cameras(choice, intrinsics, maker)
        drafts, apart = self._mapped(maker, choice, resources)
        models = [initial_model_of(draft.bundle, choice.intrinsics, graph.keypoints) for draft in drafts]
        models = [replace(each, photos=component.photos[each.photos].astype(np.int32)) for each in models]
        return models, (*choice.warnings, *apart)

    def _with_few_cameras(
        self, choice: IntrinsicsChoice, intrinsics: Intrinsics, maker: _DraftMaker
    ) -> IntrinsicsChoice:
        """The choice of a camera per photo, or of a few where these fit as well; one is too few."""
        single = maker.draft(choice.intrinsics)
        if single is None:
            return choice
        size_of_photo, draft = intrinsics.camera_of_photo, partial(maker.draft, number=1)
        found = with_camera_groups(single, choice.intrinsics, size_of_photo, draft, self.camera_groups)
        if found is None:
            return choice
        cameras = len(np.unique(found.camera_of_photo[np.isfinite(single.bundle.cam_from_world[:, 0, 0])]))
        said = f"photos of equal size were taken by several cameras, or by one that zoomed: {cameras} fit them"
        warnings = tuple(said if each == OWN_CAMERAS else each for each in choice.warnings)
        return replace(choice, intrinsics=found, warnings=warnings, others=(), confirmed=None)

    def _mapped(
        self, maker: _DraftMaker, choice: IntrinsicsChoice, resources: Resources
    ) -> tuple[list[Draft], tuple[str, ...]]:
        """The best model of a component, divided or not, others that the fine stage should compare with it, and
        warnings about its division."""
        component, limit = maker.component, self.division.max_photos
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
        return self._competed(maker, choice), ()

    def _competed(self, maker: _DraftMaker, choice: IntrinsicsChoice) -> list[Draft]:
        """Drafts under several seeds, focal lengths and poses of ambiguous pairs, the cheapest first."""
        component, chosen = maker.component, choice.intrinsics
        contested = not choice.clear or len(np.unique(component.pairs)) <= self.drafts.always_photos
        if contested:
            known = None if choice.confirmed is None else maker.measured(choice.confirmed)
            found = competing_drafts(partial(maker.draft, chosen), self.drafts, known)
        else:  # a cost is measured only if there is another one to compare it with
            only = maker.mapped(chosen)
            found = [] if only is None else [Draft(only, 0.0)]
        if not found:
            return []
        proposals = propose_alternatives(component, found[0].bundle, component.keypoint_error_px, self.alternatives)
        if not contested and proposals:
            found = [maker.measured(found[0].bundle)]
        best, poses = found[0], dict[int, Array]()
        for proposal in proposals:
            other = maker.draft(chosen, 0, poses | dict(proposal.poses))
            if other is not None:
                found.append(other)
                if other.cost < best.cost:
                    best, poses = other, poses | dict(proposal.poses)
        found += [other for each in choice.others if (other := maker.draft(each)) is not None]
        return carried_drafts(distinct_drafts(found, self.drafts), self.drafts)


class _DraftMaker:
    """Maps one component again and again, and measures all its models on the same tracks."""

    def __init__(self, component: ViewGraph, mapper: GlobalMapper) -> None:
        self.component, self._mapper = component, mapper
        # Poses of planes depend on the intrinsics, and are the same in all drafts under these.
        self._planes: tuple[Intrinsics | None, PlanePoses] = (None, {})

    def mapped(
        self, intrinsics: Intrinsics, number: int = 0, poses: Mapping[int, Array] | None = None
    ) -> Bundle | None:
        """The model under these intrinsics, with the seed of this number and other poses of some edges."""
        if self._planes[0] is not intrinsics:
            self._planes = (intrinsics, {})
        model = map_component(
            self.component,
            None,
            intrinsics,
            keypoint_error_px=self.component.keypoint_error_px,
            options=self._mapper,
            poses=poses,
            seed=self._mapper.seed + number,
            planes=self._planes[1],
        )
        return None if model is None else model.bundle

    def draft(self, intrinsics: Intrinsics, number: int = 0, poses: Mapping[int, Array] | None = None) -> Draft | None:
        """The same with its cost."""
        bundle = self.mapped(intrinsics, number, poses)
        return None if bundle is None else self.measured(bundle)

    def measured(self, bundle: Bundle) -> Draft:
        """A model of the component with its cost."""
        error_px = self.component.keypoint_error_px
        return Draft(
            bundle, track_cost(self.component.keypoints, self._tracks, bundle, error_px, self._mapper.cost_max_error)
        )

    @cached_property
    def _tracks(self) -> Tracks:
        every = establish_tracks(self.component.keypoints, *self.component.matches())
        return spread_subset(every, self.component.photo_count, self._mapper.tracks_per_photo)


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
