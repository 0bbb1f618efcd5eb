"""Pairs that match but cannot be right: look-alikes, found by what they contradict and by what they lack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from unposed.optim.doppelgangers.duplicates import same_picture
from unposed.optim.doppelgangers.hypothesis import BELIEVED, DOUBT, Hypothesis, RelativeRotations
from unposed.optim.doppelgangers.relative_rotations import least_contradicted
from unposed.optim.doppelgangers.search import WORTH_A_TRIAL, search_hypotheses
from unposed.optim.view_graph import KINDS, ViewGraph
from unposed.pipeline.artifacts import CameraPriors, Doubts, Photos
from unposed.pipeline.stage import Grain
from unposed.retrieval.scene_graph import weak_spots

from ..shared.models import intrinsics_of_priors

DAMNED = 0.9
"""Suspicion beyond which a pair is left out even if nothing contradicts it."""

MOST_NAMES = 4
"""Copies of one picture that are named."""

FEW = 3
"""Smaller parts of a collection are not worth a warning."""


@dataclass(frozen=True)
class Doppelgangers:
    """Closed chains of pairs must turn back to where they began, and what lies around the matches must match, too.

    Where a building has two equal fronts, say, the pairs between them agree with each other, but not with the way
    around the corner, and near the corner the photos show different things beside the equal ones.
    """

    grain: ClassVar[Grain] = Grain.COLLECTION
    version: ClassVar[int] = 17

    seed: int = 0

    def __call__(
        self,
        photos: Photos,
        cameras: CameraPriors,
        view_graph: ViewGraph,
    ) -> Doubts:
        kind = np.array(KINDS)[view_graph.kind]
        copies = tuple(_notes_on_copies(photos, view_graph, kind == "rotation"))
        relations, begun = least_contradicted(
            view_graph,
            intrinsics_of_priors(cameras, view_graph.keypoint_error_px),
            cameras.focal_source,
            flat=kind == "planar",
            max_error_px=2.0 * view_graph.keypoint_error_px,
            seed=self.seed,
        )
        if not begun:
            return Doubts(np.zeros((0, 2), np.int32), (), copies)
        beliefs = search_hypotheses(relations, begun)
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
                *_notes_on_weak_spots(photos, view_graph, pairs),
                *copies,
            ),
        )


def _reason(relations: RelativeRotations, beliefs: Hypothesis, row: int) -> str:
    lacks = relations.suspicion[row] > DOUBT
    turned = f"its rotation is {beliefs.residual_deg[row]:.0f} degrees off that of the chains of other pairs"
    differs = "around what matches the photos show different things"
    contradicted = beliefs.claim[row] != BELIEVED
    return f"{differs}, and {turned}" if lacks and contradicted else differs if lacks else turned


def _notes_on_look_alikes(photos: Photos, relations: RelativeRotations, doubted: NDArray[np.int64]) -> list[str]:
    if not len(doubted):
        return []
    a, b = relations.pairs[doubted[np.argmax(relations.matches[doubted])]].tolist()
    return [
        f"look-alikes: {len(doubted)} of {len(relations.pairs)} matching pairs contradict other pairs or what lies "
        f"around and were left out, {photos[a].name} and {photos[b].name} for instance; `doubts` in summary.json lists "
        "them"
    ]


def _notes_on_weak_spots(photos: Photos, view_graph: ViewGraph, doubted: NDArray[np.int32]) -> list[str]:
    weak = weak_spots(len(photos), view_graph.without(doubted).pairs)
    warnings = [
        f"{hanging} photos hang by the pair {photos[a].name} and {photos[b].name} alone: look whether the two show the "
        "same place, or take a photo from between"
        for a, b, hanging in weak.bridges
        if hanging >= FEW
    ]
    sizes = [len(part) for part in weak.parts if len(part) >= FEW]
    if len(sizes) > 1:
        warnings.append(f"no pair joins the parts of {', '.join(map(str, sizes))} photos: expect a model of each")
    return warnings


def _notes_on_copies(photos: Photos, view_graph: ViewGraph, turned: NDArray[np.bool_]) -> list[str]:
    xy, alike = view_graph.keypoints.xy, []
    for edge in np.flatnonzero(turned).tolist():
        a, b = view_graph.pairs[edge].tolist()
        rows = view_graph.match_rows(edge)
        sizes = (photos[a].width, photos[a].height), (photos[b].width, photos[b].height)
        if same_picture(xy[view_graph.row_a[rows]], xy[view_graph.row_b[rows]], *sizes):
            alike.append((a, b))
    parts = weak_spots(len(photos), np.array(alike, np.int64).reshape(-1, 2)).parts
    groups = sorted(sorted(photos[photo].name for photo in part) for part in parts)
    return [
        f"{', '.join(group[:MOST_NAMES][:-1])} and {group[:MOST_NAMES][-1]} are one picture"
        + (f", as are {len(group) - MOST_NAMES} more" if len(group) > MOST_NAMES else "")
        + ": pairs of them have no baseline and no say in the geometry"
        for group in groups
    ]
