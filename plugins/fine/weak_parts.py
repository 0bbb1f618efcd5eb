"""Parts that few matches tie to the rest: put in place before refinement, cut off after it if their scale is open."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from unposed.optim.arrays import Mask
from unposed.optim.bundle.problem import Bundle
from unposed.optim.mapping.refinement import RefineOptions, Solver
from unposed.optim.mapping.triangulation import keep_observations, without_weak_photos
from unposed.optim.mapping.weak_parts import WeakPartOptions, open_parts, reseated
from unposed.optim.view_graph import ViewGraph
from unposed.pipeline.artifacts import Photos

from .model_start import ModelStart, Refined
from .report import named


def with_parts_in_place(
    start: ModelStart, graph: ViewGraph, solver: Solver, options: RefineOptions, weak: WeakPartOptions, seed: int
) -> ModelStart:
    """The start with its weak parts where their shared points put them."""
    if not _by_matches_alone(start, options):
        return start
    moved = reseated(graph, start.bundle, start.prior, solver, options, weak, seed=seed)
    return start if moved is None else replace(start, bundle=moved)


def cut_at_open_parts(
    model: Refined, photos: Photos, options: RefineOptions, weak: WeakPartOptions
) -> tuple[list[Refined], tuple[str, ...]]:
    """The model, and a model of its own for each weak part whose scale beside the rest is open, with warnings about
    these. Poses of a part are right among each other; beside the rest they could be anything. A part that has hardly
    any points but those it shares with the rest is no model."""
    bundle = model.result.bundle
    found = open_parts(model.graph, bundle, weak) if _by_matches_alone(model.start, options) else []
    if not found:
        return [model], ()
    rest, parts, warnings = np.ones(len(bundle.cam_from_world), bool), [], []
    for part, sigma in found:
        own = np.isin(np.arange(len(rest)), part.photos)
        rest &= ~own
        alone = replace(model.result, bundle=_among(bundle, own, options), summaries=(), covariance=None)
        kept = np.count_nonzero(np.isfinite(alone.bundle.cam_from_world[own, 0, 0]))
        if kept > 1:
            parts.append(replace(model, result=alone))
        outcome = "are a model of their own" if kept > 1 else "are left out"
        open_by = f"a factor of {math.exp(2.0 * sigma):.1f} up or down" if sigma < 3.0 else "any factor"
        warnings.append(
            f"{len(part.photos)} photos ({named(photos, part.photos.tolist())}) {outcome}: the "
            f"{part.cut_matches} matches that tie them to the rest leave their size beside it open by {open_by}; "
            "photos between both parts would fix it"
        )
    whole = replace(model.result, bundle=_among(bundle, rest, options))
    return [replace(model, result=whole), *parts], tuple(warnings)


def _by_matches_alone(start: ModelStart, options: RefineOptions) -> bool:
    """Whether nothing but matches says where a part is: no known poses, no rigs, no network's poses or depths."""
    return start.anchors is None and start.bundle.rigs is None and start.depths is None and not options.rough_start


def _among(bundle: Bundle, photos: Mask, options: RefineOptions) -> Bundle:
    """The bundle of some of its photos."""
    poses = np.where(photos[:, None, None], bundle.cam_from_world, np.nan)
    own = keep_observations(replace(bundle, cam_from_world=poses), photos[bundle.photo])
    return without_weak_photos(own, options.min_observations)
