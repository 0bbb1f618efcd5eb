"""Alignment of point maps: every pair's depths, brought to one map per photo, and the maps to one world."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray

from unposed.optim.bundle.intrinsics import Intrinsics, IntrinsicsPriorOptions
from unposed.optim.bundle.problem import Bundle
from unposed.optim.mapping.global_mapper import largest_component
from unposed.optim.mapping.intrinsics_search import select_intrinsics
from unposed.optim.pointmaps.map_alignment import AlignedMaps, align_maps
from unposed.optim.pointmaps.pair_maps import PairMaps
from unposed.pipeline.artifacts import (
    CameraPriors,
    Doubts,
    Features,
    PairMatches,
    Photos,
    SparseModels,
    TwoViewGeometry,
)
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain, PerPair, PerPhoto

from ..arrays import belief_of, reasons, scene_of, sketch
from ..depths import predicted_maps, triangulated_maps
from ..evidence import UNIT_OVER_NOISE, Evidence, evidence_of, scatter_px

Array = NDArray[np.float64]

SIGMA = {"given": 0.0, "exif": IntrinsicsPriorOptions().exif_focal_sigma, "guess": np.inf}

FOUND_FOCAL_SIGMA = 0.03
"""Relative error of focal lengths that whole drafts have settled."""

MOST_STRAIN = 1.25
"""Up to 1.1 where the result is right, from 1.3 to 15 where focal lengths or look-alikes made it wrong."""

LEAST_TRUST = 0.5
"""Of the median pair: 0.65 and more where the result is right, however many of the others are wrong."""


@dataclass(frozen=True, eq=False)
class _Task:
    """What is to be aligned."""

    maps: PairMaps
    belief: Intrinsics
    sigma: Array
    """(cameras,) relative error of the believed focal lengths."""
    may_split: bool
    """Whether photos that are believed to share a camera may turn out not to."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Align:
    """Aligns the depths that a matcher predicts, or else those triangulated from each pair."""

    grain: ClassVar[Grain] = Grain.COLLECTION
    version: ClassVar[int] = 4

    matches_per_pair: Annotated[int, Within("[10, inf)")] = 200
    """Evenly picked; the fine stage uses all."""
    tracks_per_photo: Annotated[int, Within("[20, inf)")] = 150
    """Points of the result; they are not needed for the poses."""
    min_photos: Annotated[int, Within("[2, inf)")] = 3
    """Smaller components are not worth a model of their own, unless there is no larger one."""
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
        evidence = evidence_of(photos, features, matching, verification, doubts)
        belief = belief_of(cameras, evidence.unit_px)
        sigma = np.array([SIGMA[source] for source in cameras.focal_source])
        may_split = cameras.grouping == "assumed" and not np.isfinite(sigma).all()
        maps = predicted_maps(evidence, matching, verification, self.matches_per_pair)
        tasks = [_Task(maps, belief, sigma, may_split)]
        if not len(maps.pairs):
            tasks = [self._triangulated(each, belief, sigma, may_split) for each in _components(evidence)]
        found: list[AlignedMaps] = []
        for task in tasks:
            rest = np.ones(len(task.maps.pairs), bool)
            while rest.any():
                component = align_maps(
                    task.maps.select(rest),
                    evidence.views.size.astype(np.float64),
                    task.belief,
                    task.sigma,
                    noise_px=evidence.unit_px / UNIT_OVER_NOISE,
                    may_split=task.may_split,
                    seed=self.seed,
                )
                if component is None or (found and component.posed.sum() < self.min_photos):
                    break
                found.append(component)
                rest &= ~component.posed[task.maps.pairs].any(axis=1)
        scenes = tuple(scene_of(self._bundle(evidence, each), evidence.views, evidence.rgb_of) for each in found)
        placed = [int(photo) for scene in scenes for photo in scene.photos]
        warnings = dict.fromkeys(note for task in tasks for note in task.warnings)
        # What matches miss within their pairs explains as much of what they miss now.
        explained = max(1.0, scatter_px(evidence) * UNIT_OVER_NOISE / evidence.unit_px) if found else 1.0
        return SparseModels(scenes, reasons(photos, evidence, placed), (*warnings, *_notes(found, explained)))

    def _triangulated(self, evidence: Evidence, belief: Intrinsics, sigma: Array, may_split: bool) -> _Task:
        """Depths from matches alone, which hang on the focal lengths: whole drafts decide about these."""
        verdict = select_intrinsics(
            evidence.views,
            evidence.matches,
            belief,
            np.isfinite(sigma),
            assumed_groups=may_split,
            unit_px=evidence.unit_px,
            seed=self.seed,
        )
        if len(verdict.intrinsics.models) != len(sigma):  # a camera for each photo
            sigma = sigma[belief.camera_of_photo]
        maps = triangulated_maps(evidence, verdict.intrinsics, self.matches_per_pair, self.seed)
        return _Task(maps, verdict.intrinsics, np.minimum(sigma, FOUND_FOCAL_SIGMA), False, verdict.warnings)

    def _bundle(self, evidence: Evidence, aligned: AlignedMaps) -> Bundle:
        """The cameras, and points from the matches of pairs that agree with them."""
        believed = set(map(tuple, aligned.pairs[aligned.believed].tolist()))
        matches = evidence.matches.select(np.array([tuple(p) in believed for p in evidence.matches.pairs.tolist()]))
        return sketch(evidence, matches, aligned.intrinsics, aligned.cam_from_world, self.tracks_per_photo)


def _components(evidence: Evidence) -> Iterator[Evidence]:
    """Photos that hang together, the most first: others have nothing to say about their cameras."""
    rest = evidence.matches
    while len(rest):
        inside = largest_component(len(evidence.views), rest.pairs, rest.count().astype(np.float64))[rest.pairs[:, 0]]
        yield replace(evidence, matches=rest.select(inside))
        rest = rest.select(~inside)


def _notes(found: list[AlignedMaps], explained: float) -> tuple[str, ...]:
    wrong = sum(int((~each.believed & (each.trust > 0)).sum()) for each in found)
    warnings = [f"{wrong} pairs contradict the others and were not believed"] if wrong else []
    for each in found:
        told = f"the coarse alignment of {each.posed.sum()} photos may be wrong: "
        strain = each.strain / explained
        if strain > MOST_STRAIN:
            warnings.append(f"{told}rays of the same point miss each other by {strain:.1f} times the error of a match")
        elif np.median(each.trust[each.trust > 0]) < LEAST_TRUST:
            warnings.append(f"{told}most pairs hardly agree with it")
    return tuple(warnings)
