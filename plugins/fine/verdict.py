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


def verdict_of(
    graph: ViewGraph,
    doubts: Doubts | None,
    initial: InitialModel,
    bundle: Bundle,
    model: SparseModel,
    report: RefinementReport,
    options: VerdictOptions,
) -> ModelVerdict:
    """The verdict about a model of a view graph, doubtful pairs included."""
    draft = np.full_like(bundle.cam_from_world, np.nan)
    draft[initial.photos] = initial.cam_from_world
    candidate = Candidate(
        photos=model.photos.astype(np.int64),
        bundle=bundle,
        draft=draft,
        observations=np.diff(np.searchsorted(np.sort(model.obs_xy), model.xy_start)),
        targets=_targets(model),
        sigma_deg=None if report.sigma_deg is None else np.asarray(report.sigma_deg, np.float64),
        sigma_centre=None if report.sigma_centre is None else np.asarray(report.sigma_centre, np.float64),
        hypotheses=[(each.cost, each.focal_ratio, each.turned_deg) for each in report.hypotheses],
        rival_margin=_rival_margin(doubts, model),
    )
    evidence, of_photos = gather_evidence(graph, _left_out(graph, doubts), candidate, options)
    found = judge(evidence, of_photos, options)
    trusted = found.probability >= options.warn_below
    return ModelVerdict(found.probability, found.photo_probability, found.reasons, asdict(evidence), trusted)


def _rival_margin(doubts: Doubts | None, model: SparseModel) -> float:
    """How far the reading of the pairs was ahead of its rivals where the model is."""
    if doubts is None or doubts.rival_margin is None:
        return float("inf")
    return float(doubts.rival_margin[model.photos].min())


def _targets(model: SparseModel) -> NDArray[np.float64]:
    """(p, 3) median of the points that each photo observes; NaN without any."""
    order = np.argsort(model.obs_xy, kind="stable")
    start = np.searchsorted(model.obs_xy[order], model.xy_start)
    out = np.full((len(model.photos), 3), np.nan)
    for photo in np.flatnonzero(np.diff(start)).tolist():
        out[photo] = np.median(model.points[model.obs_point[order[start[photo] : start[photo + 1]]]], axis=0)
    return out


def _left_out(graph: ViewGraph, doubts: Doubts | None) -> NDArray[np.bool_]:
    """(e,) which edges are doubted."""
    kept = graph if doubts is None else graph.without(doubts.pairs)
    return ~np.isin(_numbers(graph), _numbers(kept))


def _numbers(graph: ViewGraph) -> NDArray[np.int64]:
    return np.asarray(graph.pairs[:, 0] * graph.photo_count + graph.pairs[:, 1], np.int64)


def warnings_of(photos: Photos, model: SparseModel, verdict: ModelVerdict, options: VerdictOptions) -> tuple[str, ...]:
    """A warning about a model that is probably wrong, or about photos of one that is probably right."""
    if not verdict.trusted:
        why = "; ".join(verdict.reasons[:MAX_REASONS]) or "the evidence as a whole is weak"
        return (
            f"do not rely on the model of {len(model.photos)} photos: it is probably wrong, or right in parts only "
            f"(probability of right poses {verdict.probability:.2f}): {why}. Look at it before you use it; photos from "
            "between help, and masks over what looks alike",
        )
    weak = np.flatnonzero(verdict.photo_probability < options.photo_below)
    if not len(weak):
        return ()
    weakest = weak[np.argsort(verdict.photo_probability[weak], kind="stable")]
    names = [photos[int(model.photos[row])].name for row in weakest[:MAX_REASONS]]
    more = f" and {len(weak) - len(names)} more" if len(weak) > len(names) else ""
    return (f"the poses of {', '.join(names)}{more} hang on few matches and may be wrong",)
