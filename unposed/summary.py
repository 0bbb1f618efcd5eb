"""OUT/summary.json: everything a run has to say of itself, as plain data."""

from __future__ import annotations

import dataclasses
import platform
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from unposed.pipeline.artifacts import Doubts, Photos, RefinementReport, SparseModel, SparseModels
from unposed.pipeline.engine import Failure, NodeReport, Run
from unposed.pipeline.graph import Graph
from unposed.pipeline.registry import Registry
from unposed.pipeline.stage import Resources
from unposed.pipeline.weights.files import weights_used

from .refinement_report import account, of_photos

LIBRARIES = ("unposed", "numpy", "scipy", "opencv-python-headless", "pycolmap", "poselib", "torch")
"""Those whose version may change a result."""


@dataclass(frozen=True)
class Clock:
    """When something began, on the wall and on the processor."""

    wall_s: float
    cpu_s: float

    @classmethod
    def now(cls) -> Clock:
        """Started."""
        return cls(time.perf_counter(), time.process_time())

    def elapsed(self) -> dict[str, float]:
        """How long ago that is."""
        end = Clock.now()
        return {"wall_s": round(end.wall_s - self.wall_s, 3), "cpu_s": round(end.cpu_s - self.cpu_s, 3)}


def origin(
    folder: Path, masks: Path | None, preset: str, graph: Graph, seed: int, resources: Resources
) -> dict[str, Any]:
    """What was asked for, and what worked on it."""
    return {
        "format": 1,
        "photos_folder": str(folder.resolve()),
        "masks_folder": None if masks is None else str(masks.resolve()),
        "preset": preset,
        "settings": settings(graph),
        "seed": seed,
        "device": resources.device,
        "workers": resources.threads,
        "versions": versions(graph),
        "weights": weights_used({name: node.stage for name, node in graph.nodes.items()}),
    }


def outcome(photos: Photos, scenes: SparseModels, run: Run, failure: str | None) -> dict[str, Any]:
    """What came of it. `failure` says why there are no scenes; the run is then as far as it came."""
    nodes = stages(run.nodes)
    doubts = [] if failure else _doubts(run)
    each = per_photo(photos, scenes, run.failures, failure or "nothing connects it with the others")
    return {
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "total": len(each),
        "registered": sum("component" in photo for photo in each.values()),
        "models": model_facts(photos, scenes),
        "failure": failure,
        "warnings": [*run.warnings, *scenes.warnings, *(note for each in doubts for note in each.warnings)],
        "doubts": doubted_pairs(photos, doubts),
        "failures": failures(run.failures),
        "photos": each,
        "stages": nodes,
        "peak_mb": max((stage["peak_mb"] for stage in nodes.values()), default=None),
    }


def settings(graph: Graph) -> dict[str, dict[str, Any]]:
    """Plugin and every option of each node, defaults included: what `--preset FILE` would need to do the same."""
    return {
        name: {"use": node.plugin, **{k: _plain(v) for k, v in dataclasses.asdict(node.stage).items()}}
        for name, node in graph.nodes.items()
    }


def versions(graph: Graph) -> dict[str, str]:
    """What computed it: Python, the libraries above, and the distributions that the plugins come from."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    used = {node.plugin for node in graph.nodes.values()}
    makers = {info.distribution for info in Registry().available() if f"{info.slot}.{info.name}" in used}
    return found | dict(maker.rsplit(" ", 1) for maker in sorted(makers))


def model_facts(photos: Photos, scenes: SparseModels) -> list[dict[str, Any]]:
    """Figures of each model, in the order of the folders sparse/0, sparse/1 ..."""
    return [
        {"model": f"sparse/{number}", **_component(scene), **({"adjustment": account(photos, told)} if told else {})}
        for number, (scene, told) in enumerate(_told(scenes))
    ]


def per_photo(
    photos: Photos, scenes: SparseModels, failures: tuple[Failure, ...], otherwise: str
) -> dict[str, dict[str, Any]]:
    """By name: the component that has the photo, or why none has: `otherwise`, where nobody gave a reason."""
    lost = {failure.photos[0]: f"{failure.node}: {failure.reason}" for failure in failures if len(failure.photos) == 1}
    said: dict[str, dict[str, Any]] = {name: {"reason": f"not read: {why}"} for name, why in photos.rejected.items()}
    for index, photo in enumerate(photos.photos):
        reason = lost.get(photo.name) or scenes.left_out.get(index, otherwise)
        said[photo.name] = {"reason": reason}
    for number, (scene, told) in enumerate(_told(scenes)):
        seen = np.diff(np.searchsorted(np.sort(scene.obs_xy), scene.xy_start))
        for row, (index, more) in enumerate(zip(scene.photos.tolist(), of_photos(scene, told), strict=True)):
            said[photos[index].name] = {"component": number, "points": int(seen[row]), **more}
    return dict(sorted(said.items()))


def stages(nodes: Mapping[str, NodeReport]) -> dict[str, dict[str, Any]]:
    """What each node did and cost."""
    return {
        name: {k: round(v, 4) if isinstance(v, float) else v for k, v in dataclasses.asdict(report).items()}
        for name, report in nodes.items()
    }


def doubted_pairs(photos: Photos, doubts: Iterable[Doubts]) -> list[dict[str, Any]]:
    """Verified pairs that were not believed, and why."""
    return [
        {"photos": [photos[a].name, photos[b].name], "reason": reason}
        for each in doubts
        for (a, b), reason in zip(each.pairs.tolist(), each.reasons, strict=True)
    ]


def failures(failed: tuple[Failure, ...]) -> list[dict[str, Any]]:
    """Items that gave nothing, by node and reason: there may be many pairs, so a few of each are named."""
    alike: dict[tuple[str, str], list[Failure]] = {}
    for failure in failed:
        alike.setdefault((failure.node, failure.reason), []).append(failure)
    return [
        {"node": node, "reason": reason, "items": len(same), "examples": [list(each.photos) for each in same[:3]]}
        for (node, reason), same in alike.items()
    ]


def _doubts(run: Run) -> list[Doubts]:
    """Of all nodes that give some."""
    there = [name for name, each in run.nodes.items() if each.plugin.startswith("doubts.") and not each.failed]
    return [run.value(name) for name in there]


def _told(scenes: SparseModels) -> Iterable[tuple[SparseModel, RefinementReport | None]]:
    """Components with their accounts, where there are any."""
    return zip(scenes.models, scenes.reports or [None] * len(scenes.models), strict=True)


def _component(scene: SparseModel) -> dict[str, Any]:
    observations, points = len(scene.obs_xy), len(scene.points)
    return {
        "photos": len(scene.photos),
        "points": points,
        "observations": observations,
        "mean_track_length": round(observations / points, 3) if points else None,
        "mean_reprojection_px": round(float(scene.error_px.mean()), 4) if points else None,
        "cameras": [
            {"model": c.model, "width": c.width, "height": c.height, "params": list(c.params), "photos": int(used)}
            for c, used in zip(
                scene.cameras, np.bincount(scene.camera_of_photo, minlength=len(scene.cameras)), strict=True
            )
        ],
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value
