"""Align a finished reconstruction in its place, and undo it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from unposed.optim.alignment.geodesy import GeodeticOrigin
from unposed.pipeline.artifacts import CameraPriors, Photos
from unposed.pipeline.config import build
from unposed.pipeline.errors import ConfigError, InputError
from unposed.pipeline.graph import Graph, build_graph
from unposed.pipeline.registry import Registry
from unposed.pipeline.resources import machine
from unposed.pipeline.slots import MetricEstimator
from unposed.pipeline.stage import InputUnavailable, StageError
from unposed.pipeline.threads import one_thread_each
from unposed.pipeline.weights.files import ready_plugin

from ..loading import load
from ..options import Settings
from ..output import GEOREFERENCE, OVERVIEW, REPORT, keep_georeference, locked_folder
from ..reconstruction import Reconstruction
from ..refinement_report import photo_figures
from ..run_log import Silent
from ..run_report import gathered, write_report
from ..run_setup import typed_command
from ..runs import export_again, write_result
from ..settings import built_options, options_of
from ..summary import model_figures
from .control import from_points
from .frames import aligned_facts, moved_model
from .metres import (
    METRIC,
    from_depth,
    known_scale,
    metres_of_given_poses,
    scale_contradiction,
    with_scale,
    without_contradictions,
)
from .targets import (
    AlignmentOptions,
    ModelAlignment,
    from_gps,
    from_gravity,
    from_length,
    from_plane,
    from_poses,
)

TARGETS = ("gps", "poses", "points", "gravity", "plane", "scale", "depth", "original")
CAMERAS = "cameras"
"""The node of a preset that says what is known of cameras before any geometry."""


def align(
    out: str | Path,
    to: str,
    *values: str | Path | float,
    settings: Settings = (),
    photos: str | Path | None = None,
    device: str = "auto",
) -> Reconstruction:
    """Align the finished reconstruction in `out`, in its place.

    to: `gps`: metres to the east, north and up by the positions in EXIF, with georeference.json beside the models;
    `poses`, a file or folder of poses of photos of the same names; `points`, a file of ground control points, to which
    the reconstruction is adjusted as well (see `unposed.alignment.control_file`); `gravity`: z is up as in upright
    photos; `plane`: z = 0 is the largest plane of points below the cameras; `scale`, two names of photos and the metres
    between them; `depth`: metres, within some percent, by the depth that a network predicts for some photos, where
    nothing better has given them (a plugin of the slot `metric` may follow, `da3` is the default); `original`: the
    frame that it was reconstructed in.
    settings: options of `unposed.alignment.targets.AlignmentOptions`, such as `similarity.max_sigmas=2`; those of the
    plugin for `depth` begin with `depth.`.
    photos: the photo folder, if it has moved.
    device: where that plugin computes.

    Wrong positions are left out and named. The similarity is in summary.json, by model, and every export can undo it;
    the adjustment to control points stays. Exports that were part of the run are made again.
    """
    out = Path(out)
    if to not in TARGETS:
        raise ConfigError(f"align to {to!r}: expected {', '.join(TARGETS)}")
    wanted, what = {
        "poses": ((1,), "a file of poses"),
        "points": ((1,), "a file of control points"),
        "scale": ((3,), "two names of photos and metres"),
        "depth": ((0, 1), "a plugin of the slot metric, or nothing,"),
    }.get(to, ((0,), "nothing"))
    if len(values) not in wanted:
        raise ConfigError(f"align to {to}: expected {what} after it")
    said = options_of(settings)
    estimator = _estimator(str(values[0]) if values else "da3", said.pop("depth", {})) if to == "depth" else None
    options: AlignmentOptions = built_options(AlignmentOptions, said, "align")
    made = load(out, photos)
    if not made.models:
        raise InputError(f"{out}: the reconstruction has no model to align")
    with locked_folder(out) as new:
        made = load(out, photos)  # again: another run may have ended since
        if to == "original":
            aligned, origin = made.unaligned(), None
        else:
            if estimator is not None:
                found, origin = _by_depth(made, estimator, device), None
            else:
                found, origin = _found(made, to, values, options)
            aligned = _moved(made, to, found)
        if origin is not None:
            (new / GEOREFERENCE).write_text(json.dumps(georeference(origin), indent=1) + "\n", encoding="utf-8")
        elif to == "depth":  # the models that it is about keep their scale
            keep_georeference(out, new)
        preset = aligned.summary.get("settings")
        if to == "points" and preset and (out / REPORT).exists():  # figures of another adjustment
            command = typed_command(["align", str(out), "--to", to, *map(str, values)], settings)
            graph = build_graph(preset, Registry())
            sources = gathered(graph, aligned.photos, aligned.sparse, aligned.summary, None, command)
            write_report(sources, new, Silent().note)
        elif to != "points":  # they have an up axis of their own
            for name in (REPORT, OVERVIEW):
                if (out / name).exists():
                    shutil.copy2(out / name, new / name)
        write_result(aligned, new, out)
        export_again(aligned, out, Silent().note)
    return aligned


def georeference(origin: GeodeticOrigin) -> dict[str, Any]:
    """The content of georeference.json: where the models are on earth."""
    place = f"+lat_0={origin.latitude_deg!r} +lon_0={origin.longitude_deg!r} +h_0={origin.height_m!r}"
    return {
        "axes": "metres: x to the east, y to the north, z up, about the origin",
        "origin": {
            "epsg": 4979,
            "latitude_deg": origin.latitude_deg,
            "longitude_deg": origin.longitude_deg,
            "height_m": origin.height_m,
        },
        "earth_centred": {"epsg": 4978, "from_model": origin.ecef_from_enu.tolist()},
        "proj": f"+proj=topocentric +ellps=WGS84 {place}",
    }


def _found(
    made: Reconstruction, to: str, values: Sequence[str | Path | float], options: AlignmentOptions
) -> tuple[list[ModelAlignment | str], GeodeticOrigin | None]:
    models = made.models
    if to == "gps":
        return from_gps(models, options)
    if to == "poses":
        return from_poses(models, Path(str(values[0])), options), None
    if to == "points":
        return from_points(models, Path(str(values[0])), camera_priors(made), options), None
    if to == "scale":
        return from_length(models, str(values[0]), str(values[1]), _metres(values[2])), None
    return (from_gravity if to == "gravity" else from_plane)(models, options), None


def _estimator(method: str, values: Any) -> tuple[str, MetricEstimator]:
    """The plugin that predicts depth in metres, with its weights, and its name."""
    name = f"metric.{method}"
    return name, ready_plugin(build(Registry().find("metric", method), values, "depth"), "depth")


def _by_depth(made: Reconstruction, estimator: tuple[str, MetricEstimator], device: str) -> list[ModelAlignment | str]:
    settings, priors, node = made.summary.get("settings") or {}, camera_priors(made), _graph_of(made).nodes.get(CAMERAS)
    metres = None if node is None else metres_of_given_poses(node.stage)
    known = [
        known_scale(model, facts, settings, priors, metres)
        for model, facts in zip(made.models, made.summary["models"], strict=True)
    ]
    with one_thread_each():
        return from_depth(made.models, known, estimator[1], estimator[0], machine(device, None))


def _moved(made: Reconstruction, to: str, found: Sequence[ModelAlignment | str]) -> Reconstruction:
    """The reconstruction with every model moved that could be aligned; InputError with the reason if none could."""
    reasons = [each for each in found if isinstance(each, str)]
    if len(reasons) == len(found):
        raise InputError(f"align to {to}: the largest model cannot be aligned: {reasons[0]}")
    models, facts, warnings = [], [], []
    for number, (model, old, each) in enumerate(zip(made.sparse.models, made.summary["models"], found, strict=True)):
        if isinstance(each, str):
            warnings.append(f"model {number} is not aligned to {to}: {each}")
            models.append(model)
            facts.append(old)
        else:
            models.append(moved_model(each.adjusted or model, each.similarity))
            moved = aligned_facts(old, each.similarity, to, each.facts)
            facts.append(with_scale(moved, each, to))
            if line := scale_contradiction(each.facts):
                warnings.append(f"model {number}: {line}")
    sparse = replace(made.sparse, models=tuple(models))
    if any(not isinstance(each, str) and each.adjusted is not None for each in found):
        facts = [{**old, **new} for old, new in zip(facts, model_figures(made.photos, sparse), strict=True)]
    photos = dict(made.summary["photos"])
    for model in sparse.models:
        for index, figures in zip(model.photos.tolist(), photo_figures(model, None), strict=True):
            photos[made.photos[index].name] = {**photos[made.photos[index].name], **figures}
    scaled = [k for k, each in enumerate(found) if not isinstance(each, str)] if to in (*METRIC, "depth") else []
    said = list(dict.fromkeys([*without_contradictions(made.summary["warnings"], scaled), *warnings]))
    summary = {**made.summary, "models": facts, "photos": photos, "warnings": said}
    return replace(made, sparse=sparse, summary=summary)


def camera_priors(made: Reconstruction) -> CameraPriors | None:
    """What was known of the cameras before any geometry; None where the preset has no node that says it.

    Where the preset calibrates photos from their pixels for it, that is done again if it needs the photo alone.
    """
    graph = _graph_of(made)
    if CAMERAS not in graph.nodes:
        return None
    node, alone = graph.nodes[CAMERAS], {}
    for parameter, source in node.sources.items():
        calibration = graph.nodes.get(source)
        if calibration is not None and not calibration.reads and not calibration.ports.lent:
            alone[parameter] = _calibrated(calibration.stage, made.photos)
    priors: CameraPriors = node.stage(made.photos, **alone)
    return priors


def _calibrated(stage: Any, photos: Photos) -> dict[int, Any]:
    """What the pixels of each photo say, without those that cannot be read: the run left them out as well."""
    out = {}
    for i, photo in enumerate(photos.photos):
        with suppress(StageError, InputUnavailable):
            out[i] = stage(photo)
    return out


def _graph_of(made: Reconstruction) -> Graph:
    """That of the run; an empty one where the summary does not tell its settings."""
    settings = made.summary.get("settings")
    return build_graph(settings, Registry()) if settings else Graph({}, (), None)


def _metres(value: str | Path | float) -> float:
    try:
        metres = float(str(value))
    except ValueError:
        metres = 0.0
    if not 0.0 < metres < float("inf"):
        raise ConfigError(f"align to scale: expected a number of metres above 0, got {value!r}")
    return metres
