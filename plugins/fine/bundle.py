"""Bundle adjustment of everything: all matches, all tracks, all photos that can join."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import numpy as np

from unposed.optim.adjustment import adjust
from unposed.optim.intrinsics import hold_principal
from unposed.optim.refine import Refine, Solver, refine
from unposed.pipeline.artifacts import Cameras, Doubts, Features, LocalGeometry, PairMatches, Photos, Scenes
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain, PerPair, PerPhoto

from ..arrays import belief_of, bundle_of, reasons, scene_of
from ..evidence import evidence_of

DEPENDABLE_DENSE = 2000
"""Points that a third photo confirms, per photo, from which on those between two photos have no say. Of dense matches
most are between two photos, and what these tell is worth more than the few wrong ones cost."""


@dataclass(frozen=True)
class BundleAdjustment:
    """Rounds of tracking, triangulating, adjusting and filtering; photos left out may join by resection."""

    grain: ClassVar[Grain] = Grain.COLLECTION
    version: ClassVar[int] = 7
    solver: ClassVar[Solver] = staticmethod(adjust)

    max_error_px: Annotated[float, Within("(0, inf)")] = 4.0
    """Observations further from their point are dropped. In a photo of 1600 pixels; larger photos allow more."""
    loss_px: Annotated[float, Within("(0, inf)")] = 0.8
    """Scale of the Cauchy loss, likewise."""
    min_angle_deg: Annotated[float, Within("[0, 90]")] = 1.5
    """Points seen under smaller angles are dropped."""
    rounds: Annotated[int, Within("[1, 20]")] = 1
    seed: int = 0

    def __call__(
        self,
        photos: Photos,
        cameras: Cameras,
        matching: PerPair[PairMatches],
        verification: PerPair[LocalGeometry],
        coarse: Scenes,
        features: PerPhoto[Features] | None = None,
        doubts: Doubts | None = None,
    ) -> Scenes:
        evidence = evidence_of(photos, features, matching, verification, doubts)
        views, matches, unit_px = evidence.views, evidence.matches, evidence.unit_px
        options = Refine(
            max_error=self.max_error_px, loss=self.loss_px, min_angle_deg=self.min_angle_deg, rounds=self.rounds
        )
        if evidence.dense:
            options = replace(options, dependable_points=DEPENDABLE_DENSE)
        placed = np.zeros(len(photos), bool)
        for scene in coarse.components:
            placed[scene.photos] = True
        scenes = []
        for scene in coarse.components:
            start, belief = bundle_of(scene, views, belief_of(cameras, unit_px))
            prior = belief.prior
            if evidence.dense:  # it would follow what is systematic in the matches, and take the rotations along
                prior = hold_principal(prior, np.zeros(len(belief.models), np.int64))
            refined = refine(
                views,
                matches,
                start,
                prior,
                np.flatnonzero(~placed),
                options,
                unit_px=unit_px,
                seed=self.seed,
                solver=self.solver,
            )
            result = scene_of(refined.bundle, views, evidence.rgb_of)
            if len(result.photos) >= 2:
                scenes.append(result)
                placed[result.photos] = True
        scenes.sort(key=lambda s: -len(s.photos))
        registered = [int(photo) for scene in scenes for photo in scene.photos]
        return Scenes(tuple(scenes), reasons(photos, evidence, registered), coarse.notes)
