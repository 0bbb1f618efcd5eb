"""Pairs that match but cannot be right: look-alikes, found by what they contradict and by what they lack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from unposed.optim.mapping.beliefs import BELIEVED, DOUBT, Beliefs, Relations
from unposed.optim.mapping.focals import shared_focal
from unposed.optim.mapping.lookalikes import WORTH_A_TRIAL, fewest_coincidences
from unposed.optim.mapping.missing import compare, matched_points
from unposed.optim.mapping.relative import relative_poses
from unposed.optim.pair.copies import same_picture
from unposed.pipeline.artifacts import Cameras, Doubts, Features, LocalGeometry, PairMatches, Photos
from unposed.pipeline.stage import Grain, PerPair, PerPhoto
from unposed.retrieval.scene_graph import weak_spots

from ..arrays import belief_of
from ..evidence import Evidence, evidence_of

DAMNED = 0.9
"""Suspicion beyond which a pair is left out even if nothing contradicts it."""

FEW = 3
"""Smaller parts of a collection are not worth a warning."""


@dataclass(frozen=True)
class LookAlikes:
    """Closed chains of pairs must turn back to where they began, and what lies around the matches must match, too.

    Where a building has two equal fronts, say, the pairs between them agree with each other, but not with the way
    around the corner, and near the corner the photos show different things beside the equal ones.
    """

    grain: ClassVar[Grain] = Grain.COLLECTION
    version: ClassVar[int] = 8

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
        kinds = np.array([verification[a, b].kind for a, b in evidence.matches.pairs.tolist()], dtype="U8")
        copies = tuple(_notes_on_copies(photos, evidence, kinds == "rotation"))
        relations = self._relations(evidence, cameras, kinds == "planar")
        if not len(relations.pairs):
            return Doubts(np.zeros((0, 2), np.int32), (), copies)
        beliefs = fewest_coincidences(relations)
        cut = relations.suspicion > np.where(beliefs.claim == BELIEVED, DAMNED, DOUBT)
        claimed = np.flatnonzero(beliefs.claim >= 0)
        weight = np.bincount(beliefs.claim[claimed], relations.strength[claimed])
        cut[claimed] |= weight[beliefs.claim[claimed]] >= WORTH_A_TRIAL  # mappers do without help with weaker ones
        doubted = np.flatnonzero(cut)
        pairs = relations.pairs[doubted].astype(np.int32)
        return Doubts(
            pairs,
            tuple(_reason(relations, beliefs, row) for row in doubted.tolist()),
            (
                *_notes_on_look_alikes(photos, relations, doubted),
                *_notes_on_weak_spots(photos, evidence, pairs),
                *copies,
            ),
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
        suspicion, likeness = compare(views, matches)
        real = np.add.reduceat(np.append(matched_points(views, matches), False).astype(np.int64), views.start[:-1])
        return Relations(
            photos=len(views),
            pairs=pairs,
            b_from_a=relative.b_from_a[:, :, :3],
            matches=relative.weight,
            share=relative.weight / real[pairs].min(axis=1),
            flat=flat[relative.edge],
            suspicion=suspicion[relative.edge],
            likeness=likeness[relative.edge],
        )


def _reason(relations: Relations, beliefs: Beliefs, row: int) -> str:
    lacks = relations.suspicion[row] > DOUBT
    turned = f"its rotation is {beliefs.residual_deg[row]:.0f} degrees off that of the chains of other pairs"
    differs = "around what matches the photos show different things"
    contradicted = beliefs.claim[row] != BELIEVED
    return f"{differs}, and {turned}" if lacks and contradicted else differs if lacks else turned


def _notes_on_look_alikes(photos: Photos, relations: Relations, doubted: NDArray[np.int64]) -> list[str]:
    if not len(doubted):
        return []
    a, b = relations.pairs[doubted[np.argmax(relations.matches[doubted])]].tolist()
    return [
        f"look-alikes: {len(doubted)} of {len(relations.pairs)} matching pairs cannot show the same place and were "
        f"left out, {photos[a].name} and {photos[b].name} for instance; `doubts` in summary.json lists them"
    ]


def _notes_on_weak_spots(photos: Photos, evidence: Evidence, doubted: NDArray[np.int32]) -> list[str]:
    believed = [pair for pair in evidence.matches.pairs.tolist() if pair not in doubted.tolist()]
    weak = weak_spots(len(photos), np.array(believed, np.int64).reshape(-1, 2))
    notes = [
        f"{hanging} photos hang by the pair {photos[a].name} and {photos[b].name} alone: look whether the two show the "
        "same place, or take a photo from between"
        for a, b, hanging in weak.bridges
        if hanging >= FEW
    ]
    sizes = [len(part) for part in weak.parts if len(part) >= FEW]
    if len(sizes) > 1:
        notes.append(f"no pair joins the parts of {', '.join(map(str, sizes))} photos: expect a model of each")
    return notes


def _notes_on_copies(photos: Photos, evidence: Evidence, turned: NDArray[np.bool_]) -> list[str]:
    matches, xy, notes = evidence.matches, evidence.views.xy, []
    for edge in np.flatnonzero(turned).tolist():
        a, b = (photos[i] for i in matches.pairs[edge].tolist())
        rows = slice(matches.start[edge], matches.start[edge + 1])
        sizes = (a.width, a.height), (b.width, b.height)
        if same_picture(xy[matches.row_a[rows]], xy[matches.row_b[rows]], *sizes):
            notes.append(f"{a.name} and {b.name} are one picture: the pair has no baseline and no say in the geometry")
    return notes
