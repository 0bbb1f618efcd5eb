"""Global mapping: the intrinsics that make the photos fit together, then every component at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from unposed.optim.draft import Draft, draft
from unposed.optim.search import find_intrinsics
from unposed.optim.tracks import Matches, join, spread_subset
from unposed.pipeline.artifacts import Cameras, Features, LocalGeometry, PairMatches, Photos, Scenes
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain, PerPair, PerPhoto

from ..arrays import belief_of, matches_of, noise_unit_px, reasons, scene_of, views_of


@dataclass(frozen=True)
class Global:
    """Averages rotations, finds positions, and adjusts a spread subset of the tracks, per connected component."""

    grain: ClassVar[Grain] = Grain.COLLECTION
    version: ClassVar[int] = 2

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
        cameras: Cameras,
        features: PerPhoto[Features],
        matching: PerPair[PairMatches],
        verification: PerPair[LocalGeometry],
    ) -> Scenes:
        views = views_of(photos, features)
        matches = matches_of(views, matching, verification)
        unit_px = noise_unit_px(photos)
        belief = belief_of(cameras, unit_px)
        if len(matches) == 0:
            return Scenes((), reasons(photos, matches, features, ()))
        verdict = find_intrinsics(
            views,
            matches,
            belief,
            np.array([source != "guess" for source in cameras.focal_source]),
            assumed_groups=cameras.grouping == "assumed",
            unit_px=unit_px,
            seed=self.seed,
        )
        found: list[Draft] = []
        rest = matches
        while len(rest):
            tracks = spread_subset(join(views, rest.row_a, rest.row_b), len(views), self.tracks_per_photo)
            component = draft(
                views,
                rest,
                tracks,
                verdict.intrinsics,
                unit_px=unit_px,
                max_edge_deg=self.max_edge_deg,
                seed=self.seed,
            )
            if component is None or (found and component.posed.sum() < self.min_photos):
                break
            found.append(component)
            rest = _without(rest, component)
        found.sort(key=lambda component: -component.posed.sum())
        scenes = tuple(scene_of(component.bundle, views, features) for component in found)
        placed = [int(photo) for scene in scenes for photo in scene.photos]
        return Scenes(scenes, reasons(photos, matches, features, placed), verdict.notes)


def _without(matches: Matches, component: Draft) -> Matches:
    """The matches between photos that the component has not placed."""
    outside = ~component.posed
    return matches.select(outside[matches.pairs[:, 0]] & outside[matches.pairs[:, 1]])
