"""Metres: by the depth that networks predict, where nothing better gives them, and what gave them before."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unposed.optim.alignment.metric_scale import MetricScale
from unposed.optim.similarity import Similarity
from unposed.pipeline.artifacts import CameraPriors
from unposed.pipeline.stage import Resources, StageError

from ..model import Model
from .frames import IDENTITY, KEY, SCALE
from .targets import ModelAlignment

METRIC = ("gps", "poses", "points", "scale")
"""What of the targets of align gives a better scale than predicted depth does."""
IN_METRES = "is it in metres?"
"""What a warning about a scale that is kept ends with."""
FRAME = "unposed_frame.json"
"""Of exported folders that have a frame of their own."""


def known_scale(facts: Mapping[str, Any], settings: Mapping[str, Any], priors: CameraPriors | None) -> str | None:
    """What has given a model its scale: a target of align, or what was given to the run; None: nothing.

    facts: its entry in summary.json; settings: of the run.
    """
    steps = [step["to"] for step in (facts.get(KEY) or {}).get("steps", [])]
    if aligned := [each for each in steps if each in METRIC]:
        return f"align --to {aligned[-1]}"
    if priors is not None and priors.cam_from_world is not None:
        return "given poses"
    if priors is not None and priors.rigs is not None and _have_baselines(priors):
        return "given rigs"
    if any(isinstance(node, Mapping) and node.get("gps_sigma_m") is not None for node in settings.values()):
        return "GPS positions"
    return None


def from_depth(
    models: Sequence[Model], known: Sequence[str | None], estimator: Any, method: str, resources: Resources
) -> list[ModelAlignment | str]:
    """Scale to metres by predicted depth; a model whose scale is known keeps it, and is compared.

    Predicted depth is a prior of the scale alone. Where it is the only source, the best scale under it is its own,
    with its error. Beside a better one it weighs nothing, but a large difference says that one of them is wrong.
    """
    out: list[ModelAlignment | str] = []
    for model, source in zip(models, known, strict=True):
        try:
            found: MetricScale = estimator(model.sparse, model.photos, resources)
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
            out.append(ModelAlignment(IDENTITY, {**facts, "kept": source}))
    return out


def scale_contradiction(facts: Mapping[str, Any]) -> str | None:
    """A line about a kept scale from which predicted depth is off by more than three standard deviations."""
    kept, ratio = facts.get("kept"), facts.get("metres_per_unit", 1.0)
    if kept is None or abs(np.log(ratio)) <= 3.0 * facts["sigma"]:
        return None
    return (
        f"the scale by {kept} is kept, but predicted depth says that a unit is {ratio:.3g} metres, give or take "
        f"{100 * facts['sigma']:.0f} %: {IN_METRES}"
    )


def scale_entry(found: ModelAlignment, to: str) -> dict[str, Any] | None:
    """The entry `scale` of a model that was moved to metres: how many a unit is, how surely, and by what."""
    if to not in (*METRIC, "depth") or "kept" in found.facts:
        return None
    sigma = None if found.sigma is None else float(f"{found.sigma:.3g}")
    return {"metres_per_unit": 1.0, "sigma": sigma, "from": found.source or to}


def add_metres(folder: Path, facts: Mapping[str, Any]) -> None:
    """Say in the frame of an exported folder how many metres its unit is, where that of the model is known."""
    file, entry = folder / FRAME, facts.get(SCALE)
    if entry is not None and file.is_file():
        frame = json.loads(file.read_text("utf-8"))
        growth = frame["scene_from_reconstruction"]["scale"]
        frame["metres"] = {**entry, "metres_per_unit": entry["metres_per_unit"] / growth}
        file.write_text(json.dumps(frame, indent=1) + "\n", encoding="utf-8")


def _have_baselines(priors: CameraPriors) -> bool:
    return priors.rigs is not None and bool(np.nan_to_num(priors.rigs.sensor_from_rig[:, :, 3]).any())
