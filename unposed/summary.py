"""Content of summary.json: request, outcome and cost of a run, as plain data."""

from __future__ import annotations

import dataclasses
import platform
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from unposed.pipeline.artifacts import CameraPriors, Doubts, Photos, RefinementReport, SparseModel, SparseModels
from unposed.pipeline.engine import Failure, NodeReport, Run, with_run_values
from unposed.pipeline.graph import EDGES, Graph, Node
from unposed.pipeline.images.panoramas import panorama_name
from unposed.pipeline.registry import Registry
from unposed.pipeline.stage import Resources
from unposed.pipeline.weights.files import weights_used
from unposed.pipeline.whole_panoramas import whole_panoramas
from unposed.report.given_photos import GIVEN

from .refinement_report import photo_figures, report_figures

LIBRARIES = ("unposed", "numpy", "scipy", "opencv-python-headless", "pycolmap", "poselib", "torch")
"""Libraries whose version may change a result."""

FORMAT = 2
"""Increased when a key changes its name or meaning."""


@dataclass(frozen=True)
class Clock:
    """A point in wall time and CPU time."""

    wall_s: float
    cpu_s: float

    @classmethod
    def now(cls) -> Clock:
        """Started."""
        return cls(time.perf_counter(), time.process_time())

    def elapsed(self) -> dict[str, float]:
        """Time since this point."""
        end = Clock.now()
        return {"wall_s": round(end.wall_s - self.wall_s, 3), "cpu_s": round(end.cpu_s - self.cpu_s, 3)}


def origin(
    folder: Path,
    given: Sequence[str],
    masks: Path | None,
    preset: str,
    graph: Graph,
    effort: float,
    seed: int,
    resources: Resources,
) -> dict[str, Any]:
    """What was requested, and the machine. Names of photos are below `folder`; `given` are paths as they were said."""
    return {
        "format": FORMAT,
        "photos_folder": str(folder.resolve()),
        **({} if list(given) == [str(folder)] else {GIVEN: [str(Path(path).resolve()) for path in given]}),
        "masks_folder": None if masks is None else str(masks.resolve()),
        "preset": preset,
        "settings": settings(graph, effort=effort, seed=seed),
        "effort": effort,
        "seed": seed,
        "device": resources.device,
        "workers": resources.threads,
        "versions": versions(graph),
        "weights": weights_used({name: node.stage for name, node in graph.nodes.items()}),
    }


def outcome(photos: Photos, models: SparseModels, run: Run | None, failure: str | None) -> dict[str, Any]:
    """The outcome of a run. `failure` is the reason where there are no models; without a run nothing is known of it."""
    nodes = {} if run is None else stages(run.nodes)
    failed, noted = ((), ()) if run is None else (run.failures, run.warnings)
    doubts = [] if failure or run is None else _doubts(run)
    return {
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        **registration(photos, models, failed, failure or "not connected with the other photos"),
        "failure": failure,
        "warnings": [*noted, *models.warnings, *(warning for each in doubts for warning in each.warnings)],
        "helpings": {} if failure or run is None else _helpings(run),
        "doubts": doubted_pairs(photos, doubts),
        "failures": failures(failed),
        "stages": nodes,
        "peak_mb": max((stage["peak_mb"] for stage in nodes.values()), default=None),
    }


def add_files(outcome: dict[str, Any], photos: Photos, folder: Path) -> None:
    """Say of photos that lie elsewhere, such as frames of videos, where their files are."""
    for photo in photos.photos:
        usual = folder / photo.name
        if photo.path.absolute() != (usual.parent if photo.view else usual).absolute():  # a panorama has many views
            outcome["photos"][photo.name]["file"] = str(photo.path.absolute())


def camera_notes(graph: Graph, run: Run) -> list[str]:
    """What became of the request for one camera where photos have several sizes: a camera has one."""
    nodes = [name for name, node in graph.nodes.items() if getattr(node.stage, "grouping", None) == "single"]
    notes = []
    for priors in (run.stored(name) for name in nodes):
        if not isinstance(priors, CameraPriors):
            continue
        photos = Counter[tuple[int, int]]()
        for camera in np.asarray(priors.camera_of_photo).tolist():
            photos[priors.cameras[camera].width, priors.cameras[camera].height] += 1
        if len(photos) > 1:
            sizes = ", ".join(f"{width} × {height}: {count}" for (width, height), count in photos.most_common())
            notes.append(
                f"--cameras single: photos of {len(photos)} sizes got a camera each ({sizes}), since a camera has one "
                "size; photos that were cropped or turned are of other ones"
            )
    return notes


def registration(
    photos: Photos,
    models: SparseModels,
    failed: tuple[Failure, ...] = (),
    otherwise: str = "not connected with the other photos",
) -> dict[str, Any]:
    """How many photos are registered, the models, and every photo with its model or the reason why it has none."""
    each = per_photo(photos, models, failed, otherwise)
    return {
        "total": len(each),
        "registered": sum("model" in photo for photo in each.values()),
        "models": model_figures(photos, models),
        "photos": each,
        "panoramas": panoramas(photos, models),
    }


def panoramas(photos: Photos, models: SparseModels) -> dict[str, dict[str, Any]]:
    """By name of every panorama, whose views are among the photos: its model, pose cam_from_world and points, or
    nothing."""
    if not any(photo.view for photo in photos.photos):
        return {}
    names = sorted({panorama_name(photo) for photo in photos.photos if photo.view})
    found: dict[str, dict[str, Any]] = {name: {} for name in names}
    whole, together = whole_panoramas(models.models, photos)
    for number, model in enumerate(whole):
        seen = np.diff(np.searchsorted(np.sort(model.obs_xy), model.xy_start)).tolist()
        for index, pose, points in zip(model.photos.tolist(), model.cam_from_world, seen, strict=True):
            if together[index].name in found:
                found[together[index].name] = {"model": number, "points": points, "cam_from_world": pose.tolist()}
    return found


def settings(graph: Graph, **values: Any) -> dict[str, Any]:
    """The graph as a preset that repeats the run: written to a YAML file, `--preset FILE` does the same again.

    Every node has its plugin, all its options, defaults included, and its wiring under `from`. What was `like` another
    node is written out. A seed or an effort that the preset left open is the one of the run, as in `values`.
    """
    nodes = {name: _node_settings(node) for name, node in with_run_values(graph, **values).nodes.items()}
    listed = [name for name in graph.outputs if name != graph.result]
    return {**nodes, **({"outputs": listed} if listed else {})}


def _node_settings(node: Node) -> dict[str, Any]:
    options = {key: _plain(value) for key, value in dataclasses.asdict(node.stage).items()}
    wiring = {parameter: source for parameter, source in node.sources.items() if parameter != source}
    if node.edges not in (None, EDGES):
        wiring[EDGES] = node.edges
    return {"use": node.plugin, **options, **({"from": wiring} if wiring else {})}


def versions(graph: Graph) -> dict[str, str]:
    """Versions of Python, the libraries above, and the distributions of the plugins."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    used = {node.plugin for node in graph.nodes.values()}
    makers = {info.distribution for info in Registry().available() if f"{info.slot}.{info.name}" in used}
    return found | dict(maker.rsplit(" ", 1) for maker in sorted(makers))


def model_figures(photos: Photos, models: SparseModels) -> list[dict[str, Any]]:
    """Figures of each model, in the order of the folders sparse/0, sparse/1 ..."""
    return [
        {
            "model": f"sparse/{number}",
            **_figures(model),
            **({"refinement": report_figures(photos, report)} if report else {}),
        }
        for number, (model, report) in enumerate(_with_reports(models))
    ]


def per_photo(
    photos: Photos, models: SparseModels, failed: tuple[Failure, ...], otherwise: str
) -> dict[str, dict[str, Any]]:
    """By name: the number of the photo's model, or the reason why it has none; `otherwise` where no other is known.
    `content` is the hash of its file; `predicted` says that no match holds the photo: a network alone has said where it
    was taken."""
    lost = {failure.photos[0]: f"{failure.node}: {failure.reason}" for failure in failed if len(failure.photos) == 1}
    found: dict[str, dict[str, Any]] = {name: {"reason": f"not read: {why}"} for name, why in photos.rejected.items()}
    for index, photo in enumerate(photos.photos):
        reason = lost.get(photo.name) or models.left_out.get(index, otherwise)
        found[photo.name] = {"reason": reason}
    for number, (model, report) in enumerate(_with_reports(models)):
        seen = np.diff(np.searchsorted(np.sort(model.obs_xy), model.xy_start))
        predicted = () if report is None else report.predicted
        for row, (index, more) in enumerate(zip(model.photos.tolist(), photo_figures(model, report), strict=True)):
            photo = photos[index]
            found[photo.name] = {"model": number, "points": int(seen[row]), "content": photo.content, **more}
            if index in predicted:
                found[photo.name]["predicted"] = True
    return dict(sorted(found.items()))


def stages(nodes: Mapping[str, NodeReport]) -> dict[str, dict[str, Any]]:
    """Items and cost of each node."""
    return {
        name: {k: round(v, 4) if isinstance(v, float) else v for k, v in dataclasses.asdict(report).items()}
        for name, report in nodes.items()
    }


def doubted_pairs(photos: Photos, doubts: Iterable[Doubts]) -> list[dict[str, Any]]:
    """Verified pairs that mappers left out, and why."""
    return [
        {"photos": [photos[a].name, photos[b].name], "reason": reason}
        for each in doubts
        for (a, b), reason in zip(each.pairs.tolist(), each.reasons, strict=True)
    ]


def failures(failed: tuple[Failure, ...]) -> list[dict[str, Any]]:
    """Failed items by node and reason, a few of each by name."""
    alike: dict[tuple[str, str], list[Failure]] = {}
    for failure in failed:
        alike.setdefault((failure.node, failure.reason), []).append(failure)
    return [
        {"node": node, "reason": reason, "items": len(same), "examples": [list(each.photos) for each in same[:3]]}
        for (node, reason), same in alike.items()
    ]


def _doubts(run: Run) -> list[Doubts]:
    """The results of all nodes of that slot that have one."""
    there = [name for name, each in run.nodes.items() if each.plugin.startswith("doubts.") and not each.failed]
    return [run.value(name) for name in there]


def _helpings(run: Run) -> dict[str, str]:
    """Why more was done than a first pass does, by the node that decided it; empty where that was enough."""
    graphs = [name for name, each in run.nodes.items() if each.plugin.startswith("graph.")]
    reasons = {name: run.value(name).reason for name in graphs}
    return {name: reason for name, reason in reasons.items() if reason}


def _with_reports(models: SparseModels) -> Iterable[tuple[SparseModel, RefinementReport | None]]:
    """Models with their refinement reports, where there are any."""
    return zip(models.models, models.reports or [None] * len(models.models), strict=True)


def _figures(model: SparseModel) -> dict[str, Any]:
    observations, points = len(model.obs_xy), len(model.points)
    used = np.bincount(model.camera_of_photo, minlength=len(model.cameras)).tolist()
    return {
        "photos": len(model.photos),
        "points": points,
        "observations": observations,
        "mean_track_length": round(observations / points, 3) if points else None,
        "mean_reprojection_px": round(float(model.error_px.mean()), 4) if points else None,
        "cameras": [
            {"model": c.model, "width": c.width, "height": c.height, "params": list(c.params), "photos": count}
            for c, count in zip(model.cameras, used, strict=True)
        ],
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value.absolute())  # the settings may be read from another folder
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value
