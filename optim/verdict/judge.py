"""From evidence to a probability: a logistic model whose weights were fitted to reconstructions with known poses.

    p = 1 / (1 + exp(-(w . x + bias)))

x are the figures of `ModelEvidence` on scales on which they act evenly. The weights are those of benchmarks/verdict.py,
which breaks sets on purpose and leaves each set out in turn to see what they are worth on others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np

from ..arrays import Array
from ..option_ranges import Positive, Within
from .evidence import EvidenceOptions, ModelEvidence, PhotoEvidence

Weight = Annotated[float, Within("(-inf, inf)")]


@dataclass(frozen=True)
class VerdictWeights:
    """Weights of the figures of evidence, on the scales of `model_features`; zero leaves a figure out."""

    bias: Weight = 0.0
    agreement: Weight = 0.0
    contradicted: Weight = 0.0
    cut_matches: Weight = 0.0
    determined: Weight = 0.0
    undetermined: Weight = 0.0
    """Of a model whose covariance was not computed."""
    margin: Weight = 0.0
    unchanged: Weight = 0.0
    photo_observations: Weight = 0.0
    focal_sides: Weight = 0.0


@dataclass(frozen=True)
class VerdictOptions(EvidenceOptions):
    """Evidence, its weights, and from which probability on a model is delivered without a warning."""

    enabled: bool = True
    """Whether there is a verdict."""
    max_cut_matches: Positive = 1000.0
    """More matches across the smallest cut say no more."""
    max_observations: Positive = 1000.0
    """More observations of a photo say no more."""
    warn_below: Annotated[float, Within("[0, 1]")] = 0.5
    """Probability below which a model gets a warning with its reasons."""
    photo_below: Annotated[float, Within("[0, 1]")] = 0.5
    """Probability below which photos of a model that is probably right are named in a warning."""
    weights: VerdictWeights = field(default_factory=VerdictWeights)
    """Weights of the evidence."""


@dataclass(frozen=True, eq=False)
class Judgement:
    """The verdict about a model."""

    probability: float
    """That the relative pose of two of its photos is right within 5 degrees."""
    photo_probability: Array
    """(p,) likewise of each photo against the others."""
    reasons: tuple[str, ...]
    """What speaks against the model, the strongest first."""


def judge(model: ModelEvidence, photos: PhotoEvidence, options: VerdictOptions | None = None) -> Judgement:
    """Judge a model by its evidence."""
    options = options or VerdictOptions()
    weights = options.weights
    features = model_features(model, options)
    usual = model_features(USUAL, options)
    score = weights.bias + sum(getattr(weights, name) * value for name, value in features.items())
    loss = {name: getattr(weights, name) * (usual[name] - value) for name, value in features.items()}
    reasons = [_reason(name, model) for name in sorted(loss, key=lambda name: -loss[name]) if loss[name] > MIN_LOSS]
    return Judgement(_probability(score), _photo_probabilities(score, photos), tuple(filter(None, reasons)))


USUAL = ModelEvidence(0.97, 0.0, 300.0, 0.95, 0.5, 0.9, 300.0, 0.9, 20)
"""Evidence about an ordinary model, against which reasons are weighed."""

MIN_LOSS = 0.5
"""What a figure must lower the logarithm of the odds by, against a usual one, to be named as a reason."""


def model_features(model: ModelEvidence, options: VerdictOptions) -> dict[str, float]:
    """The figures of evidence on the scales on which the weights act: logarithms of counts and of small shares."""
    known = np.isfinite(model.determined)
    return {
        "agreement": -float(np.log(1.0 - min(model.agreement, 1.0) + 0.01)),
        "contradicted": -float(np.log(model.contradicted + 0.01)),
        "cut_matches": float(np.log10(min(model.cut_matches, options.max_cut_matches) + 1.0)),
        "determined": float(model.determined) if known else 0.0,
        "undetermined": 0.0 if known else 1.0,
        "margin": model.margin,
        "unchanged": model.unchanged,
        "photo_observations": float(np.log10(min(model.photo_observations, options.max_observations) + 1.0)),
        "focal_sides": float(abs(np.log(max(model.focal_sides, 1e-6)))),
    }


def _photo_probabilities(score: float, photos: PhotoEvidence) -> Array:
    """The probability of the model, lowered for photos with less than the median of its photos have."""
    figures = (
        np.log10(photos.observations + 1.0),
        np.log10(photos.ties + 1.0),
        2.0 * photos.agreeing,
        np.where(np.isfinite(photos.determined), 2.0 * photos.determined, 0.0),
    )
    behind = sum(np.minimum(each - np.median(each), 0.0) for each in figures)
    return np.asarray(1.0 / (1.0 + np.exp(-(score + behind))))


def _probability(score: float) -> float:
    return float(1.0 / (1.0 + np.exp(-score)))


def _reason(name: str, model: ModelEvidence) -> str:
    texts: Mapping[str, str] = {
        "agreement": f"{1.0 - model.agreement:.0%} of the track observations do not meet in a point",
        "contradicted": f"{model.contradicted:.0%} of the verified matches contradict it",
        "cut_matches": f"two parts of it are held together by {model.cut_matches:.0f} matches",
        "determined": "the observations leave the poses open",
        "margin": f"another model of the same photos costs only {np.expm1(model.margin):.0%} more",
        "unchanged": "refinement moved its photos far",
        "photo_observations": f"photos observe {model.photo_observations:.0f} points only",
    }
    return texts.get(name, "")
