"""The panels of the page, each as plain data for its part of the template."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from unposed.optim.arrays import Array, Index
from unposed.pipeline.artifacts import SparseModel

from .charts import Bar, FieldDrawing, angle_bars, error_bars, field_drawing, length_bars
from .graph_layout import laid_out
from .ground import ground_map, upright_axes
from .pictures import coverage_picture, png_uri, similarity_matrix
from .residuals import ObservationErrors, ResidualField, observation_errors, residual_field
from .sources import ReportSources
from .track_figures import track_lengths, triangulation_angles_deg
from .words import reason_in_words, weak_bridges

FIELDS, FIELD_PHOTOS = 6, 5
"""Residual fields that are drawn: those of most observations; and photos that a camera needs for one of its own."""
EDGES = 3000
"""Most pairs in the drawing of the graph; the weakest are left out."""
BOX = 1000.0
"""Side of the drawing of the graph."""
MARGIN = 0.08 * BOX
"""Above and below the photos in it, as beside them."""


@dataclass(frozen=True)
class PhotoRow:
    """A photo in the table."""

    index: int | None
    """In the collection; None for files that are not photos."""
    name: str
    thumbnail: str
    model: int | None
    points: int | None
    error_px: float | None
    sigma_deg: float | None
    probability: float | None
    partners: int
    """Photos that it has a verified pair with."""
    reason: str


@dataclass(frozen=True, eq=False)
class ModelFigures:
    """Errors and tracks of one model."""

    errors: ObservationErrors
    fields: tuple[tuple[str, ResidualField], ...]
    """Title and field, of the cameras with most observations."""
    lengths: Index
    angles_deg: Array


@dataclass(frozen=True)
class QualityPanel:
    """Histograms of one model."""

    errors: list[Bar]
    median_px: float
    fields: list[FieldDrawing]
    lengths: list[Bar]
    mean_length: float
    angles: list[Bar]
    median_angle_deg: float


@dataclass(frozen=True)
class Edge:
    """A pair in the drawing of the graph."""

    x1: float
    y1: float
    x2: float
    y2: float
    width: float
    kind: str
    """verified, bridge or doubted."""
    title: str


@dataclass(frozen=True)
class Node:
    """A photo in the drawing of the graph."""

    index: int
    x: float
    y: float
    kind: str
    """The number of its model, or lost."""
    title: str


@dataclass(frozen=True)
class GraphPanel:
    """The view graph and the similarity matrix."""

    top: float
    height: float
    """The part of the drawing in which there are photos."""
    nodes: list[Node]
    edges: list[Edge]
    left_out: int
    matrix: str
    verified: int
    tried: int
    possible: int
    doubted: int
    bridges: int
    radius: float


@dataclass(frozen=True)
class GroundCamera:
    """A camera seen from above: the corners of a triangle that opens in its viewing direction."""

    index: int
    triangle: str
    title: str


@dataclass(frozen=True)
class GroundPanel:
    """A model from above."""

    model: int
    width: float
    height: float
    picture: str
    cameras: list[GroundCamera]


@dataclass(frozen=True)
class IntrinsicsRow:
    """A camera before and after."""

    model: int
    photos: int
    size: str
    name: str
    start_px: float | None
    source: str
    found_px: float
    ratio: float | None
    centre: str
    distortion: str


def photo_rows(sources: ReportSources, thumbnails: Mapping[int, str]) -> list[PhotoRow]:
    """All files of the folder by name."""
    index = {photo.name: i for i, photo in enumerate(sources.photos.photos)}
    pairs, _ = sources.trusted()
    partners = np.bincount(np.asarray(pairs, np.int64).ravel(), minlength=len(sources.photos))
    rows = []
    for name, facts in sources.summary["photos"].items():
        at = index.get(name)
        rows.append(
            PhotoRow(
                at,
                name,
                thumbnails.get(-1 if at is None else at, ""),
                facts.get("model"),
                facts.get("points"),
                facts.get("error_px"),
                facts.get("sigma_deg"),
                facts.get("probability"),
                0 if at is None else int(partners[at]),
                "pose by a network alone" if facts.get("predicted") else reason_in_words(facts.get("reason", "")),
            )
        )
    return rows


def model_figures(sources: ReportSources) -> ModelFigures | None:
    """Errors and tracks of the largest model."""
    if not sources.sparse.models or not len(sources.sparse.models[0].points):
        return None
    model = sources.sparse.models[0]
    errors = observation_errors(model)
    fields = _fields(model, errors)
    return ModelFigures(errors, tuple(fields[:FIELDS]), track_lengths(model), triangulation_angles_deg(model))


def _fields(model: SparseModel, errors: ObservationErrors) -> list[tuple[str, ResidualField]]:
    """Residual fields with their titles, of most observations first. Cameras of fewer photos than `FIELD_PHOTOS` are
    taken together by size: a single photo shows errors of its points and its pose as much as those of its lens."""
    used = np.bincount(model.camera_of_photo, minlength=len(model.cameras)).tolist()
    groups: dict[tuple[int, ...], list[int]] = {}
    for k, camera in enumerate(model.cameras):
        own = () if used[k] < FIELD_PHOTOS else (k,)
        groups.setdefault((camera.width, camera.height, *own), []).append(k)
    found = []
    for (width, height, *_), cameras in groups.items():
        photos = sum(used[k] for k in cameras)
        name = f"camera {cameras[0] + 1}" if len(cameras) == 1 else f"{len(cameras)} cameras of {width} × {height}"
        title = f"{name}, {photos} {'photo' if photos == 1 else 'photos'}"
        found.append((title, residual_field(errors, np.isin(errors.camera, cameras), width, height)))
    return sorted((each for each in found if each[1].observations), key=lambda each: -each[1].observations)


def quality_panel(figures: ModelFigures) -> QualityPanel:
    """Histograms of the largest model."""
    lengths = figures.errors.length_px
    lengths = lengths[np.isfinite(lengths)]
    return QualityPanel(
        error_bars(lengths),
        float(np.median(lengths)) if len(lengths) else 0.0,
        [field_drawing(title, field) for title, field in figures.fields],
        length_bars(figures.lengths),
        float(figures.lengths.mean()),
        angle_bars(figures.angles_deg),
        float(np.median(figures.angles_deg)),
    )


def graph_panel(sources: ReportSources) -> GraphPanel:
    """Lay out the view graph, and paint the similarity matrix."""
    photos = len(sources.photos)
    pairs, matches = (np.asarray(each, np.int64) for each in sources.verified())
    trusted, trusted_matches = (np.asarray(each, np.int64) for each in sources.trusted())
    doubted, names = sources.doubted(), [photo.name for photo in sources.photos.photos]
    bridges = {(a, b): size for a, b, size in weak_bridges(sources)}
    place = BOX * laid_out(photos, trusted, trusted_matches)
    most = max(int(matches.max(initial=1)), 1)
    strongest = np.sort(np.argsort(-matches, kind="stable")[:EDGES])
    edges = []
    for (a, b), count in zip(pairs[strongest].tolist(), matches[strongest].tolist(), strict=True):
        kind = "doubted" if (a, b) in doubted else "bridge" if (a, b) in bridges else "verified"
        title = f"{names[a]} – {names[b]}: {count} verified matches"
        title += f"; {doubted[a, b]}" if kind == "doubted" else ""
        title += "; the only link between two parts" if kind == "bridge" else ""
        (x1, y1), (x2, y2) = place[a].round(1).tolist(), place[b].round(1).tolist()
        edges.append(Edge(x1, y1, x2, y2, round(1.0 + 5.0 * (count / most) ** 0.5, 2), kind, title))
    model_of = {i: k for k, model in enumerate(sources.sparse.models) for i in model.photos.tolist()}
    nodes = [
        Node(i, x, y, str(model_of[i] % 4) if i in model_of else "lost", names[i])
        for i, (x, y) in enumerate(place.round(1).tolist())
    ]
    ranking = sources.ranking
    matrix = similarity_matrix(
        photos,
        np.zeros((0, 2), np.int64) if ranking is None else np.asarray(ranking.pairs, np.int64),
        np.zeros(0) if ranking is None else np.asarray(ranking.similarity, np.float64),
        pairs,
        matches.astype(np.float64),
        np.array([(a, b) in doubted for a, b in pairs.tolist()], bool),
    )
    top, bottom = float(place[:, 1].min(initial=BOX / 2)) - MARGIN, float(place[:, 1].max(initial=BOX / 2)) + MARGIN
    return GraphPanel(
        top,
        bottom - top,
        nodes,
        sorted(edges, key=lambda edge: ("verified", "doubted", "bridge").index(edge.kind)),
        len(pairs) - len(strongest),
        png_uri(matrix),
        len(pairs),
        len(sources.tried),
        photos * (photos - 1) // 2,
        len(doubted),
        len(bridges),
        round(float(np.clip(90.0 / max(photos, 1) ** 0.5, 4.0, 16.0)), 1),
    )


def ground_panels(sources: ReportSources, most: int = 3) -> Iterator[GroundPanel]:
    """The largest models from above, in a box whose longer side is 100."""
    for number, model in enumerate(sources.sparse.models[:most]):
        seen = ground_map(model, upright_axes(model.cam_from_world))
        extent = seen.high - seen.low
        scale = 100.0 / float(extent.max())
        size = float(np.clip(14.0 / max(len(model.photos), 1) ** 0.5, 0.9, 2.6))
        cameras = []
        for index, at, look in zip(model.photos.tolist(), seen.cameras, seen.looks, strict=True):
            x, y = (at[0] - seen.low[0]) * scale, (seen.high[1] - at[1]) * scale
            ahead = size * np.array([look[0], -look[1]]) * 1.6
            aside = 0.45 * np.array([-ahead[1], ahead[0]])
            if float(np.linalg.norm(ahead)) < 0.5 * size:  # it looks down: a small square
                ahead, aside = np.array([0.0, -size]), np.array([0.5 * size, 0.0])
            corners = [(x, y), (x + ahead[0] + aside[0], y + ahead[1] + aside[1])]
            corners.append((x + ahead[0] - aside[0], y + ahead[1] - aside[1]))
            triangle = " ".join(f"{u:.2f},{v:.2f}" for u, v in corners)
            cameras.append(GroundCamera(index, triangle, sources.photos[index].name))
        width, height = (extent * scale).tolist()
        yield GroundPanel(number, width, height, png_uri(coverage_picture(seen.photos)), cameras)


def intrinsics_rows(sources: ReportSources) -> list[IntrinsicsRow]:
    """Every camera of every model: what was known before, and what was found."""
    rows = []
    words = {"given": "given", "exif": "EXIF", "guess": "a guess: nothing was known"}
    for number, model in enumerate(sources.sparse.models):
        for k, camera in enumerate(model.cameras):
            own = model.photos[np.asarray(model.camera_of_photo) == k].tolist()
            start, source = None, "unknown"
            if sources.priors is not None and own:
                priors = sources.priors
                groups = sorted({int(priors.camera_of_photo[photo]) for photo in own})
                start = float(np.median([priors.cameras[group].params[0] for group in groups]))
                source = ", ".join(dict.fromkeys(words[priors.focal_source[group]] for group in groups))
            two = camera.model in ("PINHOLE", "OPENCV", "OPENCV_FISHEYE")
            centre = np.array(camera.params[1 + two : 3 + two]) - (camera.width / 2.0, camera.height / 2.0)
            rest = camera.params[3 + two :]
            rows.append(
                IntrinsicsRow(
                    number,
                    len(own),
                    f"{camera.width} × {camera.height}",
                    camera.model,
                    start,
                    source,
                    camera.params[0],
                    None if start is None else camera.params[0] / start,
                    ", ".join(f"{value:+.1f}" for value in centre.round(1) + 0.0),  # which makes -0.0 +0.0
                    ", ".join(f"{value:+.4f}" for value in rest) or "none",
                )
            )
    return rows


def settings_text(summary: Mapping[str, Any]) -> str:
    """The settings as they stand in summary.json."""
    return json.dumps(summary["settings"], indent=1, ensure_ascii=False, default=str)
