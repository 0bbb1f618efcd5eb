"""Point-map alignment: depths of pairs are fused to one map per photo, and the maps aligned in one world."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import numpy as np

from unposed.optim.arrays import Array
from unposed.optim.bundle.intrinsics import Intrinsics
from unposed.optim.cameras import FX
from unposed.optim.mapping.global_mapper import GlobalMapperOptions
from unposed.optim.mapping.intrinsics_search import select_intrinsics
from unposed.optim.mapping.intrinsics_search_options import IntrinsicsSearchOptions
from unposed.optim.mapping.keypoint_error import scatter_px
from unposed.optim.mapping.relative_poses import RelativePoseOptions
from unposed.optim.pointmaps.pair_depths import PairDepths
from unposed.optim.pointmaps.point_map_mapper import PointMapOptions, PointMapPoses, poses_from_pair_depths
from unposed.optim.view_graph import ViewGraph
from unposed.pipeline.artifacts import CameraPriors, Doubts, InitialModels, PairMatches, Photos
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain, PerPair, Resources

from ..shared.models import PRIOR_NOISE, initial_model, intrinsics_of_priors, reasons_left_out, without_doubts
from ..shared.point_maps import predicted_maps, triangulated_maps


@dataclass(frozen=True, eq=False)
class _Task:
    """Input of one alignment."""

    maps: PairDepths
    intrinsics: Intrinsics
    sigma: Array
    """(cameras,) relative standard deviation of the focal lengths."""
    may_split: bool
    """Whether photos of an assumed group may get a camera each."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class PointMapMapper:
    """Align the depths that a matcher predicts, or else those triangulated from each pair."""

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 12

    matches_per_pair: Annotated[int, Within("[10, inf)")] = 200
    """Matches of a pair that are aligned, evenly picked; the fine stage uses all."""
    min_photos: Annotated[int, Within("[2, inf)")] = 3
    """Components with fewer photos give no model, unless there is no larger one."""
    seed: int = 0
    searched_focal_sigma: Annotated[float, Within("(0, inf)")] = 0.03
    """Relative standard deviation of focal lengths that the intrinsics search has determined."""
    min_angle_deg: Annotated[float, Within("[0, 90]")] = 1.5
    """Matches whose rays enclose a smaller angle get no triangulated depth: it would be noise."""
    error_over_scatter: Annotated[float, Within("(0, inf)")] = 3.0
    """Expected key point error over the noise of a match; as in the view graph."""
    max_epipolar_error: Annotated[float, Within("(0, inf)")] = 1.0
    """Inliers of the relative poses that depths are triangulated with, in expected key point errors."""
    max_strain: Annotated[float, Within("(0, inf)")] = 1.25
    """RMS distance of rays of the same point, over the noise of a match, above which a warning is given: up to 1.1
    where the result is right, 1.3 to 15 where focal lengths or doppelgangers made it wrong."""
    min_pair_weight: Annotated[float, Within("[0, 1]")] = 0.5
    """Weight of the median pair below which a warning is given: 0.65 and more where the result is right, however many
    of the other pairs are wrong."""
    prior_noise: Annotated[float, Within("(0, inf)")] = PRIOR_NOISE
    """Noise that priors of intrinsics are weighed against, in expected key point errors."""
    relative_pose: RelativePoseOptions = field(default_factory=RelativePoseOptions)
    """Relative poses that depths are triangulated with, where no matcher predicts depths."""
    intrinsics_search: IntrinsicsSearchOptions = field(default_factory=IntrinsicsSearchOptions)
    """Intrinsics search, where no matcher predicts depths."""
    point_maps: PointMapOptions = field(default_factory=PointMapOptions)
    """Alignment of the depths of the pairs, and the search of their focal lengths."""
    mapper: GlobalMapperOptions = field(default_factory=GlobalMapperOptions)
    """Mapping of the candidates of the intrinsics search."""

    def __call__(
        self,
        photos: Photos,
        cameras: CameraPriors,
        view_graph: ViewGraph,
        resources: Resources,
        matching: PerPair[PairMatches] | None = None,
        doubts: Doubts | None = None,
    ) -> InitialModels:
        graph = without_doubts(view_graph, doubts)
        intrinsics = intrinsics_of_priors(cameras, graph.keypoint_error_px, self.prior_noise)
        sigma_of_source = {"given": 0.0, "exif": cameras.prior.exif_focal_sigma, "guess": np.inf}
        sigma = np.array([sigma_of_source[source] for source in cameras.focal_source])
        if cameras.given_sigma is not None:
            given = np.array([source == "given" for source in cameras.focal_source])
            sigma = np.where(given, cameras.given_sigma[:, FX] / intrinsics.values[:, FX], sigma)
        may_split = cameras.grouping == "assumed" and not np.isfinite(sigma).all()
        maps = predicted_maps(graph, matching, self.matches_per_pair)
        tasks = [_Task(maps, intrinsics, sigma, may_split)]
        if not len(maps.pairs):
            resources.report(0, 1, "intrinsics search")
            tasks = [self._triangulated(each, intrinsics, sigma, may_split) for each in _components(graph)]
        found: list[PointMapPoses] = []

        def report(done: int, total: int, message: str) -> None:
            before = len(found) * total
            resources.report(before + done, before + max(1, len(tasks) - len(found)) * total, message)

        for task in tasks:
            rest = np.ones(len(task.maps.pairs), bool)
            while rest.any():
                component = poses_from_pair_depths(
                    task.maps.select(rest),
                    graph.keypoints.size.astype(np.float64),
                    task.intrinsics,
                    task.sigma,
                    noise_px=graph.keypoint_error_px / self.error_over_scatter,
                    may_split=task.may_split,
                    seed=self.seed,
                    options=self.point_maps,
                    report=report,
                )
                if component is None or (found and component.registered.sum() < self.min_photos):
                    break
                found.append(component)
                rest &= ~component.registered[task.maps.pairs].any(axis=1)
        models = tuple(initial_model(each.intrinsics, each.cam_from_world, graph.keypoints) for each in found)
        warnings = dict.fromkeys(warning for task in tasks for warning in task.warnings)
        # Part of the strain is the scatter of the matches about their epipolar lines.
        explained = max(1.0, scatter_px(graph) * self.error_over_scatter / graph.keypoint_error_px) if found else 1.0
        return InitialModels(models, reasons_left_out(graph, models), (*warnings, *self._warnings(found, explained)))

    def _triangulated(self, graph: ViewGraph, intrinsics: Intrinsics, sigma: Array, may_split: bool) -> _Task:
        """Depths triangulated from matches, under the focal lengths that an intrinsics search has determined."""
        choice = select_intrinsics(
            graph,
            intrinsics,
            np.isfinite(sigma),
            assumed_groups=may_split,
            keypoint_error_px=graph.keypoint_error_px,
            options=self.intrinsics_search,
            mapper=self.mapper,
            seed=self.seed,
        )
        if len(choice.intrinsics.models) != len(sigma):  # a camera for each photo
            sigma = sigma[intrinsics.camera_of_photo]
        maps = triangulated_maps(
            graph,
            choice.intrinsics,
            self.matches_per_pair,
            max_error_px=self.max_epipolar_error * graph.keypoint_error_px,
            min_angle_deg=self.min_angle_deg,
            options=self.relative_pose,
            seed=self.seed,
        )
        return _Task(maps, choice.intrinsics, np.minimum(sigma, self.searched_focal_sigma), False, choice.warnings)

    def _warnings(self, found: list[PointMapPoses], explained: float) -> tuple[str, ...]:
        wrong = sum(int((~each.consistent & (each.consistency > 0)).sum()) for each in found)
        warnings = [f"{wrong} pairs are inconsistent with the others and were left out"] if wrong else []
        for each in found:
            begin = f"the coarse alignment of {each.registered.sum()} photos may be wrong: "
            strain = each.ray_error_ratio / explained
            if strain > self.max_strain:
                warnings.append(
                    f"{begin}rays of the same point miss each other by {strain:.1f} times the error of a match"
                )
            elif np.median(each.consistency[each.consistency > 0]) < self.min_pair_weight:
                warnings.append(f"{begin}most pairs hardly agree with it")
        return tuple(warnings)


def _components(graph: ViewGraph) -> Iterator[ViewGraph]:
    """Connected components, the largest first; each is aligned separately."""
    rest = graph
    while len(rest):
        inside = rest.largest_component()[rest.pairs[:, 0]]
        yield rest.select(inside)
        rest = rest.select(~inside)
