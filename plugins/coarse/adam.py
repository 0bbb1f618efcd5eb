"""The coarse alignment of MASt3R-SfM as published: Adam over a chain of poses, until matched points meet in space."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import networkx as nx
import numpy as np

from unposed.optim.pointmaps.first_order_alignment import COARSE_PHASE, align_first_order
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
    """First order, from the depths that a matcher predicts: the yardstick of coarse.align."""

    grain: ClassVar[Grain] = Grain.COLLECTION
    version: ClassVar[int] = 1

    iterations: Annotated[int, Within("[1, inf)")] = COARSE_PHASE.iterations
    rate: Annotated[float, Within("(0, 1]")] = COARSE_PHASE.rate
    tracks_per_photo: Annotated[int, Within("[20, inf)")] = 150
    """Points of the result; they are not needed for the poses."""

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
        graph = nx.Graph(evidence.matches.pairs.tolist())
        scenes = []
        for member in sorted(nx.connected_components(graph), key=lambda photos: (-len(photos), min(photos))):
            chain = chain_of(sorted(member), evidence.matches.pairs, matching, verification)
            phase = replace(COARSE_PHASE, iterations=self.iterations, rate=self.rate)
            found = align_first_order(chain.matched, chain.tree, (phase,))
            bundle = sketch(
                evidence,
                evidence.matches.select(np.asarray(np.isin(evidence.matches.pairs, chain.photos).all(axis=1))),
                chain.intrinsics(found, belief),
                chain.poses(found, len(photos)),
                self.tracks_per_photo,
            )
            scenes.append(scene_of(bundle, evidence.views, evidence.rgb_of))
        placed = [int(photo) for scene in scenes for photo in scene.photos]
        return SparseModels(tuple(scenes), reasons(photos, evidence, placed))
