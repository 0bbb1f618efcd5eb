"""Metres: by the depth that networks predict, where nothing better gives them, and what gave them before."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unposed.optim.arrays import Index, Mask
from unposed.optim.rigs import Rigs
from unposed.optim.similarity import Similarity
from unposed.pipeline.artifacts import CameraPriors
from unposed.pipeline.pose_files import read_poses
from unposed.pipeline.slots import MetricEstimator
from unposed.pipeline.stage import Resources, StageError

from ..model import Model
from .frames import IDENTITY, KEY, SCALE
from .targets import ModelAlignment, has_position

METRIC = ("gps", "poses", "points", "scale")
"""What of the targets of align gives a better scale than predicted depth does."""
IN_METRES = "is it in metres?"
"""What a warning about a scale that is kept ends with."""
MIN_POSES, MIN_POSITIONS = 2, 3
"""Photos from which a run takes the scale of a model: two positions beside any rotation, or three alone, as by GPS."""
FRAME = "unposed_frame.json"
"""Of exported folders that have a frame of their own."""


@dataclass(frozen=True)
class KnownScale:
    """What gave a model its scale."""

    source: str
    metres_per_unit: float = 1.0


def known_scale(
    model: Model,
    facts: Mapping[str, Any],
    settings: Mapping[str, Any],
    priors: CameraPriors | None,
    given_metres: float | None = None,
) -> KnownScale | None:
    """What has given a model its scale: a target of align, or what was given to the run; None: nothing.

    facts: its entry in summary.json; settings: of the run; given_metres: how many metres a unit of given poses is.
    What was given counts where it determines the scale of this very model; others stay in frames of their own.
    """
    steps = [step for step in (facts.get(KEY) or {}).get("steps", []) if step["to"] in METRIC]
    if steps:
        metres = steps[-1].get("metres_per_unit", 1.0)
        return None if metres is None else KnownScale(f"align --to {steps[-1]['to']}", metres)
    rows = np.asarray(model.sparse.photos, np.int64)
    if priors is not None and _poses_determine_scale(priors, rows):
        return None if given_metres is None else KnownScale("given poses", given_metres)
    if priors is not None and priors.rigs is not None and _have_baselines(priors.rigs, rows):
        return KnownScale("given rigs")
    if priors is not None and priors.cam_from_world is not None:
        return None  # GPS positions are no priors beside given poses
    if any(isinstance(node, Mapping) and node.get("gps_sigma_m") is not None for node in settings.values()):
        tagged = sum(has_position(model.photos[row]) for row in rows.tolist())
        return KnownScale("GPS positions") if tagged >= MIN_POSITIONS else None
    return None


def metres_of_given_poses(cameras: Any) -> float | None:
    """How many metres a unit of the poses is that the node `cameras` of a preset was given; None: nobody says."""
    file = getattr(cameras, "poses", None)
    listed = [] if file is None else read_poses(file)
    millimetres = listed[0].millimetres if listed else None
    return None if millimetres is None else millimetres / 1000.0


def from_depth(
    models: Sequence[Model],
    known: Sequence[KnownScale | None],
    estimator: MetricEstimator,
    method: str,
    resources: Resources,
) -> list[ModelAlignment | str]:
    """Scale to metres by predicted depth; a model whose scale is known keeps it, and is compared.

    Predicted depth is a prior of the scale alone. Where it is the only source, the best scale under it is its own,
    with its error. Beside a better one it weighs nothing, but a large difference says that one of them is wrong.
    """
    out: list[ModelAlignment | str] = []
    for model, source in zip(models, known, strict=True):
        try:
            found = estimator(model.sparse, model.photos, resources)
        except StageError as error:
            out.append(str(error))
            continue
        names = [model.photo_names[row] for row in found.rows.tolist()]
        scales = zip(names, found.photo_scales.tolist(), found.wrong.tolist(), strict=True)
        facts: dict[str, object] = {
            "method": method,
            "metres_per_unit": float(f"{found.metres_per_unit:.6g}"),
            "sigma": round(found.sigma, 4),
            "photos": len(names),
            "disagree": {name: float(f"{scale:.4g}") for name, scale, wrong in scales if wrong},
        }
        if source is None:
            similarity = Similarity(found.metres_per_unit, np.eye(3), np.zeros(3))
            out.append(ModelAlignment(similarity, facts, sigma=found.sigma, source=f"depth ({method})"))
        else:
            kept = {"kept": source.source, "kept_metres_per_unit": source.metres_per_unit}
            out.append(ModelAlignment(IDENTITY, {**facts, **kept}))
    return out


def scale_contradiction(facts: Mapping[str, Any]) -> str | None:
    """A line about a kept scale from which predicted depth is off by more than three standard deviations."""
    if (kept := facts.get("kept")) is None:
        return None
    unit, predicted = facts.get("kept_metres_per_unit", 1.0), facts["metres_per_unit"]
    if abs(np.log(predicted / unit)) <= 3.0 * facts["sigma"]:
        return None
    by_which = "" if unit == 1.0 else f", by which a unit is {unit:g} metres"
    return (
        f"the scale by {kept}{by_which} is kept, but predicted depth says that a unit is {predicted:.3g} metres, "
        f"give or take {100 * facts['sigma']:.0f} %: {IN_METRES}"
    )


def without_contradictions(warnings: Iterable[str], models: Iterable[int]) -> list[str]:
    """The warnings without such lines about models of these numbers, whose scale is another now or compared again."""
    about = tuple(f"model {number}: " for number in models)
    return [line for line in warnings if not (line.startswith(about) and line.endswith(IN_METRES))]


def with_scale(facts: Mapping[str, Any], found: ModelAlignment, to: str) -> dict[str, Any]:
    """The entry of a moved model with its `scale`: how many metres a unit is, how surely, and by what.

    It is the former one where the target gives no scale, and none in the unknown unit of other poses.
    """
    if to not in (*METRIC, "depth") or "kept" in found.facts:
        return dict(facts)
    rest = {key: value for key, value in facts.items() if key != SCALE}
    if found.metres_per_unit is None:
        return rest
    sigma = None if found.sigma is None else float(f"{found.sigma:.3g}")
    entry = {"metres_per_unit": found.metres_per_unit, "sigma": sigma, "from": found.source or to}
    return {**rest, SCALE: entry}


def add_metres(folder: Path, facts: Mapping[str, Any]) -> None:
    """Say in the frame of an exported folder how many metres its unit is, where that of the model is known."""
    file, entry = folder / FRAME, facts.get(SCALE)
    if entry is not None and file.is_file():
        frame = json.loads(file.read_text("utf-8"))
        growth = frame["scene_from_reconstruction"]["scale"]
        frame["metres"] = {**entry, "metres_per_unit": entry["metres_per_unit"] / growth}
        file.write_text(json.dumps(frame, indent=1) + "\n", encoding="utf-8")


def _poses_determine_scale(priors: CameraPriors, rows: Index) -> bool:
    """Whether enough of the photos have a given position."""
    if priors.cam_from_world is None:
        return False
    known: Mask = np.asarray(np.isfinite(priors.cam_from_world[rows]).all(axis=(1, 2)))
    sigma = np.zeros((len(rows), 2)) if priors.pose_sigma is None else np.asarray(priors.pose_sigma)[rows]
    turned, placed = (known[:, None] & np.isfinite(sigma)).T
    return bool(placed.sum() >= (MIN_POSES if turned.any() else MIN_POSITIONS))


def _have_baselines(rigs: Rigs, rows: Index) -> bool:
    """Whether photos taken at one moment are in places whose distance is given."""
    own = rigs.of_photos(rows)
    place = own.sensor_from_rig[own.sensor_of_photo, :, 3]
    frames = own.frame_of_photo[own.known].tolist()
    return any(len(np.unique(place[own.known & (own.frame_of_photo == frame)], axis=0)) > 1 for frame in set(frames))
