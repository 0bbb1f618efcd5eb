"""Global mapping: the intrinsics that make the photos fit together, then every component at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from unposed.optim.mapping.global_mapper import CoarseModel, largest_component, map_component
from unposed.optim.mapping.intrinsics_search import select_intrinsics
from unposed.optim.mapping.tracks import Correspondences
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

from ..arrays import belief_of, reasons, scene_of
from ..evidence import evidence_of


@dataclass(frozen=True)
class Global:
    """Averages rotations, finds positions, and adjusts a spread subset of the tracks, per connected component."""

    grain: ClassVar[Grain] = Grain.COLLECTION
    version: ClassVar[int] = 12

    tracks_per_photo: Annotated[int, Within("[20, inf)")] = 150
    """Poses need no more; the fine stage uses all."""
    max_edge_deg: Annotated[float, Within("(0, 90]")] = 5.0
    """Pairs whose rotation disagrees more with the averaged ones are not believed."""
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
        views, matches, unit_px = evidence.views, evidence.matches, evidence.unit_px
        belief = belief_of(cameras, unit_px)
        if len(matches) == 0:
            return SparseModels((), reasons(photos, evidence, ()))
        known = np.array([source != "guess" for source in cameras.focal_source])
        found: list[CoarseModel] = []
        warnings: dict[str, None] = {}  # a set that keeps its order
        rest = matches
        while len(rest):
            # Every component has its own cameras, even where sizes are equal: each is searched for itself.
            member = largest_component(len(views), rest.pairs, rest.count().astype(np.float64))
            if found and member.sum() < self.min_photos:
                break
            inside = member[rest.pairs[:, 0]]
            verdict = select_intrinsics(
                views,
                rest.select(inside),
                belief,
                known,
                assumed_groups=cameras.grouping == "assumed",
                unit_px=unit_px,
                seed=self.seed,
            )
            component = map_component(
                views,
                rest.select(inside),
                None,
                verdict.intrinsics,
                unit_px=unit_px,
                max_edge_deg=self.max_edge_deg,
                tracks_per_photo=self.tracks_per_photo,
                seed=self.seed,
            )
            if component is None or (found and component.posed.sum() < self.min_photos):
                rest = rest.select(~inside)
                continue
            warnings.update(dict.fromkeys(verdict.warnings))
            found.append(component)
            rest = _without(rest, component)
        found.sort(key=lambda component: -component.posed.sum())
        scenes = tuple(scene_of(component.bundle, views, evidence.rgb_of) for component in found)
        placed = [int(photo) for scene in scenes for photo in scene.photos]
        return SparseModels(scenes, reasons(photos, evidence, placed), tuple(warnings))


def _without(matches: Correspondences, component: CoarseModel) -> Correspondences:
    """The matches between photos that the component has not placed."""
    outside = ~component.posed
    return matches.select(outside[matches.pairs[:, 0]] & outside[matches.pairs[:, 1]])
