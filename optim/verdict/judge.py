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
    """Weights of the figures of evidence, on the scales of `model_features`; zero leaves a figure out.

    The smallest cut has none: where a cut is small the covariance shows it, and it is named as the reason.
    """

    bias: Weight = -6.27
    agreement: Weight = 0.37
    scattered: Weight = 2.0
    contradicted: Weight = 0.13
    determined: Weight = 0.74
    margin: Weight = 1.03
    unchanged: Weight = 0.92
    photo_observations: Weight = 1.33


@dataclass(frozen=True)
class VerdictOptions(EvidenceOptions):
    """Evidence, its weights, and from which probability on a model is delivered without a warning."""

    enabled: bool = True
    """Whether there is a verdict."""
    usual_agreement: Annotated[float, Within("[0, 1]")] = 0.95
    """Agreement of tracks below which every percent counts: folded and mirrored models lose tens of percent, others
    hardly any."""
    assumed_determined: Annotated[float, Within("[0, 1]")] = 0.8
    """What is assumed of models too large for a covariance: many photos mostly hold each other."""
    max_observations: Positive = 1000.0
    """More observations of a photo say no more."""
    warn_below: Annotated[float, Within("[0, 1]")] = 0.6
    """Probability below which a model gets a warning with its reasons: it holds back few of those that are right
    (AUC at 5 degrees above 80), and lets few of those pass that are wrong (below 30)."""
    folded_agreement: Annotated[float, Within("[0, 1]")] = 0.85
    """Agreement of tracks below which a model gets a warning however probable it is: of 37 such models with known poses
    25 were folded or joined where places look alike, at half of what is right."""
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


USUAL = ModelEvidence(0.97, 0.0, 300.0, 0.95, 0.5, 0.9, 300.0, 20)
"""Evidence about an ordinary model, against which reasons are weighed."""

MIN_LOSS = 0.25
"""What a figure must lower the logarithm of the odds by, against a usual one, to be named as a reason."""


def model_features(model: ModelEvidence, options: VerdictOptions) -> dict[str, float]:
    """The figures of evidence on the scales on which the weights act: logarithms of counts and of small shares."""
    determined = model.determined if np.isfinite(model.determined) else options.assumed_determined
    return {
        "agreement": -float(np.log(1.01 - min(model.agreement, 1.0))),
        "scattered": -max(0.0, options.usual_agreement - model.agreement),
        "contradicted": -float(np.log(model.contradicted + 0.01)),
        "determined": -float(np.log(1.02 - determined)),
        "margin": model.margin,
        "unchanged": model.unchanged,
        "photo_observations": float(np.log10(min(model.photo_observations, options.max_observations) + 1.0)),
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
        "scattered": f"{1.0 - model.agreement:.0%} of the track observations do not meet in a point",
        "contradicted": f"{model.contradicted:.0%} of the verified matches contradict it",
        "determined": "its photos hardly hold each other" + _cut(model.cut_matches),
        "margin": f"another model of the same photos costs only {np.expm1(model.margin):.0%} more",
        "unchanged": "refinement moved its photos far",
        "photo_observations": f"photos observe {model.photo_observations:.0f} points only",
    }
    return texts.get(name, "")


def _cut(matches: float) -> str:
    return f" (two parts of it share {matches:.0f} matches)" if np.isfinite(matches) else ""
