"""Alignment of point maps: every pair's depths, brought to one map per photo, and the maps to one world."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from unposed.optim.bundle.intrinsics import EXIF_FOCAL_SIGMA
from unposed.optim.bundle.problem import Bundle
from unposed.optim.mapping.search import starting_focals
from unposed.optim.pointmaps.map_alignment import Aligned, align_maps
from unposed.pipeline.artifacts import Cameras, Doubts, Features, LocalGeometry, PairMatches, Photos, Scenes
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain, PerPair, PerPhoto

from ..arrays import belief_of, reasons, scene_of, sketch
from ..depths import predicted_maps, triangulated_maps
from ..evidence import UNIT_OVER_NOISE, Evidence, evidence_of

SIGMA = {"given": 0.0, "exif": EXIF_FOCAL_SIGMA, "guess": np.inf}


@dataclass(frozen=True)
class Align:
    """Aligns the depths that a matcher predicts, or else those triangulated from each pair."""

    grain: ClassVar[Grain] = Grain.COLLECTION
    version: ClassVar[int] = 2

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
        cameras: Cameras,
        matching: PerPair[PairMatches],
        verification: PerPair[LocalGeometry],
        features: PerPhoto[Features] | None = None,
        doubts: Doubts | None = None,
    ) -> Scenes:
        evidence = evidence_of(photos, features, matching, verification, doubts)
        belief = belief_of(cameras, evidence.unit_px)
        sigma = np.array([SIGMA[source] for source in cameras.focal_source])
        maps = predicted_maps(evidence, matching, verification, self.matches_per_pair)
        if not len(maps.pairs):
            belief = starting_focals(evidence.views, evidence.matches, belief, np.isfinite(sigma))
            maps = triangulated_maps(evidence, belief, self.matches_per_pair, self.seed)
        found: list[Aligned] = []
        rest = np.ones(len(maps.pairs), bool)
        while rest.any():
            component = align_maps(
                maps.select(rest),
                evidence.views.size.astype(np.float64),
                belief,
                sigma,
                noise_px=evidence.unit_px / UNIT_OVER_NOISE,
                may_split=cameras.grouping == "assumed" and not np.isfinite(sigma).all(),
                seed=self.seed,
            )
            if component is None or (found and component.posed.sum() < self.min_photos):
                break
            found.append(component)
            rest &= ~component.posed[maps.pairs].any(axis=1)
        scenes = tuple(scene_of(self._bundle(evidence, each), evidence.views, evidence.rgb_of) for each in found)
        placed = [int(photo) for scene in scenes for photo in scene.photos]
        return Scenes(scenes, reasons(photos, evidence, placed), _notes(found))

    def _bundle(self, evidence: Evidence, aligned: Aligned) -> Bundle:
        """The cameras, and points from the matches of pairs that agree with them."""
        believed = set(map(tuple, aligned.pairs[aligned.believed].tolist()))
        matches = evidence.matches.select(np.array([tuple(p) in believed for p in evidence.matches.pairs.tolist()]))
        return sketch(evidence, matches, aligned.intrinsics, aligned.cam_from_world, self.tracks_per_photo)


def _notes(found: list[Aligned]) -> tuple[str, ...]:
    wrong = sum(int((~each.believed & (each.trust > 0)).sum()) for each in found)
    return (f"{wrong} pairs contradict the others and were not believed",) if wrong else ()
