"""Alignment of point maps: every pair's depths, brought to one map per photo, and the maps to one world."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from unposed.optim.bundle.intrinsics import Intrinsics, IntrinsicsPriorOptions
from unposed.optim.mapping.intrinsics_search import select_intrinsics
from unposed.optim.mapping.keypoint_error import UNIT_OVER_SCATTER, scatter_px
from unposed.optim.pointmaps.pair_depths import PairDepths
from unposed.optim.pointmaps.point_map_mapper import PointMapPoses, poses_from_pair_depths
from unposed.optim.view_graph import ViewGraph
from unposed.pipeline.artifacts import CameraPriors, Doubts, InitialModels, PairMatches, Photos
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain, PerPair

from ..shared.models import initial_model, intrinsics_of_priors, reasons_left_out, without_doubts
from ..shared.point_maps import predicted_maps, triangulated_maps

Array = NDArray[np.float64]

SIGMA = {"given": 0.0, "exif": IntrinsicsPriorOptions().exif_focal_sigma, "guess": np.inf}

FOUND_FOCAL_SIGMA = 0.03
"""Relative error of focal lengths that whole models have decided."""

MOST_STRAIN = 1.25
"""Up to 1.1 where the result is right, from 1.3 to 15 where focal lengths or look-alikes made it wrong."""

LEAST_TRUST = 0.5
"""Of the median pair: 0.65 and more where the result is right, however many of the others are wrong."""


@dataclass(frozen=True, eq=False)
class _Task:
    """What is to be aligned."""

    maps: PairDepths
    intrinsics: Intrinsics
    sigma: Array
    """(cameras,) relative error of the focal lengths."""
    may_split: bool
    """Whether photos of one assumed group may get a camera each."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Align:
    """Aligns the depths that a matcher predicts, or else those triangulated from each pair."""

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 5

    matches_per_pair: Annotated[int, Within("[10, inf)")] = 200
    """Evenly picked; the fine stage uses all."""
    min_photos: Annotated[int, Within("[2, inf)")] = 3
    """Smaller components are not worth a model of their own, unless there is no larger one."""
    seed: int = 0

    def __call__(
        self,
        photos: Photos,
        cameras: CameraPriors,
        view_graph: ViewGraph,
        matching: PerPair[PairMatches] | None = None,
        doubts: Doubts | None = None,
    ) -> InitialModels:
        graph = without_doubts(view_graph, doubts)
        intrinsics = intrinsics_of_priors(cameras, graph.unit_px)
        sigma = np.array([SIGMA[source] for source in cameras.focal_source])
        may_split = cameras.grouping == "assumed" and not np.isfinite(sigma).all()
        maps = predicted_maps(graph, matching, self.matches_per_pair)
        tasks = [_Task(maps, intrinsics, sigma, may_split)]
        if not len(maps.pairs):
            tasks = [self._triangulated(each, intrinsics, sigma, may_split) for each in _components(graph)]
        found: list[PointMapPoses] = []
        for task in tasks:
            rest = np.ones(len(task.maps.pairs), bool)
            while rest.any():
                component = poses_from_pair_depths(
                    task.maps.select(rest),
                    graph.keypoints.size.astype(np.float64),
                    task.intrinsics,
                    task.sigma,
                    noise_px=graph.unit_px / UNIT_OVER_SCATTER,
                    may_split=task.may_split,
                    seed=self.seed,
                )
                if component is None or (found and component.registered.sum() < self.min_photos):
                    break
                found.append(component)
                rest &= ~component.registered[task.maps.pairs].any(axis=1)
        models = tuple(initial_model(each.intrinsics, each.cam_from_world, graph.keypoints) for each in found)
        warnings = dict.fromkeys(warning for task in tasks for warning in task.warnings)
        # What matches miss within their pairs explains as much of what they miss now.
        explained = max(1.0, scatter_px(graph) * UNIT_OVER_SCATTER / graph.unit_px) if found else 1.0
        return InitialModels(models, reasons_left_out(graph, models), (*warnings, *_warnings(found, explained)))

    def _triangulated(self, graph: ViewGraph, intrinsics: Intrinsics, sigma: Array, may_split: bool) -> _Task:
        """Depths from matches alone, which depend on the focal lengths: these are selected by whole models."""
        choice = select_intrinsics(
            graph,
            intrinsics,
            np.isfinite(sigma),
            assumed_groups=may_split,
            unit_px=graph.unit_px,
            seed=self.seed,
        )
        if len(choice.intrinsics.models) != len(sigma):  # a camera for each photo
            sigma = sigma[intrinsics.camera_of_photo]
        maps = triangulated_maps(graph, choice.intrinsics, self.matches_per_pair, self.seed)
        return _Task(maps, choice.intrinsics, np.minimum(sigma, FOUND_FOCAL_SIGMA), False, choice.warnings)


def _components(graph: ViewGraph) -> Iterator[ViewGraph]:
    """Connected components, the largest first: photos of others have nothing to say about their cameras."""
    rest = graph
    while len(rest):
        inside = rest.largest_component()[rest.pairs[:, 0]]
        yield rest.select(inside)
        rest = rest.select(~inside)


def _warnings(found: list[PointMapPoses], explained: float) -> tuple[str, ...]:
    wrong = sum(int((~each.consistent & (each.consistency > 0)).sum()) for each in found)
    warnings = [f"{wrong} pairs are inconsistent with the others and were left out"] if wrong else []
    for each in found:
        told = f"the coarse alignment of {each.registered.sum()} photos may be wrong: "
        strain = each.ray_error_ratio / explained
        if strain > MOST_STRAIN:
            warnings.append(f"{told}rays of the same point miss each other by {strain:.1f} times the error of a match")
        elif np.median(each.consistency[each.consistency > 0]) < LEAST_TRUST:
            warnings.append(f"{told}most pairs hardly agree with it")
    return tuple(warnings)
