"""Doubts about pairs that match but join different places: rotation cycles and missing correspondences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from unposed.optim.doppelgangers.duplicates import is_duplicate
from unposed.optim.doppelgangers.edges import RelativeRotations
from unposed.optim.doppelgangers.hypothesis import CONSISTENT, Hypothesis, left_out_pairs
from unposed.optim.doppelgangers.options import DoppelgangerOptions
from unposed.optim.doppelgangers.relative_rotations import estimate_relative_rotations
from unposed.optim.doppelgangers.search import search_hypotheses
from unposed.optim.option_ranges import Count
from unposed.optim.view_graph import KINDS, ViewGraph
from unposed.pipeline.artifacts import CameraPriors, Doubts, Photos
from unposed.pipeline.stage import Grain, Resources
from unposed.retrieval.scene_graph import components_and_bridges

from ..shared.models import intrinsics_of_priors

MAX_NAMES = 4
"""Duplicates of one image that a warning names."""


@dataclass(frozen=True)
class Doppelgangers(DoppelgangerOptions):
    """Leaves out pairs of doppelgangers: different places that look alike.

    Rotations along every cycle of correct pairs multiply to the identity, and the surroundings of correct matches match
    as well. If a building has two equal facades, pairs between them agree with each other but not with the way around
    the corner, and near the corner the photos show different things beside the equal ones. See docs/doppelgangers.md.
    """

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 19

    min_part_photos: Count = 3
    """Photos that a part of the collection needs for a warning that no pair, or one alone, joins it to the others."""

    def __call__(
        self,
        photos: Photos,
        cameras: CameraPriors,
        view_graph: ViewGraph,
        resources: Resources,
    ) -> Doubts:
        kind = np.array(KINDS)[view_graph.kind]
        duplicates = tuple(_warnings_about_duplicates(photos, view_graph, kind == "rotation", self))
        edges, initial = estimate_relative_rotations(
            view_graph,
            intrinsics_of_priors(cameras, view_graph.keypoint_error_px),
            cameras.focal_source,
            planar=kind == "planar",
            keypoint_sigma_px=view_graph.keypoint_error_px,
            options=self,
            threads=resources.threads,
        )
        if not initial:
            return Doubts(np.zeros((0, 2), np.int32), (), duplicates)
        found = search_hypotheses(edges, initial, self)
        doubted = np.flatnonzero(left_out_pairs(edges, found.best, self))
        pairs = edges.pairs[doubted].astype(np.int32)
        return Doubts(
            pairs,
            tuple(_reason(edges, found.best, row, self) for row in doubted.tolist()),
            (
                *_warnings_about_doubts(photos, edges, doubted),
                *_warnings_about_bridges(photos, view_graph, pairs, self.min_part_photos),
                *duplicates,
            ),
            found.rival_margin,
        )


def _reason(edges: RelativeRotations, best: Hypothesis, row: int, options: DoppelgangerOptions) -> str:
    is_missing = edges.missing_score[row] > options.max_missing_score_inconsistent
    turned = f"its rotation is {best.residual_deg[row]:.0f} degrees off that of the cycles with other pairs"
    differs = "around their matches the photos show different things"
    inconsistent = best.cluster[row] != CONSISTENT
    return f"{differs}, and {turned}" if is_missing and inconsistent else differs if is_missing else turned


def _warnings_about_doubts(photos: Photos, edges: RelativeRotations, doubted: NDArray[np.int64]) -> list[str]:
    if not len(doubted):
        return []
    a, b = edges.pairs[doubted[np.argmax(edges.matches[doubted])]].tolist()
    return [
        f"doppelgangers: {len(doubted)} of {len(edges.pairs)} matching pairs join different places and were "
        f"left out, {photos[a].name} and {photos[b].name} for instance; `doubts` in summary.json lists them"
    ]


def _warnings_about_bridges(
    photos: Photos, view_graph: ViewGraph, doubted: NDArray[np.int32], min_photos: int
) -> list[str]:
    graph = components_and_bridges(len(photos), view_graph.without(doubted).pairs)
    warnings = [
        f"{hanging} photos are connected by the pair {photos[a].name} and {photos[b].name} alone: check that the two "
        "show the same place, or take a photo from between"
        for a, b, hanging in graph.bridges
        if hanging >= min_photos
    ]
    sizes = [len(part) for part in graph.components if len(part) >= min_photos]
    if len(sizes) > 1:
        warnings.append(f"no pair joins the parts of {', '.join(map(str, sizes))} photos: expect a model of each")
    return warnings


def _warnings_about_duplicates(
    photos: Photos, view_graph: ViewGraph, rotated: NDArray[np.bool_], options: DoppelgangerOptions
) -> list[str]:
    xy, duplicates = view_graph.keypoints.xy, []
    for edge in np.flatnonzero(rotated).tolist():
        a, b = view_graph.pairs[edge].tolist()
        rows = view_graph.match_rows(edge)
        sizes = (photos[a].width, photos[a].height), (photos[b].width, photos[b].height)
        if is_duplicate(xy[view_graph.row_a[rows]], xy[view_graph.row_b[rows]], *sizes, options):
            duplicates.append((a, b))
    parts = components_and_bridges(len(photos), np.array(duplicates, np.int64).reshape(-1, 2)).components
    groups = sorted(sorted(photos[photo].name for photo in part) for part in parts)
    return [
        f"{', '.join(group[:MAX_NAMES][:-1])} and {group[:MAX_NAMES][-1]} are one image"
        + (f", as are {len(group) - MAX_NAMES} more" if len(group) > MAX_NAMES else "")
        + ": pairs of them have no baseline and do not contribute to the geometry"
        for group in groups
    ]
