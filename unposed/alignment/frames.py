"""Models in other frames, and the similarity to the frame that they were reconstructed in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from unposed.optim.alignment.robust_similarity import composed_similarity, inverse_similarity
from unposed.optim.partition.model_merging import moved_poses
from unposed.optim.similarity import Similarity
from unposed.pipeline.artifacts import SparseModel
from unposed.pipeline.errors import InputError

KEY = "alignment"
"""Of an entry of `models` in summary.json."""
SCALE = "scale"
"""Likewise: metres per unit, their standard deviation as a share, and what gave them; none where nothing did."""
IDENTITY = Similarity(1.0, np.eye(3), np.zeros(3))


def moved_model(model: SparseModel, similarity: Similarity) -> SparseModel:
    """The model after a similarity of its world; pixels see the same, and baselines of rigs grow with it."""
    return replace(
        model,
        cam_from_world=moved_poses(np.asarray(model.cam_from_world), similarity),
        points=similarity(model.points),
        rigs=None if model.rigs is None else model.rigs.scaled(similarity.scale),
    )


def similarity_of(facts: Mapping[str, Any]) -> Similarity:
    """From the frame that a model was reconstructed in to the present one; `facts` is its entry in summary.json."""
    entry = facts.get(KEY)
    if entry is None:
        return IDENTITY
    try:
        found = Similarity(
            float(entry["scale"]), np.array(entry["rotation"], float), np.array(entry["translation"], float)
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        raise InputError("summary.json: the alignment of a model is no similarity") from None
    numbers = np.concatenate([[found.scale], found.rotation.ravel(), found.translation.ravel()])
    shaped = found.rotation.shape == (3, 3) and found.translation.shape == (3,)
    if not shaped or not np.isfinite(numbers).all() or not found.scale > 0:
        raise InputError("summary.json: the alignment of a model is no similarity")
    return found


def aligned_facts(
    facts: Mapping[str, Any], similarity: Similarity, to: str, support: Mapping[str, object]
) -> dict[str, Any]:
    """The entry of a model in summary.json after one more similarity."""
    whole = composed_similarity(similarity, similarity_of(facts))
    steps = [*(facts.get(KEY) or {}).get("steps", []), {"to": to, **support}]
    return {
        **facts,
        KEY: {
            "scale": whole.scale,
            "rotation": whole.rotation.tolist(),
            "translation": whole.translation.tolist(),
            "steps": steps,
        },
    }


def original_model(model: SparseModel, facts: Mapping[str, Any]) -> SparseModel:
    """The model in the frame that it was reconstructed in."""
    return model if facts.get(KEY) is None else moved_model(model, inverse_similarity(similarity_of(facts)))
