"""The view graph of a collection: key points, and the verified matches of all pairs with a two-view geometry."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from unposed.optim.mapping.dense_keypoints import dense_view_graph
from unposed.optim.mapping.keypoint_error import detected_keypoint_error_px, detected_keypoint_errors_px, relative_sigma
from unposed.optim.progress import Report
from unposed.optim.view_graph import KINDS, KeypointOptions, Keypoints, ViewGraph, build_view_graph
from unposed.pipeline.artifacts import Bytes, Features, PairMatches, Photos, TwoViewGeometry
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain, PerPair, PerPhoto, Resources, StageError
from unposed.retrieval.spool import Spool

from ..shared.verified_pairs import EitherPair, better_geometries, better_pairs

COLUMN_SHARE = 1 / 32
"""Share of the memory limit above which a column is written to a temporary file and mapped."""


@dataclass(frozen=True)
class VerifiedViewGraph(KeypointOptions):
    """Builds the view graph from features, matches and two-view geometries, once for all later stages.

    Matchers of features give indices of key points. Where any pair has none, as from dense matchers, key points are
    made of the positions of all matches, so that every mapper works with every matcher.

    A closer look at some photos and pairs may be wired as well (see graph.closer): its key points follow the first ones
    of a photo, its matches are indices of both, and of a pair that was matched twice the better matches count.
    """

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 3

    colour_side_px: Annotated[int, Within("[16, inf)")] = 1024
    """Longer side, in pixels, of the photos that colours of dense key points are read from."""

    def __call__(
        self,
        photos: Photos,
        matching: PerPair[PairMatches],
        verification: PerPair[TwoViewGeometry],
        resources: Resources,
        features: PerPhoto[Features] | None = None,
        closer_features: PerPhoto[Features] | None = None,
        closer_matching: PerPair[PairMatches] | None = None,
        closer_verification: PerPair[TwoViewGeometry] | None = None,
    ) -> ViewGraph:
        if closer_matching is not None and closer_verification is not None:
            matching = EitherPair(matching, closer_matching, better_pairs(verification, closer_verification))
            verification = better_geometries(verification, closer_verification)
        edges = [pair for pair, geometry in verification.items() if geometry.kind != "none"]
        size = np.array([(photo.width, photo.height) for photo in photos.photos], np.int64).reshape(-1, 2)
        if any(matching[pair].index_a is None for pair in edges):
            graph = _dense(size, edges, matching, verification, self._keypoint_options(), resources.report)
            rgb = _colours(photos, graph.keypoints, self.colour_side_px)
            return replace(graph, keypoints=replace(graph.keypoints, rgb=rgb))
        if features is None and edges:
            raise StageError("these matches are indices of key points: a node `features` must give their positions")
        with TemporaryDirectory(prefix="unposed-view-graph-", ignore_cleanup_errors=True) as folder:
            table = _Table(int(resources.ram_bytes * COLUMN_SHARE), Path(folder))
            edges = [(a, b) for a, b in edges if features and a in features and b in features]
            keypoints = _keypoints(size, edges, (features, closer_features), self, table)
            unmatched = {
                photo: "no key points were detected"
                if features and photo in features
                else "its features could not be extracted"
                for photo in np.flatnonzero(np.diff(keypoints.start) == 0).tolist()
            }
            graph = _sparse(keypoints, edges, matching, verification, unmatched, table, resources.report)
            return replace(
                graph,
                keypoint_error_px=detected_keypoint_error_px(size, self),
                photo_error_px=detected_keypoint_errors_px(size, self),
            )

    def _keypoint_options(self) -> KeypointOptions:
        """The options of key points alone, as the view graph keeps them."""
        return KeypointOptions(**{each.name: getattr(self, each.name) for each in fields(KeypointOptions)})


class _Table:
    """Columns that grow row by row."""

    def __init__(self, limit_bytes: int, folder: Path) -> None:
        self._limit_bytes, self._folder = limit_bytes, folder
        self._columns: dict[str, Spool] = {}

    def append(self, **columns: NDArray[Any]) -> None:
        for name, rows in columns.items():
            self._columns.setdefault(name, Spool(self._limit_bytes, self._folder, name)).append(rows)

    def column(self, name: str) -> NDArray[Any]:
        return self._columns[name].table()


def _keypoints(
    size: NDArray[np.int64],
    edges: list[tuple[int, int]],
    extracted: tuple[PerPhoto[Features] | None, ...],
    options: KeypointOptions,
    table: _Table,
) -> Keypoints:
    """All key points, those of a photo by all extractors one after the other; photos without features have none."""
    count = np.zeros(len(size), np.int64)
    table.append(xy=np.zeros((0, 2)), scale=np.zeros(0), rgb=np.zeros((0, 3), np.uint8))
    for photo in range(len(size)):
        for found in (features[photo] for features in extracted if features is not None and photo in features):
            count[photo] += len(found.xy)
            table.append(xy=found.xy.astype(np.float64), scale=found.scale.astype(np.float64), rgb=found.rgb.copy())
    start = np.concatenate([[0], np.cumsum(count)])
    return Keypoints(
        xy=table.column("xy"),
        start=start,
        size=size,
        sigma=relative_sigma(table.column("scale"), start, np.array(edges, np.int64).reshape(-1, 2), options),
        rgb=table.column("rgb"),
    )


def _require_rows(keypoints: Keypoints, pair: tuple[int, int], matches: PairMatches, inliers: int) -> None:
    """Blame the matcher or the verifier for rows of key points, or inliers, that are not there: they would be taken for
    those of another photo."""
    if inliers != len(matches.weight):
        raise StageError(f"the verification gives {inliers} inliers for {len(matches.weight)} matches: a fault of it")
    for photo, rows in zip(pair, (matches.index_a, matches.index_b), strict=True):
        count = int(keypoints.start[photo + 1] - keypoints.start[photo])
        if rows is not None and len(rows) and int(rows.max()) >= count:
            raise StageError(f"the matching names key point {rows.max()} of a photo that has {count}: a fault of it")


def _sparse(
    keypoints: Keypoints,
    edges: list[tuple[int, int]],
    matching: PerPair[PairMatches],
    verification: PerPair[TwoViewGeometry],
    unmatched: dict[int, str],
    table: _Table,
    report: Report,
) -> ViewGraph:
    nothing = np.zeros(0, np.int64)
    table.append(row_a=nothing, row_b=nothing, weight=np.zeros(0, np.float32))
    facts, predicted = _EdgeFacts(), _PredictedDepths()
    for done, (a, b) in enumerate(edges):
        report(done, len(edges), "verified pairs")
        matches, geometry = matching[a, b], verification[a, b]
        assert matches.index_a is not None and matches.index_b is not None
        keep = geometry.inliers
        _require_rows(keypoints, (a, b), matches, len(keep))
        table.append(
            row_a=matches.index_a[keep] + keypoints.start[a],
            row_b=matches.index_b[keep] + keypoints.start[b],
            weight=matches.weight[keep].astype(np.float32),
        )
        facts.add(geometry)
        predicted.add(matches, keep)
    return build_view_graph(
        keypoints,
        np.array(edges, np.int64).reshape(-1, 2),
        facts.count(),
        table.column("row_a"),
        table.column("row_b"),
        weight=table.column("weight"),
        unmatched=unmatched,
        **facts.columns(),
        **predicted.columns(),
    )


def _dense(
    size: NDArray[np.int64],
    edges: list[tuple[int, int]],
    matching: PerPair[PairMatches],
    verification: PerPair[TwoViewGeometry],
    options: KeypointOptions,
    report: Report,
) -> ViewGraph:
    facts, predicted = _EdgeFacts(), _PredictedDepths()
    xy_a, xy_b, weight = [], [], []
    for done, pair in enumerate(edges):
        report(done, len(edges), "verified pairs")
        matches, geometry = matching[pair], verification[pair]
        keep = geometry.inliers
        xy_a.append(matches.xy_a[keep].astype(np.float64))
        xy_b.append(matches.xy_b[keep].astype(np.float64))
        weight.append(matches.weight[keep])
        facts.add(geometry)
        predicted.add(matches, keep)
    graph, _ = dense_view_graph(
        size,
        np.array(edges, np.int64).reshape(-1, 2),
        facts.count(),
        np.concatenate(xy_a),
        np.concatenate(xy_b),
        np.concatenate(weight),
        options,
        **facts.columns(),
        **predicted.columns(),
    )
    return graph


class _PredictedDepths:
    """Depths of verified matches, from whoever predicts them, and the focal lengths that they go with."""

    def __init__(self) -> None:
        self._depths: tuple[list[NDArray[np.float64]], ...] = ([], [])
        self._focal_px: list[list[float]] = []

    def add(self, matches: PairMatches, keep: NDArray[np.bool_]) -> None:
        for column, depth in zip(self._depths, (matches.depth_a, matches.depth_b), strict=True):
            # What is unknown takes no memory: most collections have no depths at all.
            unknown = np.broadcast_to(np.nan, int(keep.sum()))
            column.append(unknown if depth is None else depth[keep].astype(np.float64))
        self._focal_px.append([np.nan] * 2 if matches.grids is None else [grid.focal_px for grid in matches.grids])

    def columns(self) -> dict[str, Any]:
        """Those of the view graph; none where nothing is known."""
        if not any(np.isfinite(each).any() for side in self._depths for each in side):
            return {}
        depth_a, depth_b = (np.concatenate(side) for side in self._depths)
        return {"depth_a": depth_a, "depth_b": depth_b, "depth_focal_px": np.array(self._focal_px)}


class _EdgeFacts:
    """Columns of two-view geometries; copied, since a loaded artifact is one block of memory with all of its arrays."""

    def __init__(self) -> None:
        self._count: list[int] = []
        self._kind: list[int] = []
        self._fundamental: list[NDArray[np.floating]] = []
        self._focal_px: list[float] = []

    def add(self, geometry: TwoViewGeometry) -> None:
        self._count.append(int(geometry.inliers.sum()))
        self._kind.append(KINDS.index(geometry.kind))
        self._fundamental.append(geometry.fundamental.copy())
        estimated = geometry.kind == "general" and geometry.focal_source == "pair"
        self._focal_px.append(float(geometry.focals_px[0]) if estimated else np.nan)

    def count(self) -> NDArray[np.int64]:
        return np.array(self._count, np.int64)

    def columns(self) -> dict[str, Any]:
        return {
            "kind": np.array(self._kind, np.int8),
            "fundamental": np.array(self._fundamental, np.float64).reshape(-1, 3, 3),
            "focal_px": np.array(self._focal_px, np.float64),
        }


def _colours(photos: Photos, keypoints: Keypoints, side_px: int) -> Bytes:
    from unposed.pipeline.images.pixels import photo_per_px, read_rgb  # here: few view graphs take colours from photos

    out = np.zeros((len(keypoints.xy), 3), np.uint8)
    for index in np.flatnonzero(np.diff(keypoints.start)).tolist():
        rows, image = keypoints.rows_of(index), read_rgb(photos[index], side_px)
        at = keypoints.xy[rows] / photo_per_px(photos[index], image)
        column, row = np.clip(at.astype(np.int64), 0, (image.shape[1] - 1, image.shape[0] - 1)).T
        out[rows] = image[row, column]
    return out
