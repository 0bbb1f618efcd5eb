"""Fit the weights of the verdict, and measure what it is worth on sets that it was not fitted to.

    python benchmarks/verdict.py sample DATA_DIR --caches DIR --out SAMPLES.jsonl [--sets A,B]
    python benchmarks/verdict.py fit SAMPLES.jsonl [--coarse-truth A,B]

`sample` reconstructs every set whole and broken on purpose: from random photos and every second one, with a fifth of
the matches of each pair, and without the search for doppelgangers. DATA_DIR has sets as benchmarks/photos.py
reads them, made-up ones included (unposed.synthetic). `fit` prints the weights of all sets together, and the figures of
each set under weights that were fitted without it.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from diagnose import Mapped, map_set
from scipy.optimize import minimize
from truth import Truth, errors_against, read_truth

from unposed.optim.arrays import Array, Mask
from unposed.optim.verdict.evidence import ModelEvidence
from unposed.optim.verdict.judge import VerdictOptions, VerdictWeights, model_features, model_score
from unposed.optim.view_graph import ViewGraph
from unposed.pipeline.stage import Resources
from unposed.plugins.coarse.global_mapping import GlobalMapper
from unposed.plugins.doubts.doppelgangers import Doppelgangers
from unposed.plugins.fine.bundle import BundleAdjustment

MAX_PHOTOS = 40
"""Photos of a broken set, at most: larger ones cost more and say no more."""

MATCH_SHARE = 0.2
"""Of the matches of each pair, that are left where few are."""

RIGHT, WRONG = 0.8, 0.3
"""AUC at 5 degrees of models that count as right and as wrong."""

RENDERED = re.compile(r"(-\d+){3}$")
"""Made-up scenes are named by kind, photos, width and seed; sets of real photos may end in one number."""

PENALTY = 0.01
"""Of squared weights, per sample: weights of figures that say the same do not grow against each other."""

NAMES = [each.name for each in fields(VerdictWeights) if each.name != "bias"]


def main() -> None:
    """Sample or fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    sampled = actions.add_parser("sample")
    sampled.add_argument("data", type=Path)
    sampled.add_argument("--caches", type=Path, required=True)
    sampled.add_argument("--out", type=Path, required=True)
    sampled.add_argument("--sets", type=lambda text: text.split(","))
    fitted = actions.add_parser("fit")
    fitted.add_argument("samples", type=Path)
    fitted.add_argument("--coarse-truth", type=lambda text: text.split(","), default=[])
    args = parser.parse_args()
    if args.action == "fit":
        fit([json.loads(line) for line in args.samples.read_text().splitlines()], args.coarse_truth)
        return
    for folder in sorted(args.data.iterdir()):
        truth = next((folder / n for n in ("gt.json", "ref_colmap.json") if (folder / n).is_file()), None)
        if truth is None or (args.sets and folder.name not in args.sets):
            continue
        with args.out.open("a") as out:
            for row in sample(folder, truth, args.caches / folder.name):
                out.write(json.dumps(row) + "\n")
                out.flush()
                print(row["set"], row["how"], f"AUC@5 {100 * row['auc5']:.1f}", flush=True)


def sample(folder: Path, truth_file: Path, cache: Path) -> Iterator[dict[str, Any]]:
    """Models of one set, whole and broken, with their evidence and their errors."""
    mapped = map_set(folder / "images", cache)
    truth = read_truth(truth_file, [photo.name for photo in mapped.photos.photos])
    resources = Resources("cpu", threads=1, ram_bytes=1 << 30, vram_bytes=0)
    for how, graph, doubted in broken(mapped, np.random.default_rng(sum(map(ord, folder.name)))):
        if not len(graph):
            continue
        doubts = Doppelgangers()(mapped.photos, mapped.cameras, graph, resources) if doubted else None
        drafts = GlobalMapper()(mapped.photos, mapped.cameras, graph, doubts)
        made = BundleAdjustment()(mapped.photos, mapped.cameras, graph, drafts, resources, doubts)
        for model, report in list(zip(made.models, made.reports, strict=True))[:1]:
            poses = np.full((len(mapped.photos), 3, 4), np.nan)
            poses[model.photos] = model.cam_from_world
            own = _among(truth, model.photos)
            if report.verdict is not None and own.known.sum() > 2:
                errors = errors_against(own, poses, camera_rotation=True)
                right = {"auc5": errors.auc[5], "share": _within(errors.rra[5], errors.rta[5])}
                yield {"set": folder.name, "how": how, **right, **report.verdict.evidence}


def broken(mapped: Mapped, rng: np.random.Generator) -> Iterator[tuple[str, ViewGraph, bool]]:
    """The view graph of a set, whole and with parts of it missing, and whether doppelgangers are looked for."""
    graph = mapped.view_graph
    n = graph.photo_count
    yield "whole", graph, True
    if mapped.doubts is not None and len(mapped.doubts.pairs):
        yield "without doubts", graph, False
    few = min(n, MAX_PHOTOS)
    if n > 5:
        for number in range(2):
            size = int(rng.integers(max(4, few // 4), max(5, int(0.8 * few)) + 1))
            yield f"random {number}", _of_photos(graph, rng.choice(n, min(size, n), replace=False)), True
    if n > 7:
        yield "every second", _of_photos(graph, np.arange(0, n, max(2, n // 20))), True
    part = _of_photos(graph, rng.choice(n, few, replace=False))
    count = np.maximum((part.match_count * MATCH_SHARE).astype(np.int64), 1)
    yield "a fifth of the matches", replace(part, match_stop=part.match_start + count).select(count >= 15), True


def fit(rows: list[dict[str, Any]], coarse_truth: list[str]) -> None:
    """Print weights, figures with each set left out, and how probabilities compare with what came out."""
    coarse = [row for row in rows if row["set"] in coarse_truth and row["how"] == "whole"]
    rows = [row for row in rows if row["set"] not in coarse_truth]
    evidence, y = [evidence_of(row) for row in rows], np.array([row["auc5"] for row in rows])
    x = np.array([features(each) for each in evidence])
    names = np.array([RENDERED.sub("", row["set"]) for row in rows])  # made-up scenes of a kind are one set
    weights = fitted_weights(x, y)
    print("\n".join(f"    {name}: {value:.2f}" for name, value in zip(["bias", *NAMES], weights, strict=True)))
    p = np.zeros(len(rows))
    limit = VerdictOptions().warn_below
    print(f"\n| set | models | mean AUC@5 | mean probability | right, below {limit} | wrong, above {limit} |")
    print("| --- " * 6 + "|")
    right, wrong = y > RIGHT, y < WRONG
    for name in np.unique(names):
        own = names == name
        p[own] = probabilities(evidence, own, fitted_weights(x[~own], y[~own]))
        cells = [name, own.sum(), f"{100 * y[own].mean():.0f}", f"{p[own].mean():.2f}"]
        cells += [f"{(own & right & (p < limit)).sum()} of {(own & right).sum()}"]
        cells += [f"{(own & wrong & (p >= limit)).sum()} of {(own & wrong).sum()}"]
        print("| " + " | ".join(map(str, cells)) + " |")
    rendered = np.array([RENDERED.search(row["set"]) is not None for row in rows])
    everywhere, other = np.ones(len(rows), bool), np.zeros(len(rows))
    for own in (rendered, ~rendered):
        other[own] = probabilities(evidence, own, fitted_weights(x[~own], y[~own]))
    whole = np.array([row["how"] == "whole" for row in rows])
    for about, q, own in (
        ("each set or kind of scene left out", p, everywhere),
        ("likewise, whole sets", p, whole),
        ("likewise, real photos", p, ~rendered),
        ("likewise, rendered photos", p, rendered),
        ("real photos under weights of rendered ones", other, ~rendered),
        ("rendered photos under weights of real ones", other, rendered),
        ("weights of all", probabilities(evidence, everywhere, weights), everywhere),
    ):
        areas = f"of AUC@5 above 80 {roc(q[own], right[own]):.3f}, of AUC@5 above 30 {roc(q[own], ~wrong[own]):.3f}"
        print(f"ROC AUC, {about} ({own.sum()} models): {areas}")
    print("\n| probability | models | mean AUC@5 | above 80 | below 30 |\n" + "| --- " * 5 + "|")
    for number in range(5):
        own = np.minimum((5 * p).astype(int), 4) == number
        if own.any():
            shares = f"{100 * y[own].mean():.0f} | {right[own].mean():.2f} | {wrong[own].mean():.2f}"
            print(f"| {number / 5:.1f} to {(number + 1) / 5:.1f} | {own.sum()} | {shares} |")
    for row in np.flatnonzero((wrong & (p >= limit)) | (right & (p < limit))).tolist():
        print(f"wrongly judged: {rows[row]['set']}, {rows[row]['how']}: AUC@5 {100 * y[row]:.0f}, p {p[row]:.2f}")
    print("\n| whole set | AUC@5 | probability, left out | warning |\n" + "| --- " * 4 + "|")
    for row in np.flatnonzero(whole & ~rendered).tolist():
        print(f"| {names[row]} | {100 * y[row]:.0f} | {p[row]:.2f} | {'yes' if p[row] < limit else ''} |")
    for row in coarse:
        q = float(probabilities([evidence_of(row)], np.ones(1, bool), weights)[0])
        print(f"| {row['set']}, coarse truth | {100 * row['auc5']:.0f} | {q:.2f} | {'yes' if q < limit else ''} |")


def evidence_of(row: dict[str, Any]) -> ModelEvidence:
    """The evidence of a sample."""
    return ModelEvidence(**{each.name: row[each.name] for each in fields(ModelEvidence)})


def features(evidence: ModelEvidence) -> list[float]:
    """Features of a model in the order of NAMES."""
    found = model_features(evidence, VerdictOptions())
    return [found[name] for name in NAMES]


def probabilities(evidence: Sequence[ModelEvidence], own: Mask, weights: Array) -> Array:
    """Probabilities of some of the models, what may be folded included."""
    named = dict(zip(["bias", *NAMES], weights.tolist(), strict=True))
    options = VerdictOptions(weights=VerdictWeights(**named))
    scores = np.array([model_score(evidence[row], options) for row in np.flatnonzero(own).tolist()])
    return np.asarray(1.0 / (1.0 + np.exp(-scores)))


def fitted_weights(x: Array, y: Array) -> Array:
    """(1 + n,) bias and weights of least cross entropy with the share y of what is right."""
    middle, scale = x.mean(axis=0), x.std(axis=0) + 1e-9
    z = (x - middle) / scale

    def cost(w: Array) -> tuple[float, Array]:
        score = w[0] + z @ w[1:]
        entropy = np.logaddexp(0.0, score) - y * score
        off = 1.0 / (1.0 + np.exp(-score)) - y
        value = entropy.mean() + PENALTY * (w[1:] ** 2).sum()
        return float(value), np.concatenate([[off.mean()], z.T @ off / len(y) + 2.0 * PENALTY * w[1:]])

    bounds = [(None, None)] + [(0.0, None)] * len(NAMES)  # all figures grow with how likely a model is right
    found = minimize(cost, np.zeros(1 + len(NAMES)), jac=True, bounds=bounds, method="L-BFGS-B").x
    weights = found[1:] / scale
    return np.concatenate([[found[0] - weights @ middle], weights])


def roc(score: Array, positive: Mask) -> float:
    """Area under the ROC curve: how often a positive sample has the higher score."""
    a, b = score[positive], score[~positive]
    return float(((a[:, None] > b).sum() + 0.5 * (a[:, None] == b).sum()) / max(a.size * b.size, 1))


def _of_photos(graph: ViewGraph, photos: Array) -> ViewGraph:
    mask = np.zeros(graph.photo_count, bool)
    mask[photos] = True
    return graph.among(mask)


def _among(truth: Truth, photos: Array) -> Truth:
    own = np.isin(np.arange(len(truth.cam_from_world)), photos)
    return replace(truth, cam_from_world=np.where(own[:, None, None], truth.cam_from_world, np.nan))


def _within(rra: float | None, rta: float | None) -> float:
    return min(each for each in (rra, rta, 1.0) if each is not None)


if __name__ == "__main__":
    main()
