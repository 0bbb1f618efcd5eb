"""Which stage loses what, set by set, with the true cameras as the only help.

    python benchmarks/diagnose.py DATA_DIR --caches DIR [--sets A,B] [--preset classic] [--json FILE]

Every set is reconstructed, or read from its own cache in DIR, and then mapped again from its view graph with true
focal lengths, from true poses, and without the pairs that the true cameras show to be wrong. Read the row of a set from
left to right: what is lost between two columns is lost there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from truth import Truth, errors_against, read_truth, right_matches, true_relative_poses

from unposed.optim.arrays import Array, Mask
from unposed.optim.bundle.intrinsics import FIXED_SIGMA, Intrinsics
from unposed.optim.bundle.problem import Bundle
from unposed.optim.mapping.global_mapper import map_component
from unposed.optim.mapping.refinement import RefineOptions, refine
from unposed.optim.mapping.relative_poses import estimate_relative_poses
from unposed.optim.rotations import rotation_angle_deg
from unposed.optim.view_graph import ViewGraph
from unposed.options import DEFAULTS
from unposed.photo_sources import collect
from unposed.pipeline.artifacts import CameraPriors, Doubts, InitialModels, Photos, SparseModels
from unposed.pipeline.progress import Quiet
from unposed.pipeline.store.store import Store
from unposed.plugins.shared.models import intrinsics_of_priors, without_doubts
from unposed.run_setup import checked_graph, workplace

WRONG_SHARE = 0.5
"""A pair is wrong if a smaller share of its matches agrees with the true cameras."""

RIGHT_ERRORS = 6.0
"""Key point errors within which a match agrees: coarse truths are off by a few pixels."""

NODES = ("cameras", "view_graph", "doubts", "coarse", "fine")


@dataclass(frozen=True, eq=False)
class Mapped:
    """What a run of a preset made of one set."""

    photos: Photos
    cameras: CameraPriors
    view_graph: ViewGraph
    doubts: Doubts | None
    coarse: InitialModels
    fine: SparseModels


def main() -> None:
    """Print the table row by row."""
    args = _arguments()
    rows: list[dict[str, Any]] = []
    print(_line(HEADINGS) + "\n" + _line(["---"] * len(HEADINGS)))
    for folder in sorted(args.data.iterdir()):
        truth_file = next((folder / n for n in ("gt.json", "ref_colmap.json") if (folder / n).is_file()), None)
        if truth_file is None or (args.sets and folder.name not in args.sets):
            continue
        mapped = map_set(folder / "images", args.caches / folder.name, args.preset, args.set)
        row = {"set": folder.name, **diagnosis(mapped, read_truth(truth_file, [p.name for p in mapped.photos.photos]))}
        rows.append(row)
        print(_line([_cell(row[key]) for key in COLUMNS]), flush=True)
        if args.json:
            args.json.write_text(json.dumps(rows, indent=1))


def map_set(photos: Path, cache: Path, preset: str = "classic", settings: tuple[str, ...] = ()) -> Mapped:
    """Run a preset, or read what is stored of it."""
    with workplace(DEFAULTS.merged({"cache": cache, "progress": Quiet()})) as (place, shown):
        graph = checked_graph(preset, settings)
        collection, _ = collect(photos, place.cache)
        there = [node for node in NODES if node in graph.nodes]
        with Store(place.cache) as store:
            run = place.run(replace(graph, outputs=tuple(there)), collection, store, shown)
            values = {node: run.value(node) for node in there}
    return Mapped(collection, **{"doubts": None, **values})


def diagnosis(mapped: Mapped, truth: Truth) -> dict[str, Any]:
    """The figures of one set, by the names in COLUMNS."""
    graph = without_doubts(mapped.view_graph, mapped.doubts)
    known = truth.known
    judged = mapped.view_graph.among(known)
    share = right_share(judged, truth)
    doubted = len(judged) - len(without_doubts(judged, mapped.doubts))
    wrong_kept = right_share(graph.among(known), truth) < WRONG_SHARE
    intrinsics = intrinsics_of_priors(mapped.cameras, graph.keypoint_error_px)
    held = held_intrinsics(intrinsics, truth, mapped)
    relative = relative_rotation_errors_deg(graph.among(known), held)(truth)
    true_focal = truth.intrinsics[known, :2].mean(axis=1)
    poses = {stage: _poses(models, len(known)) for stage, models in (("coarse", mapped.coarse), ("fine", mapped.fine))}
    from_true_focal = _global_model(graph, held)
    from_truth = _refined(mapped, graph, intrinsics, held, truth.cam_from_world)
    clean = graph.select(~_wrong(graph, truth))
    return {
        "registered": int(np.isfinite(poses["fine"][known, 0, 0]).sum()),
        "photos": int(known.sum()),
        "models": len(mapped.fine.models),
        "pairs": len(judged),
        "wrong": int((share < WRONG_SHARE).sum()),
        "doubted": doubted,
        "wrong_kept": int(wrong_kept.sum()),
        "matches": float(np.median(judged.match_count)) if len(judged) else 0.0,
        "relative_deg": float(np.median(relative)) if len(relative) else None,
        "focal_ratio": _ratio(mapped.fine, truth),
        "true_focal_sides": float(np.median(true_focal / truth.size[known].max(axis=1))),
        "principal": _principal(mapped.fine, truth),
        "cameras": sum(len(model.cameras) for model in mapped.fine.models),
        "true_cameras": len(np.unique(np.round(truth.intrinsics[known], 3), axis=0)),
        "auc_coarse": _auc(truth, poses["coarse"]),
        "auc_fine": _auc(truth, poses["fine"]),
        "auc_true_focal": _auc(truth, from_true_focal),
        "auc_true_focal_fine": _auc(truth, _refined(mapped, graph, intrinsics, held, from_true_focal)),
        "auc_clean": _auc(truth, _refined(mapped, clean, intrinsics, held, _global_model(clean, held))),
        "auc_from_truth": _auc(truth, from_truth),
        "warnings": list(mapped.fine.warnings),
    }


def right_share(graph: ViewGraph, truth: Truth) -> Array:
    """(e,) share of the matches of each edge that agree with the true cameras."""
    right = right_matches(graph, truth, RIGHT_ERRORS * graph.keypoint_error_px)
    return np.bincount(graph.edge_of_match(), right, minlength=len(graph)) / np.maximum(graph.match_count, 1)


def _wrong(graph: ViewGraph, truth: Truth) -> Mask:
    judged = truth.known[graph.pairs].all(axis=1)
    return judged & (right_share(graph, truth) < WRONG_SHARE)


def held_intrinsics(intrinsics: Intrinsics, truth: Truth, mapped: Mapped) -> Intrinsics:
    """A camera per photo with its true intrinsics, which are constant; a typical one where there is no truth."""
    rows = np.where(truth.known[:, None], truth.intrinsics, np.nanmedian(truth.intrinsics, axis=0))
    single = intrinsics.split()
    prior = replace(single.prior, mean=rows, sigma=np.full_like(rows, FIXED_SIGMA))
    return replace(single, models=("OPENCV",) * len(rows), values=rows, prior=prior)


def relative_rotation_errors_deg(graph: ViewGraph, held: Intrinsics) -> Any:
    """Errors of the relative rotations of all edges under true intrinsics, as a function of the truth."""
    found = estimate_relative_poses(
        graph, held.models, held.values, held.camera_of_photo, max_error_px=2.0 * graph.keypoint_error_px
    )

    def errors(truth: Truth) -> Array:
        rotation, _ = true_relative_poses(truth, graph.pairs[found.edge])
        return np.asarray(rotation_angle_deg(found.b_from_a[:, :, :3] @ rotation.transpose(0, 2, 1)))

    return errors


def _global_model(graph: ViewGraph, intrinsics: Intrinsics) -> Array:
    """(photos, 3, 4) poses of global mapping of the largest component."""
    member = graph.largest_component()
    part = graph.among(member)
    model = map_component(part, None, intrinsics, keypoint_error_px=graph.keypoint_error_px)
    return np.full((graph.photo_count, 3, 4), np.nan) if model is None else model.bundle.cam_from_world


def _refined(mapped: Mapped, graph: ViewGraph, free: Intrinsics, held: Intrinsics, poses: Array) -> Array:
    """(photos, 3, 4) poses after the fine stage, from these poses and the true intrinsics, which are free again."""
    values = free.values.copy()
    for camera in range(len(values)):
        own = free.camera_of_photo == camera
        if own.any():
            values[camera] = np.median(held.values[own], axis=0)
            values[camera, 1] = values[camera, 0]  # our default cameras have square pixels and one coefficient
            values[camera, 5:] = 0.0
    start = free.with_focals(values[:, 0]).with_values(values)
    none = np.zeros(0, np.int64)
    bundle = Bundle(
        start.models, start.values, start.camera_of_photo, poses, np.zeros((0, 3)), np.zeros((0, 2)), none, none, none
    )
    absent = np.flatnonzero(~np.isfinite(poses[:, 0, 0]))
    options = RefineOptions(max_covariance_photos=0)
    result = refine(graph, bundle, start.prior, absent, options, keypoint_error_px=graph.keypoint_error_px)
    return result.bundle.cam_from_world


def _poses(models: InitialModels, photos: int) -> Array:
    out = np.full((photos, 3, 4), np.nan)
    if models.models:
        out[models.models[0].photos] = models.models[0].cam_from_world
    return out


def _auc(truth: Truth, poses: Array) -> list[float]:
    errors = errors_against(truth, poses, camera_rotation=True)
    return [round(100 * (errors.auc[t] or 0.0), 1) for t in (1, 5)]


def _ratio(models: InitialModels, truth: Truth) -> float | None:
    """Median over the photos of our focal length over the true one."""
    ratios = [
        model.cameras[camera].params[0] / truth.intrinsics[photo, 0]
        for model in models.models
        for photo, camera in zip(model.photos.tolist(), model.camera_of_photo.tolist(), strict=True)
        if truth.known[photo]
    ]
    return float(np.median(ratios)) if ratios else None


def _principal(models: InitialModels, truth: Truth) -> float | None:
    """Largest distance of a principal point from the true one, in percent of the longer side."""
    away = [0.0]
    for model in models.models:
        for photo, camera in zip(model.photos.tolist(), model.camera_of_photo.tolist(), strict=True):
            name, params = model.cameras[camera].model, model.cameras[camera].params
            own = np.array(params[1:3] if name.startswith("SIMPLE") or name == "RADIAL" else params[2:4])
            if truth.known[photo]:
                away.append(float(np.abs(own - truth.intrinsics[photo, 2:4]).max() / truth.size[photo].max()))
    return 100 * max(away)


COLUMNS: Mapping[str, str] = {
    "set": "set",
    "registered": "photos",
    "photos": "of",
    "models": "models",
    "pairs": "pairs",
    "wrong": "wrong",
    "doubted": "doubted",
    "wrong_kept": "wrong, kept",
    "matches": "matches a pair",
    "relative_deg": "relative rotations, deg",
    "true_focal_sides": "true f, sides",
    "focal_ratio": "f / true f",
    "principal": "principal point, %",
    "cameras": "cameras",
    "true_cameras": "true",
    "auc_coarse": "coarse",
    "auc_fine": "fine",
    "auc_true_focal": "coarse, true K",
    "auc_true_focal_fine": "then fine",
    "auc_clean": "and no wrong pair",
    "auc_from_truth": "fine from truth",
}
HEADINGS = list(COLUMNS.values())


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return " / ".join(f"{each:.0f}" for each in value)
    return "-" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA_DIR")
    parser.add_argument("--caches", type=Path, required=True, help="folder with a cache per set; made where missing")
    parser.add_argument("--sets", type=lambda text: text.split(","))
    parser.add_argument("--preset", default="classic")
    parser.add_argument("--set", action="append", default=[], metavar="NODE.KEY=VALUE")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
