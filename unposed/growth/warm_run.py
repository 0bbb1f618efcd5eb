"""A run of a preset that goes on from known pairs and poses instead of finding them: what is stored of the old photos
is taken from the store, and the fine stage adjusts all from where it was."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unposed.optim.arrays import Array
from unposed.optim.poses import camera_centres
from unposed.optim.rotations import rotation_angle_deg
from unposed.optim.similarity import Similarity
from unposed.pipeline.artifacts import Photos, SparseModels
from unposed.pipeline.engine import Run
from unposed.pipeline.errors import ConfigError, InputError
from unposed.pipeline.graph import Graph, build_graph
from unposed.pipeline.progress import Progress
from unposed.pipeline.registry import Registry
from unposed.pipeline.store.store import Store

from ..alignment.frames import moved_model
from ..reconstruction import Reconstruction
from ..run_setup import Workplace
from .known_models import (
    KnownKeypoints,
    KnownModel,
    known_keypoints_of,
    known_model,
    models_as_json,
    similarity_between,
    with_group_cameras,
    write_keypoints,
)

PAIRS, MODELS, KEYPOINTS, DOUBTS = "pairs.txt", "models.json", "keypoints.npz", "doubts.json"
COARSE, FINE, CAMERAS, DOUBTED = "coarse", "fine", "cameras", "doubts"


@dataclass(frozen=True, eq=False)
class KeptFindings:
    """What a warm run of few new photos takes from the old models as it is."""

    keypoints: Mapping[str, KnownKeypoints]
    """By name of the photo: where the models have its observed key points."""
    points: Array | None
    """(n, 3) of the models; None: they are found anew, and old photos are not held."""
    doubts: str
    """The file that `doubts.known` reads."""
    max_tension: float
    """Up to which old photos are held, see `fine.warm`."""


@dataclass(frozen=True, eq=False)
class WarmStart:
    """What is known before a run."""

    photos: Photos
    pairs: frozenset[tuple[str, str]]
    """Names of photos whose pairs are matched."""
    models: tuple[KnownModel, ...]
    before: tuple[KnownModel, ...]
    """The models as they were, which give the new ones their frames."""
    kept: KeptFindings | None = None
    """What stays as it was; None: all is looked at again, as where much is new."""


@dataclass(frozen=True, eq=False)
class WarmResult:
    """The models of a warm run in the frames of the old ones."""

    sparse: SparseModels
    graph: Graph
    """Of the nodes that were run."""
    run: Run
    old_model: tuple[int | None, ...]
    """For each model: the old model that it goes on from."""
    moved: dict[str, Any]
    """How far the photos that were there before have moved: degrees and shares of the extent, medians and largest."""


def warm_run(
    start: WarmStart, settings: Mapping[str, Any], place: Workplace, store: Store, progress: Progress
) -> WarmResult:
    """Compute the models of all photos from a warm start, by the nodes of a preset from features to the fine stage."""
    with tempfile.TemporaryDirectory(prefix="unposed-") as folder:
        pairs, models, keypoints, doubts = (Path(folder) / name for name in (PAIRS, MODELS, KEYPOINTS, DOUBTS))
        registry = Registry()
        graph = build_graph(warm_settings(settings, None, registry), registry)
        priors = graph.nodes[CAMERAS].stage(start.photos)
        old = [name for model in start.before for name in model]
        known = with_group_cameras(start.models, old, priors, start.photos)
        pairs.write_text(_pair_lines(start.pairs), encoding="utf-8")
        models.write_text(models_as_json(known), encoding="utf-8")
        if start.kept is not None:
            write_keypoints(start.kept.keypoints, start.kept.points, keypoints)
            doubts.write_text(start.kept.doubts, encoding="utf-8")
        kept = (None, None, None) if start.kept is None else (keypoints, doubts, start.kept.max_tension)
        files = WarmFiles(pairs, models, *kept)
        graph = build_graph(warm_settings(settings, files, registry), registry)
        done = place.run(graph, start.photos, store, progress)
        sparse = done.sparse or SparseModels((), {})
    return in_old_frames(start, sparse, graph, done)


@dataclass(frozen=True)
class WarmFiles:
    """Files that a warm run reads."""

    pairs: Path
    models: Path
    keypoints: Path | None
    doubts: Path | None
    """Of the old models, if they stay as these have them."""
    max_tension: float | None
    """Up to which old photos are held then."""


def warm_settings(settings: Mapping[str, Any], files: WarmFiles | None, registry: Registry) -> dict[str, Any]:
    """A preset with its pairs and initial models from files. ConfigError where it has no node that refines models.

    Without files it serves to read the options of the other nodes.
    """
    out = dict(settings)
    if not all(isinstance(out.get(name), Mapping) for name in (COARSE, FINE, CAMERAS)):
        raise ConfigError(
            "the preset of the reconstruction has no nodes `cameras`, `coarse` and `fine`: it cannot go on from models"
        )
    if files is None:
        return out
    for name, node in settings.items():
        use = node.get("use", "") if isinstance(node, Mapping) else ""
        if use.startswith("graph.") and use != "graph.closer":  # a closer look is decided by what pairs give
            out[name] = {"use": "graph.ranked", "from": {"retrieval": "known-pairs"}}
    out["known-pairs"] = {"use": "retrieval.pairs-file", "file": str(files.pairs)}
    out[COARSE] = {"use": "coarse.given", "models": str(files.models), "predicted": _predicts(out[COARSE])}
    if files.keypoints is not None and out[FINE].get("use") in ("bundle", "fine.bundle"):
        out[FINE] = {**out[FINE], "use": "fine.warm", "keypoints": str(files.keypoints)}
        out[FINE]["max_tension"] = files.max_tension
    if files.doubts is not None and out.get(DOUBTED, {}).get("use") in ("doppelgangers", "doubts.doppelgangers"):
        out[DOUBTED] = {**out[DOUBTED], "use": "doubts.known", "known": str(files.doubts)}
    return _reachable(out, registry)


def _predicts(node: Mapping[str, Any]) -> bool:
    """Whether the poses of a coarse mapper are a network's."""
    return node.get("use") in ("groups", "coarse.groups")


def _reachable(settings: Mapping[str, Any], registry: Registry) -> dict[str, Any]:
    """The nodes that the fine stage needs; the graph has none that nobody reads."""
    kept, waiting = set[str](), [FINE]
    graph = {name: node for name, node in settings.items() if name != "outputs"}
    while waiting:
        name = waiting.pop()
        if name in kept:
            continue
        kept.add(name)
        node = graph[name]
        wired = node.get("from", {})
        readers = _parameters(name, node, registry)
        waiting += [wired.get(each, each) for each in readers if wired.get(each, each) in graph]
    return {name: node for name, node in graph.items() if name in kept}


def _parameters(name: str, node: Mapping[str, Any], registry: Registry) -> list[str]:
    from unposed.pipeline.ports import read_ports
    from unposed.pipeline.stage import Grain

    slot, _, plugin = str(node["use"]).partition(".")
    ports = read_ports(registry.find(slot if plugin else name, plugin or slot))
    over_edges = ports.grain in (Grain.PAIR, Grain.GROUP)
    return [*(port.name for port in ports.inputs), *(["graph"] if over_edges else [])]


def _pair_lines(pairs: Iterable[tuple[str, str]]) -> str:
    """Tabs, since names may have spaces; a name that begins as a remark does goes second."""
    lines = [f"{b}\t{a}" if a.startswith("#") else f"{a}\t{b}" for a, b in sorted(pairs)]
    return "\n".join(lines) + "\n"


def in_old_frames(start: WarmStart, sparse: SparseModels, graph: Graph, done: Run) -> WarmResult:
    """The models of a run, moved to where those before are that share most photos with them."""
    moved, turns, shifts = [], [], []
    old_of: list[int | None] = []
    for model in sparse.models:
        new = known_model(model, start.photos)
        shares = [len(new.keys() & old.keys()) for old in start.before]
        number = int(np.argmax(shares)) if shares and max(shares) >= 2 else None
        fitted, common = (None, []) if number is None else similarity_between(new, start.before[number])
        if number is None or fitted is None:  # it stays in the frame of the run
            moved.append(model)
            old_of.append(None)
            continue
        old_of.append(number)
        moved.append(moved_model(model, fitted.similarity))
        turned, shifted = _moves(start.before[number], new, fitted.similarity, common)
        turns.append(turned)
        shifts.append(shifted)
    result = SparseModels(tuple(moved), sparse.left_out, sparse.warnings, reports=sparse.reports)
    return WarmResult(result, graph, done, tuple(old_of), _move_figures(turns, shifts))


def _moves(
    before: KnownModel, after: KnownModel, similarity: Similarity, common: Sequence[str]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    old = np.array([before[name].cam_from_world for name in common])
    new = np.array([after[name].cam_from_world for name in common])
    centre, old_centre = (camera_centres(pose) for pose in (new, old))
    turned = rotation_angle_deg(new[:, :, :3] @ similarity.rotation.T @ old[:, :, :3].transpose(0, 2, 1))
    extent = max(float(np.linalg.norm(np.ptp(old_centre, axis=0))), 1e-300)
    return turned, np.linalg.norm(similarity(centre) - old_centre, axis=1) / extent


def _move_figures(turns: Sequence[Any], shifts: Sequence[Any]) -> dict[str, Any]:
    if not turns:
        return {}
    turn, shift = np.concatenate(turns), np.concatenate(shifts)
    return {
        "photos": len(turn),
        "median_deg": float(f"{np.median(turn):.4g}"),
        "largest_deg": float(f"{turn.max():.4g}"),
        "median_share_of_extent": float(f"{np.median(shift):.4g}"),
        "largest_share_of_extent": float(f"{shift.max():.4g}"),
    }


def name_pair(a: str, b: str) -> tuple[str, str]:
    """The pair of two photos, by their names in order."""
    return (a, b) if a < b else (b, a)


def known_pairs(summary: Mapping[str, Any]) -> set[tuple[str, str]]:
    """The verified pairs of a finished reconstruction, doubtful ones included."""
    found: set[tuple[str, str]] = set()
    for model in summary["models"]:
        found.update((str(row[0]), str(row[1])) for row in model.get("refinement", {}).get("pairs", []))
    found.update((str(each["photos"][0]), str(each["photos"][1])) for each in summary.get("doubts", []))
    if not found:
        raise InputError("the reconstruction does not list its pairs: its preset cannot go on from models")
    return found


def kept_findings(made: Reconstruction, names: Collection[str], max_tension: float) -> KeptFindings:
    """Of these photos of a finished reconstruction. Where some are taken out, what they had moved is to move back: the
    points are not among the findings then."""
    keypoints = known_keypoints_of(made.sparse.models, made.photos)
    said = [(*each["photos"], each["reason"]) for each in made.summary.get("doubts", [])]
    doubts = {
        "photos": sorted(names),
        "doubts": [each for each in said if each[0] in names and each[1] in names],
        "rival_margin": min(_rival_margins(made.summary), default=None),
    }
    kept = {name: own for name, own in keypoints.items() if name in names}
    points = np.concatenate([np.zeros((0, 3)), *(model.points for model in made.sparse.models)])
    return KeptFindings(kept, points if len(kept) == len(keypoints) else None, json.dumps(doubts), max_tension)


def _rival_margins(summary: Mapping[str, Any]) -> Iterator[float]:
    """Of the verdicts about the models, where there was a rival."""
    for model in summary["models"]:
        verdict = model.get("refinement", {}).get("verdict") or {}
        margin = verdict.get("evidence", {}).get("rival_margin")
        if margin is not None:
            yield float(margin)
