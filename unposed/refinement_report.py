"""Convergence, residuals and determinacy of the refined models, as plain data for summary.json."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unposed.pipeline.artifacts import Photos, RefinementReport, SparseModel
from unposed.report.residuals import observation_errors


def report_figures(photos: Photos, report: RefinementReport) -> dict[str, Any]:
    """Figures of the refinement of one model, for summary.json.

    costs: of each bundle adjustment, in square pixels: before its first step, and after each step that was taken.
    removed: number of observations, matches or photos that were removed, by reason.
    free_gauge: number of directions in which the model may move at no cost (7 where frame and scale are free).
    condition: condition number of the normal equations of all cameras apart from the gauge; from 1e12 on the photos
    leave something undetermined.
    verdict: probability that the poses are right within 5 degrees, whether that is enough to go without a warning, what
    speaks against the model, and the evidence.
    hypotheses: the models that competed, the chosen one first: robust cost from 0 to 1, focal length over the chosen
    one, and degrees that most photos are turned by.
    tension: where old photos were held beside a few new ones, how many times more these say against it than noise alone
    would.
    pairs: a row for each: both photos, verified matches, those that agree with the poses, and their RMS distance from
    the epipolar lines in pixels.
    """
    rows = zip(
        report.pairs.tolist(), report.matches.tolist(), report.inliers.tolist(), report.error_px.tolist(), strict=True
    )
    verdict = report.verdict
    return {
        "verdict": None
        if verdict is None
        else {
            "probability": _number(verdict.probability),
            "trusted": verdict.trusted,
            "reasons": list(verdict.reasons),
            "evidence": {name: _number(value) for name, value in verdict.evidence.items()},
        },
        "costs": [[float(f"{cost:.8g}") for cost in costs] for costs in report.costs],
        "removed": dict(report.removed),
        "free_gauge": report.free_gauge,
        "condition": None if report.condition is None else float(f"{report.condition:.4g}"),
        **({} if report.tension is None else {"tension": _number(report.tension)}),
        "hypotheses": [
            {key: _number(value) for key, value in dataclasses.asdict(each).items()} for each in report.hypotheses
        ],
        "pairs": [
            [photos[a].name, photos[b].name, matches, inliers, _number(error)]
            for (a, b), matches, inliers, error in rows
        ],
    }


def photo_figures(model: SparseModel, report: RefinementReport | None) -> list[dict[str, float | None]]:
    """RMS reprojection error of each photo of a model, and the standard deviation of its rotation if known."""
    out: list[dict[str, float | None]] = [{"error_px": _number(error)} for error in photo_errors_px(model)]
    if report is not None and report.verdict is not None:
        for each, probability in zip(out, report.verdict.photo_probability.tolist(), strict=True):
            each["probability"] = _number(probability)
    if report is not None and report.sigma_deg is not None:
        for each, sigma in zip(out, report.sigma_deg.tolist(), strict=True):
            each["sigma_deg"] = _number(sigma)
    return out


def photo_errors_px(model: SparseModel) -> NDArray[np.float64]:
    """(p,) RMS reprojection error of each photo; NaN where it observes no point, and for camera models not in
    `CAMERA_MODELS`."""
    errors = observation_errors(model)
    photo, square = errors.photo, np.square(errors.offset_px).sum(axis=1)
    count = np.bincount(photo, minlength=len(model.photos))
    squares = np.bincount(photo, square, minlength=len(model.photos))
    return np.asarray(np.sqrt(squares / np.where(count > 0, count, np.nan)))


def _number(value: float) -> float | None:
    """Round to four digits; None for what JSON cannot express."""
    return float(f"{value:.4g}") if np.isfinite(value) else None
