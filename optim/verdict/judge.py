"""From evidence to a probability: a logistic model whose weights were fitted to reconstructions with known poses.

    p = 1 / (1 + exp(-(w . x + bias)))

x are the figures of `ModelEvidence` on scales on which they act evenly. The weights are those of benchmarks/verdict.py,
which breaks sets on purpose and leaves each set out in turn to see what they are worth on others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np

from ..arrays import Array
from ..option_ranges import Share, Within
from .evidence import EvidenceOptions, ModelEvidence, PhotoEvidence

Weight = Annotated[float, Within("(-inf, inf)")]


@dataclass(frozen=True)
class VerdictWeights:
    """Weights of the figures of evidence, on the scales of `model_features`; zero leaves a figure out.

    Other figures are named as reasons, or decide whether a model may be folded or is tied with another one: with
    weights of their own they said nothing that these do not say, about sets that they were not fitted to.
    `rival_margin` is only reported.
    """

    bias: Weight = -5.44
    disagreeing: Weight = 0.38
    determined: Weight = 0.63
    unchanged: Weight = 1.53
    neighbours: Weight = 3.01


@dataclass(frozen=True)
class VerdictOptions(EvidenceOptions):
    """Evidence, its weights, and from which probability on a model is delivered without a warning."""

    enabled: bool = True
    """Whether there is a verdict."""
    assumed_determined: Share = 0.8
    """What is assumed of models too large for a covariance: many photos mostly hold each other."""
    assumed_neighbours: Share = 0.9
    """What is assumed where no photo has a neighbour: usual models have 0.9 and more."""
    warn_below: Share = 0.65
    """Probability below which a model gets a warning with its reasons: it holds back few of those that are right
    (AUC at 5 degrees above 80), and lets few of those pass that are wrong (below 30)."""
    folded_agreement: Share = 0.8
    """Agreement of tracks below which a model may be folded where places look alike,"""
    folded_contradicted: Share = 0.02
    """if it contradicts at least this share of the matches as well: wrong matches alone, as on wallpaper, scatter the
    tracks and leave all pairs right, and one wrong place takes whole pairs with it;"""
    folded_neighbours: Share = 0.92
    """and if neighbours match less than this: where they match, what scatters the tracks is somewhere else."""
    tied_margin: Annotated[float, Within("[0, inf)")] = 0.1
    """Logarithm of the cost of the next model of the same photos over that of the model below which both explain the
    photos equally well: the cost of a right and of a wrong model may be that close."""
    folded_probability: Annotated[float, Within("(0, 1)")] = 0.5
    """Probability, at most, of models that may be folded or are tied with another one: one of two is right."""
    photo_below: Share = 0.5
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
    usual, features = model_features(USUAL, options), model_features(model, options)
    loss = {name: getattr(options.weights, name) * (usual[name] - value) for name, value in features.items()}
    weighed = [_reason(name, model) for name in sorted(loss, key=lambda name: -loss[name]) if loss[name] > MIN_LOSS]
    of_two = _one_of_two(model, options)
    score = model_score(model, options)
    reasons = (*of_two, *weighed, *_aside(model, options))
    return Judgement(_probability(score), _photo_probabilities(score, photos), reasons)


def model_score(model: ModelEvidence, options: VerdictOptions) -> float:
    """Logarithm of the odds that the relative pose of two photos is right."""
    features = model_features(model, options)
    score = options.weights.bias + float(sum(getattr(options.weights, name) * each for name, each in features.items()))
    if not _one_of_two(model, options):
        return score
    return min(score, float(np.log(options.folded_probability / (1.0 - options.folded_probability))))


USUAL = ModelEvidence(
    agreement=0.97,
    contradicted=0.0,
    disagreeing=0.005,
    neighbours=0.95,
    rival_margin=float("inf"),
    cut_matches=300.0,
    determined=0.95,
    margin=0.5,
    unchanged=0.9,
    photo_observations=300.0,
    photos=20,
)
"""Evidence about an ordinary model, against which reasons are weighed."""

MIN_LOSS = 0.25
"""What a figure must lower the logarithm of the odds by, against a usual one, to be named as a reason."""

NAMED_MARGIN, NAMED_OBSERVATIONS, NAMED_CONTRADICTED = 0.15, 100.0, 0.02
"""Logarithm of the cost of the next hypothesis, and observations of a photo, below which they are named beside the
reasons that count, and the share of contradicted matches above which it is."""


def model_features(model: ModelEvidence, options: VerdictOptions) -> dict[str, float]:
    """The figures of evidence on the scales on which the weights act: logarithms of counts and of small shares."""
    determined = model.determined if np.isfinite(model.determined) else options.assumed_determined
    return {
        "disagreeing": -float(np.log(model.disagreeing + 0.003)),
        "determined": -float(np.log(1.02 - determined)),
        "unchanged": model.unchanged,
        "neighbours": model.neighbours if np.isfinite(model.neighbours) else options.assumed_neighbours,
    }


def _folded(model: ModelEvidence, options: VerdictOptions) -> bool:
    """Whether two places, or two sides of an object, may lie on each other."""
    scattered = model.agreement < options.folded_agreement and model.contradicted >= options.folded_contradicted
    return scattered and not model.neighbours >= options.folded_neighbours


def _one_of_two(model: ModelEvidence, options: VerdictOptions) -> tuple[str, ...]:
    """Why another model of the same photos is as likely; nothing where that is not so."""
    reasons = []
    if _folded(model, options):
        reasons.append(
            "it may be folded where two places, or two sides of an object, look alike: "
            f"{model.contradicted:.0%} of the verified matches contradict it and {1.0 - model.agreement:.0%} of the "
            "track observations do not meet in a point"
        )
    if model.margin < options.tied_margin:
        reasons.append(
            "two models explain these photos about equally well: the other one, with other poses or focal "
            f"lengths, costs only {np.expm1(model.margin):.0%} more"
        )
    return tuple(reasons)


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
    """What a figure says against the model."""
    texts: Mapping[str, str] = {
        "disagreeing": f"{model.disagreeing:.1%} of the matches that it was made of do not fit it",
        "determined": "its photos hardly hold each other" + _cut(model.cut_matches),
        "unchanged": "refinement moved its photos far",
        "neighbours": "photos that it puts next to each other do not match as neighbours do",
    }
    return texts[name]


def _aside(model: ModelEvidence, options: VerdictOptions) -> Iterator[str]:
    """What does not count in the probability but helps to see what is wrong."""
    if options.tied_margin <= model.margin < NAMED_MARGIN:
        yield f"another model of the same photos costs only {np.expm1(model.margin):.0%} more"
    if model.photo_observations < NAMED_OBSERVATIONS:
        yield f"photos observe {model.photo_observations:.0f} points only"
    if model.contradicted > NAMED_CONTRADICTED and not _folded(model, options):
        yield f"{model.contradicted:.0%} of the verified matches contradict it"


def _cut(matches: float) -> str:
    return f" (two parts of it share {matches:.0f} matches)" if np.isfinite(matches) else ""
