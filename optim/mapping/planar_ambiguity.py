"""The two poses of planar pairs, decided between by the triangles of the view graph.

Where hardly a match is beside one plane, two relative poses explain a pair equally well (Faugeras and Lustman 1988),
and which one robust estimation returns is chance: of 184 pairs of 25 photos of a flat object 29 were turned by 15 to 86
degrees, with right matches. Such pairs close no triangles with others, and are removed, or doubted, or worse, pull a
photo with them. Their other pose closes the triangles. Each pair therefore gets a probability for each of its poses,

    p(e, l) <- p(e, l) * sum over triangles of e, over poses m and n of the two others: p(f, m) p(g, n) k(angle),

where k = exp(-(angle / scale)^2) is near 1 if the three rotations compose to none; after a few rounds all are decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, product
from typing import Annotated

import numpy as np

from ..arrays import Array, Index
from ..option_ranges import Angle, Count, Within
from ..parallel import even_blocks, parallel_map
from ..rotations import rotation_angle_deg
from ..triangles import triangles_of
from ..view_graph import ViewGraph
from .plane_poses import plane_poses
from .relative_poses import RelativePoses

EDGES_PER_TASK = 64
"""Edges that a thread takes at a time."""

MIN_COST = 0.05
"""Added to costs before they are compared: of matches without noise, ratios of costs say nothing."""

PlanePoses = dict[int, list[tuple[Array, float]]]
"""By edge: the poses that explain its plane, with their costs, as of `plane_poses`."""

POSES = 3
"""Of a pair: the estimated one and two of its plane."""


@dataclass(frozen=True)
class PlanarAmbiguityOptions:
    """Which pairs are taken for ambiguous, and when the other pose replaces the estimated one."""

    closing_deg: Angle = 5.0
    """Triangles whose rotations compose to a smaller angle close; also the scale of their score. Poses of pairs with
    few matches are good to a few degrees."""
    max_error: Annotated[float, Within("(0, inf)")] = 4.0
    """Transfer error of the homography's inliers, in key point errors: matches near a plane, not exactly on it."""
    min_inliers: Annotated[int, Within("[4, inf)")] = 10
    """Matches near the plane, at least."""
    max_cost_ratio: Annotated[float, Within("[1, inf)")] = 2.0
    """The other pose may fit the matches so much worse: chance has a large part in the costs of few matches."""
    rounds: Annotated[int, Within("[0, inf)")] = 10
    """Of the update of the probabilities; 0 leaves all poses as they were estimated."""
    min_gain: Count = 1
    """Triangles that the other pose closes beyond those that the estimated one does, at least."""


def resolve_planar_ambiguity(
    graph: ViewGraph,
    relative: RelativePoses,
    models: tuple[str, ...],
    intrinsics: Array,
    camera_of_photo: Index,
    *,
    keypoint_error_px: float,
    options: PlanarAmbiguityOptions | None = None,
    planes: PlanePoses | None = None,
) -> RelativePoses:
    """The relative poses, those of ambiguous pairs exchanged where more triangles close with the other one.

    `planes` has the poses of edges whose planes were looked for before, under the same intrinsics, and gets those of
    the others.
    """
    planes = {} if planes is None else planes
    options = options or PlanarAmbiguityOptions()
    pairs = graph.pairs[relative.edge]
    triangles = np.stack(triangles_of(graph.photo_count, pairs), axis=1) if len(pairs) else np.zeros((0, 3), np.int64)
    rotation = relative.b_from_a[:, :, :3]
    open_ = _loop_deg([rotation] * 3, triangles) > options.closing_deg
    suspects = np.unique(triangles[open_])
    if options.rounds == 0 or not len(suspects):
        return relative

    edges = relative.edge[suspects].tolist()
    new = [edge for edge in edges if edge not in planes]

    def alternatives(block: range) -> list[list[tuple[Array, float]]]:
        return [
            plane_poses(
                graph,
                models,
                intrinsics,
                camera_of_photo,
                new[number],
                keypoint_error_px=keypoint_error_px,
                max_error=options.max_error,
                min_inliers=options.min_inliers,
            )
            for number in block
        ]

    found = chain.from_iterable(parallel_map(alternatives, even_blocks(len(new), EDGES_PER_TASK)))
    planes.update(zip(new, found, strict=True))
    poses, prior = _candidates(relative.b_from_a, suspects, [planes[edge] for edge in edges], options)
    around = triangles[np.isin(triangles, np.flatnonzero((prior > 0).sum(axis=1) > 1)).any(axis=1)]
    score = _scores(poses, prior, around, options.closing_deg)
    chosen = _decided(prior, around, score, options.rounds)
    return replace(relative, b_from_a=_exchanged(poses, chosen, around, options))


def _candidates(
    b_from_a: Array, suspects: Index, found: list[list[tuple[Array, float]]], options: PlanarAmbiguityOptions
) -> tuple[Array, Array]:
    """Poses (e, POSES, 3, 4), the estimated one first, and their prior probabilities (e, POSES), 0 for none."""
    poses = np.repeat(b_from_a[:, None], POSES, axis=1)
    prior = np.zeros(poses.shape[:2])
    prior[:, 0] = 1.0
    for edge, alternatives in zip(suspects.tolist(), found, strict=True):
        others = [
            (pose, cost)
            for pose, cost in alternatives
            if rotation_angle_deg(pose[:, :3] @ b_from_a[edge, :, :3].T) > options.closing_deg
        ]
        least = min((cost for _, cost in alternatives), default=0.0)
        for place, (pose, cost) in enumerate(others[: POSES - 1], start=1):
            ratio = (cost + MIN_COST) / (least + MIN_COST)
            if ratio <= options.max_cost_ratio:
                poses[edge, place], prior[edge, place] = pose, 1.0 / ratio
    return poses, prior / prior.sum(axis=1, keepdims=True)


def _loop_deg(rotations: Sequence[Array], triangles: Index) -> Array:
    """(t,) angle of each triangle's loop, under rotations (e, 3, 3) for its first, its second and its third pair."""
    ab, bc, ac = rotations
    loop = ac[triangles[:, 2]].transpose(0, 2, 1) @ bc[triangles[:, 1]] @ ab[triangles[:, 0]]
    return rotation_angle_deg(loop)


def _scores(poses: Array, prior: Array, triangles: Index, scale_deg: float) -> Array:
    """(t, POSES, POSES, POSES) how well each triangle closes with each pose of its pairs."""
    score = np.zeros((len(triangles), POSES, POSES, POSES))
    for i, j, k in product(range(POSES), repeat=3):
        each = (i, j, k)
        there = np.all([prior[triangles[:, side], pose] > 0 for side, pose in enumerate(each)], axis=0)
        angle = _loop_deg([poses[:, pose, :, :3] for pose in each], triangles[there])
        score[there, i, j, k] = np.exp(-((angle / scale_deg) ** 2))
    return score


def _decided(prior: Array, triangles: Index, score: Array, rounds: int) -> Index:
    """(e,) the most probable pose of each pair."""
    probability = prior.copy()
    sums = ("tijk,tj,tk->ti", "tijk,ti,tk->tj", "tijk,ti,tj->tk")
    for _ in range(rounds):
        support = np.full_like(prior, 1e-9)
        of = [probability[triangles[:, side]] for side in range(3)]
        for side, formula in enumerate(sums):
            others = [of[other] for other in range(3) if other != side]
            np.add.at(support, triangles[:, side], np.einsum(formula, score, *others))
        probability *= support
        probability /= probability.sum(axis=1, keepdims=True)
    return np.asarray(probability.argmax(axis=1))


def _exchanged(poses: Array, chosen: Index, triangles: Index, options: PlanarAmbiguityOptions) -> Array:
    """(e, 3, 4) the chosen poses, where they close more triangles with the others' than the estimated pose would."""
    everyone = np.arange(len(poses))
    kept = poses[everyone, chosen]
    gain = np.zeros(len(poses), np.int64)
    for side in range(3):
        for sign, own in ((1, kept), (-1, poses[:, 0])):
            rotations = [own[:, :, :3] if other == side else kept[:, :, :3] for other in range(3)]
            closing = _loop_deg(rotations, triangles) < options.closing_deg
            np.add.at(gain, triangles[:, side], sign * closing)
    return np.where((gain >= options.min_gain)[:, None, None], kept, poses[:, 0])
