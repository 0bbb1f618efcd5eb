"""Verdicts about refined models: how probable it is that their poses are right, and warnings where it is not."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from unposed.optim.bundle.problem import Bundle
from unposed.optim.verdict.evidence import Candidate, gather_evidence
from unposed.optim.verdict.judge import VerdictOptions, judge
from unposed.optim.view_graph import ViewGraph
from unposed.pipeline.artifacts import Doubts, InitialModel, ModelVerdict, Photos, RefinementReport, SparseModel

MAX_REASONS = 3
"""Reasons that a warning gives."""

MIN_PHOTOS = 3
"""Photos of a model that there is a verdict about: two have no other relative pose to agree with."""


def verdict_of(
    graph: ViewGraph,
    doubts: Doubts | None,
    initial: InitialModel,
    bundle: Bundle,
    model: SparseModel,
    report: RefinementReport,
    options: VerdictOptions,
) -> ModelVerdict | None:
    """The verdict about a model of a view graph, doubtful pairs included; None where there is nothing to judge by."""
    if len(model.photos) < MIN_PHOTOS:
        return None
    draft = np.full_like(bundle.cam_from_world, np.nan)
    draft[initial.photos] = initial.cam_from_world
    candidate = Candidate(
        photos=model.photos.astype(np.int64),
        bundle=bundle,
        draft=draft,
        observations=np.diff(np.searchsorted(np.sort(model.obs_xy), model.xy_start)),
        sigma_deg=None if report.sigma_deg is None else np.asarray(report.sigma_deg, np.float64),
        sigma_centre=None if report.sigma_centre is None else np.asarray(report.sigma_centre, np.float64),
        hypotheses=[(each.cost, each.focal_ratio, each.turned_deg) for each in report.hypotheses],
    )
    evidence, of_photos = gather_evidence(graph, _left_out(graph, doubts), candidate, options)
    found = judge(evidence, of_photos, options)
    return ModelVerdict(found.probability, found.photo_probability, found.reasons, asdict(evidence))


def _left_out(graph: ViewGraph, doubts: Doubts | None) -> NDArray[np.bool_]:
    """(e,) which edges are doubted."""
    kept = graph if doubts is None else graph.without(doubts.pairs)
    return ~np.isin(_numbers(graph), _numbers(kept))


def _numbers(graph: ViewGraph) -> NDArray[np.int64]:
    return np.asarray(graph.pairs[:, 0] * graph.photo_count + graph.pairs[:, 1], np.int64)


def warnings_of(photos: Photos, model: SparseModel, verdict: ModelVerdict, options: VerdictOptions) -> tuple[str, ...]:
    """A warning about a model that is probably wrong, or about photos of one that is probably right."""
    if verdict.probability < options.warn_below:
        why = "; ".join(verdict.reasons[:MAX_REASONS]) or "the evidence as a whole is weak"
        return (
            f"the model of {len(model.photos)} photos is probably wrong, or right in parts only (probability of right "
            f"poses {verdict.probability:.2f}): {why}. Look at it before you use it; more photos from between help",
        )
    if (agreement := verdict.evidence["agreement"]) < options.folded_agreement:
        return (
            f"{1.0 - agreement:.0%} of the track observations of the model of {len(model.photos)} photos do not meet "
            "in a point: it may be folded where two places, or two sides of an object, look alike",
        )
    weak = np.flatnonzero(verdict.photo_probability < options.photo_below)
    if not len(weak):
        return ()
    weakest = weak[np.argsort(verdict.photo_probability[weak], kind="stable")]
    names = [photos[int(model.photos[row])].name for row in weakest[:MAX_REASONS]]
    more = f" and {len(weak) - len(names)} more" if len(weak) > len(names) else ""
    return (f"the poses of {', '.join(names)}{more} hang on few matches and may be wrong",)
