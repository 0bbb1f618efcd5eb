"""The refinement of MASt3R-SfM as published: Adam, until matched points meet in the photos."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import numpy as np

from unposed.optim.pointmaps.first_order_alignment import FINE_PHASE, FirstOrderProblem, alignment_result, run_adam
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
from ..evidence import evidence_of
from ..first_order import chain_of


@dataclass(frozen=True)
class Adam:
    """First order, on depths of anchors, without tracks: the yardstick of fine.bundle."""

    grain: ClassVar[Grain] = Grain.COLLECTION
    version: ClassVar[int] = 1

    iterations: Annotated[int, Within("[1, inf)")] = FINE_PHASE.iterations
    rate: Annotated[float, Within("(0, 1]")] = FINE_PHASE.rate
    principal: bool = FINE_PHASE.principal
    """Free as published, though nothing holds it: held, rotations are several times as exact where it is central."""
    depth: bool = FINE_PHASE.depth
    """Whether the depths of the anchors move as well."""
    tracks_per_photo: Annotated[int, Within("[20, inf)")] = 1000
    """Points of the result, made of the matches when the cameras are found."""

    def __call__(
        self,
        photos: Photos,
        cameras: CameraPriors,
        matching: PerPair[PairMatches],
        verification: PerPair[TwoViewGeometry],
        coarse: SparseModels,
        features: PerPhoto[Features] | None = None,
        doubts: Doubts | None = None,
    ) -> SparseModels:
        evidence = evidence_of(photos, features, matching, verification, doubts)
        belief = belief_of(cameras, evidence.unit_px)
        phase = replace(
            FINE_PHASE, iterations=self.iterations, rate=self.rate, principal=self.principal, depth=self.depth
        )
        scenes = []
        for scene in coarse.models:
            chain = chain_of(scene.photos.tolist(), evidence.matches.pairs, matching, verification)
            problem = FirstOrderProblem(chain.matched, chain.tree)
            start = problem.state_of(*chain.start(scene))
            state, losses = run_adam(problem, start, phase)
            found = alignment_result(problem, state, losses)
            bundle = sketch(
                evidence,
                evidence.matches.select(np.asarray(np.isin(evidence.matches.pairs, scene.photos).all(axis=1))),
                chain.intrinsics(found, belief),
                chain.poses(found, len(photos)),
                self.tracks_per_photo,
            )
            scenes.append(scene_of(bundle, evidence.views, evidence.rgb_of))
        placed = [int(photo) for scene in scenes for photo in scene.photos]
        return SparseModels(tuple(scenes), reasons(photos, evidence, placed), coarse.warnings)
