"""Doubts about pairs that match but join different places: rotation cycles and missing correspondences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from unposed.optim.doppelgangers.duplicates import is_duplicate
from unposed.optim.doppelgangers.edges import RelativeRotations
from unposed.optim.doppelgangers.hypothesis import CONSISTENT, Hypothesis, left_out_pairs
from unposed.optim.doppelgangers.options import DoppelgangerOptions
from unposed.optim.doppelgangers.relative_rotations import searched_relative_rotations
from unposed.optim.groups.layout import GroupLayout, LayoutOptions, contradicted_pairs, group_layout, layout_errors_deg
from unposed.optim.mapping.spanning_forest import joined_otherwise
from unposed.optim.option_ranges import Count
from unposed.optim.parallel import lent_threads
from unposed.optim.partition.cluster_graph import PartGraph, part_of
from unposed.optim.view_graph import KINDS, ViewGraph
from unposed.pipeline.artifacts import CameraPriors, Doubts, LocalScene, Photos
from unposed.pipeline.stage import CollectionMemory, Grain, PerGroup, Resources
from unposed.pipeline.threads import hold_this_thread
from unposed.retrieval.neighbours import capture_order
from unposed.retrieval.scene_graph import NOTHING_JOINS, components_and_bridges

from ..shared.group_scenes import OverlapTrust, group_scenes
from ..shared.models import intrinsics_of_priors

MAX_NAMES = 4
"""Duplicates of one image that a warning names."""

DIVIDED_REASON = "its matches belong to two geometries, and other pairs join its photos"
"""Of doubts about pairs of which one pose explains too few matches."""


@dataclass(frozen=True)
class Doppelgangers(DoppelgangerOptions):
    """Leaves out pairs of doppelgangers: different places that look alike.

    Rotations along every cycle of correct pairs multiply to the identity, and the surroundings of correct matches match
    as well. If a building has two equal facades, pairs between them agree with each other but not with the way around
    the corner, and near the corner the photos show different things beside the equal ones. See docs/doppelgangers.md.
    Every connected component of the view graph is searched by itself, as if the others were not there. Where a network
    has seen photos in groups, pairs are left out as well that contradict every trusted group about how photos lie.
    """

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 31
    memory: ClassVar[CollectionMemory] = CollectionMemory(10 << 20, 250 << 10)

    min_part_photos: Count = 3
    """Photos that a part of the collection needs for a warning that no pair, or one alone, joins it to the others."""
    layout: LayoutOptions = field(default_factory=LayoutOptions)
    """Groups of photos that a network has seen at once, where there are any, as a further witness."""
    group_trust: OverlapTrust = field(default_factory=OverlapTrust)
    """How far these are trusted."""

    def __call__(
        self,
        photos: Photos,
        cameras: CameraPriors,
        view_graph: ViewGraph,
        resources: Resources,
        local: PerGroup[LocalScene] | None = None,
    ) -> Doubts:
        rotated = view_graph.kind == KINDS.index("rotation")
        duplicates = tuple(_warnings_about_duplicates(photos, view_graph, rotated, self))
        layout = None if local is None else self._layout(local, view_graph)
        with lent_threads(resources.threads, hold_this_thread):
            found, rival_margin = self.searched(photos, cameras, view_graph, layout)
        pairs = np.concatenate([np.zeros((0, 2), np.int32), *(each.pairs for each in found)])
        reasons = [reason for each in found for reason in each.reasons]
        order = np.lexsort((pairs[:, 1], pairs[:, 0]))
        return Doubts(
            pairs[order],
            tuple(reasons[row] for row in order.tolist()),
            (
                *_warnings_about_doubts(photos, found),
                *(_warnings_about_bridges(photos, view_graph, pairs, self.min_part_photos) if found else ()),
                *duplicates,
            ),
            rival_margin,
        )

    def searched(
        self,
        photos: Photos,
        cameras: CameraPriors,
        view_graph: ViewGraph,
        layout: GroupLayout | None = None,
    ) -> tuple[list[DoubtedPairs], NDArray[np.float64]]:
        """The doubted pairs of each component of the view graph, and (photos,) margins over rivals."""
        intrinsics = intrinsics_of_priors(cameras, view_graph.keypoint_error_px)
        place = np.argsort(capture_order([photo.name for photo in photos.photos]))
        found, rival_margin = [], np.full(len(photos), np.inf)
        for component in components_and_bridges(len(photos), view_graph.pairs).components:
            member = np.zeros(len(photos), bool)
            member[list(component)] = True
            part = part_of(view_graph.in_units_of(member), intrinsics, member)
            found.append(self._doubted(part, np.argsort(place[part.photos]), cameras, layout))
            rival_margin[member] = found[-1].rival_margin
        return found, rival_margin

    def _layout(self, local: PerGroup[LocalScene], view_graph: ViewGraph) -> GroupLayout:
        scenes = group_scenes(local, view_graph.keypoints.size.astype(np.float64), self.group_trust)
        return group_layout(scenes, view_graph.photo_count, self.layout)

    def _doubted(
        self,
        part: PartGraph,
        order: NDArray[np.int64],
        cameras: CameraPriors,
        layout: GroupLayout | None,
    ) -> DoubtedPairs:
        """The doubted pairs of one component of the view graph: others have no say in its energy or its cameras."""
        graph = part.graph
        found, result = searched_relative_rotations(
            graph,
            part.intrinsics,
            [cameras.focal_source[camera] for camera in part.cameras.tolist()],
            planar=graph.kind == KINDS.index("planar"),
            order=order,
            keypoint_sigma_px=graph.keypoint_error_px,
            options=self,
        )
        edges, divided = found.edges, found.divided
        tested = len(edges.pairs) + len(divided.pairs)
        if result is None:
            return DoubtedPairs(np.zeros((0, 2), np.int32), (), np.zeros(0), tested, np.inf)
        by_search, off_deg, overruled = left_out_pairs(edges, result.best, self), np.zeros(len(edges.pairs)), False
        if layout is not None:
            off_deg = layout_errors_deg(layout, part.photos[edges.pairs], edges.b_from_a, self.layout)
            against = contradicted_pairs(off_deg, edges.matches, edges.planar, self.layout)
            overruled = against is None
            off_deg = np.where(np.False_ if against is None else against, off_deg, 0.0)
        doubted = np.flatnonzero(by_search | (off_deg > 0))
        kept = np.delete(edges.pairs, doubted, axis=0)
        spare = np.flatnonzero(joined_otherwise(graph.photo_count, kept, divided.pairs))
        reasons = [_reason(edges, result.best, row, by_search[row], off_deg[row], self) for row in doubted.tolist()]
        return DoubtedPairs(
            part.photos[np.concatenate([edges.pairs[doubted], divided.pairs[spare]])].astype(np.int32),
            (*reasons, *[DIVIDED_REASON] * len(spare)),
            np.concatenate([edges.matches[doubted], divided.matches[spare]]),
            tested,
            result.rival_margin,
            overruled,
        )


@dataclass(frozen=True, eq=False)
class DoubtedPairs:
    """Doubted pairs of one component of the view graph."""

    pairs: NDArray[np.int32]
    """(n, 2) photos of the collection."""
    reasons: tuple[str, ...]
    matches: NDArray[np.float64]
    """(n,) estimated number of inliers."""
    tested: int
    """Number of pairs that have a relative pose."""
    rival_margin: float
    """See SearchResult."""
    overruled: bool = False
    """Whether groups contradict so many pairs that they were not heard."""


def _reason(
    edges: RelativeRotations, best: Hypothesis, row: int, searched: bool, off_deg: float, options: DoppelgangerOptions
) -> str:
    """searched: whether the search leaves the pair out; off_deg: what groups contradict it by, or 0."""
    layout = f"groups of photos say that the two are turned by {off_deg:.0f} degrees otherwise"
    if not searched:
        return layout
    is_missing = edges.missing_score[row] > options.max_missing_score_inconsistent
    turned = f"its rotation is {best.residual_deg[row]:.0f} degrees off that of the cycles with other pairs"
    differs = "around their matches the photos show different things"
    inconsistent = best.cluster[row] != CONSISTENT
    said = f"{differs}, and {turned}" if is_missing and inconsistent else differs if is_missing else turned
    return f"{said}; {layout}" if off_deg else said


def _warnings_about_doubts(photos: Photos, found: Sequence[DoubtedPairs]) -> list[str]:
    told = [
        (matches, pair)
        for each in found
        for pair, reason, matches in zip(each.pairs.tolist(), each.reasons, each.matches.tolist(), strict=True)
        if reason != DIVIDED_REASON  # of one place, for all that is known
    ]
    unheard = "most verified pairs contradict what groups of photos say of their layout: groups have no say in doubts"
    said = [unheard] if any(each.overruled for each in found) else []
    if not told:
        return said
    _, (a, b) = max(told, key=lambda each: each[0])
    return [
        *said,
        f"doppelgangers: {len(told)} of {sum(each.tested for each in found)} matching pairs join different places "
        f"and were left out, {photos[a].name} and {photos[b].name} for instance; `doubts` in summary.json lists them",
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
        warnings.append(f"{NOTHING_JOINS} of {', '.join(map(str, sizes))} photos: expect a model of each")
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
