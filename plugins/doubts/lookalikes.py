"""Pairs that match but cannot be right: look-alikes, found by what they contradict and by what they lack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from unposed.optim.focals import shared_focal
from unposed.optim.lookalikes import BELIEVED, VETO, WORTH_A_TRIAL, Beliefs, Relations, fewest_coincidences
from unposed.optim.missing import matched_points, suspicion
from unposed.optim.relative import relative_poses
from unposed.pipeline.artifacts import Cameras, Doubts, Features, LocalGeometry, PairMatches, Photos
from unposed.pipeline.stage import Grain, PerPair, PerPhoto

from ..arrays import belief_of
from ..evidence import Evidence, evidence_of

DAMNED = 0.9
"""Suspicion beyond which a pair is left out even if nothing contradicts it."""


@dataclass(frozen=True)
class LookAlikes:
    """Closed chains of pairs must turn back to where they began, and what lies around the matches must match, too.

    Where a building has two equal fronts, say, the pairs between them agree with each other, but not with the way
    around the corner, and near the corner the photos show different things beside the equal ones.
    """

    grain: ClassVar[Grain] = Grain.COLLECTION
    version: ClassVar[int] = 1

    seed: int = 0

    def __call__(
        self,
        photos: Photos,
        cameras: Cameras,
        matching: PerPair[PairMatches],
        verification: PerPair[LocalGeometry],
        features: PerPhoto[Features] | None = None,
    ) -> Doubts:
        evidence = evidence_of(photos, features, matching, verification)
        if len(evidence.matches) == 0:
            return Doubts(np.zeros((0, 2), np.int32), ())
        flat = np.array([verification[a, b].kind == "planar" for a, b in evidence.matches.pairs.tolist()])
        relations = self._relations(evidence, cameras, flat)
        beliefs = fewest_coincidences(relations)
        cut = relations.suspicion > np.where(beliefs.claim == BELIEVED, DAMNED, VETO)
        claimed = np.flatnonzero(beliefs.claim >= 0)
        weight = np.bincount(beliefs.claim[claimed], relations.strength[claimed])
        strong = claimed[weight[beliefs.claim[claimed]] >= WORTH_A_TRIAL]  # a mapper can do without the others' help
        cut[strong] = True
        doubted = np.flatnonzero(cut)
        return Doubts(
            relations.pairs[doubted].astype(np.int32),
            tuple(_reason(relations, beliefs, row) for row in doubted.tolist()),
            _notes(photos, relations, doubted),
        )

    def _relations(self, evidence: Evidence, cameras: Cameras, flat: NDArray[np.bool_]) -> Relations:
        views, matches, unit_px = evidence.views, evidence.matches, evidence.unit_px
        belief = belief_of(cameras, unit_px)
        focals = belief.rows[:, 0].copy()
        for camera, source in enumerate(cameras.focal_source):
            suggested = shared_focal(matches, belief.camera_of, camera)
            if source == "guess" and np.isfinite(suggested):
                focals[camera] = suggested
        belief = belief.with_focals(focals)
        relative = relative_poses(
            views, matches, belief.models, belief.rows, belief.camera_of, max_error_px=2.0 * unit_px, seed=self.seed
        )
        pairs = matches.pairs[relative.edge]
        real = np.add.reduceat(np.append(matched_points(views, matches), False).astype(np.int64), views.start[:-1])
        return Relations(
            photos=len(views),
            pairs=pairs,
            b_from_a=relative.b_from_a[:, :, :3],
            matches=relative.weight,
            share=relative.weight / real[pairs].min(axis=1),
            flat=flat[relative.edge],
            suspicion=suspicion(views, matches)[relative.edge],
        )


def _reason(relations: Relations, beliefs: Beliefs, row: int) -> str:
    lacks = relations.suspicion[row] > VETO
    turned = f"its rotation is {beliefs.residual_deg[row]:.0f} degrees off that of the chains of other pairs"
    differs = "around what matches the photos show different things"
    contradicted = beliefs.claim[row] != BELIEVED
    return f"{differs}, and {turned}" if lacks and contradicted else differs if lacks else turned


def _notes(photos: Photos, relations: Relations, doubted: NDArray[np.int64]) -> tuple[str, ...]:
    if not len(doubted):
        return ()
    a, b = relations.pairs[doubted[np.argmax(relations.matches[doubted])]].tolist()
    return (
        f"look-alikes: {len(doubted)} of {len(relations.pairs)} matching pairs cannot show the same place and were "
        f"left out, {photos[a].name} and {photos[b].name} for instance; `doubts` in summary.json lists them",
    )
