"""Merging the models of overlapping clusters: one similarity for each, averaged over all links between them.

A link (cluster_links.py) says how two models lie to each other. Along cycles of clusters links must multiply to the
identity; what one of them leaves open is drift, which averaging spreads, or a wrong link, such as one between two
places that look alike, which must not be glued.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..arrays import Array, Index, Mask
from ..option_ranges import Angle, Positive
from ..pointmaps.pair_similarity import PairSimilarities
from ..pointmaps.similarity_averaging import (
    PhotoSimilarities,
    SimilarityAveragingOptions,
    average_similarities,
    robust_potentials,
)
from ..rotations import rotation_angle_deg
from ..similarity import Similarity
from .cluster_graph import ClusterModel
from .cluster_links import ClusterLink, ClusterLinkOptions, link_clusters


@dataclass(frozen=True)
class ModelMergingOptions:
    """When links between models contradict the other links."""

    max_link_deg: Angle = 5.0
    """A link whose rotation is further from that between the averaged models is inconsistent. Drift of a long chain of
    photos that closes is spread over its links and stays below."""
    max_link_scale_ratio: Positive = 1.25
    """So is one whose scale is off by a larger ratio, up or down,"""
    max_link_offset: Positive = 0.25
    """and one whose position is off by more, in units of the extent of the smaller model."""
    link: ClusterLinkOptions = field(default_factory=ClusterLinkOptions)
    """Similarities of pairs of models."""
    averaging: SimilarityAveragingOptions = field(
        default_factory=lambda: SimilarityAveragingOptions(half_weight_angle_deg=2.0, half_weight_log_scale=0.05)
    )
    """Averaging of these similarities."""


@dataclass(frozen=True, eq=False)
class MergedModels:
    """How models lie to each other."""

    world_from_model: tuple[Similarity | None, ...]
    """Per model; None for those that are not joined with the others."""
    pairs: Index
    """(links, 2) models a < b with enough photos in common."""
    disagreeing: Mask
    """(links,) whether the photos of a link disagree among themselves: one of the models is wrong there."""
    inconsistent: Mask
    """(links,) whether they do, or the other links contradict this one."""

    @property
    def joined(self) -> Mask:
        """(models,) which are joined."""
        return np.array([each is not None for each in self.world_from_model], bool)


def merge_models(models: Sequence[ClusterModel], options: ModelMergingOptions | None = None) -> MergedModels:
    """Join the largest set of models that consistent links hold together.

    One link that contradicts the others is left out. Where several do, and without one model fewer would by two at
    least, that model is wrong by itself, such as bent or folded over, and is not joined; else the link that is furthest
    from the average is left out, and the rest are averaged again.
    """
    options = options or ModelMergingOptions()
    found = [
        ((a, b), link)
        for a in range(len(models))
        for b in range(a + 1, len(models))
        if (link := link_clusters(models[a], models[b], options.link)) is not None
    ]
    graph = _LinkGraph(
        models,
        np.array([pair for pair, _ in found], np.int64).reshape(-1, 2),
        tuple(link for _, link in found),
        options,
    )
    agreed = np.array([link.agrees(options.link) for link in graph.links], bool)
    alive, used = np.ones(len(models), bool), agreed.copy()
    while True:
        state = _joined(graph, alive, used)
        if state.faults <= 1 and not state.excess.any():
            break
        others = {model: _joined(graph, _without(alive, model), agreed) for model in _suspects(graph, state)}
        least = min(others, key=lambda model: (others[model].faults, len(models[model].photos)), default=None)
        if least is not None and others[least].faults + 2 <= state.faults:
            alive[least], used = False, agreed.copy()
        elif state.excess.any():
            used[np.argmax(state.excess)] = False
        else:
            break
    similarities = tuple(state.similarities.get(model) for model in range(len(models)))
    return MergedModels(similarities, graph.pairs, ~agreed, ~agreed | ~used)


@dataclass(frozen=True, eq=False)
class _LinkGraph:
    """Models, and the links between them."""

    models: Sequence[ClusterModel]
    pairs: Index
    links: tuple[ClusterLink, ...]
    options: ModelMergingOptions


@dataclass(frozen=True, eq=False)
class _Joined:
    """The models of the largest component, joined by averaging some of the links."""

    similarities: dict[int, Similarity]
    bad: Mask
    """(links,) between joined models: not used, or inconsistent with the average."""
    excess: Array
    """(links,) by how much they exceed what is consistent; 0 for those that are consistent or not used."""
    faults: int
    """Bad links, and two for each model that could be joined but is not."""


def _joined(graph: _LinkGraph, alive: Mask, used: Mask) -> _Joined:
    size = np.array([len(model.photos) for model in graph.models], np.float64)
    now = used & alive[graph.pairs].all(axis=1)
    inside = alive & _heaviest_component(graph.pairs[now], size * alive)
    among = inside[graph.pairs].all(axis=1)
    now &= among
    links = [graph.links[i] for i in np.flatnonzero(now)]
    similarities, ratio = _average(graph.models, graph.pairs[now], links, inside, graph.options)
    excess = np.zeros(len(graph.links))
    excess[now] = np.where(ratio > 1.0, ratio, 0.0)
    bad = among & (~used | (excess > 0))
    linked = np.zeros(len(alive), bool)
    linked[graph.pairs[used & alive[graph.pairs].all(axis=1)]] = True
    return _Joined(similarities, bad, excess, int(bad.sum()) + 2 * int((linked & ~inside).sum()))


def _suspects(graph: _LinkGraph, state: _Joined) -> list[int]:
    """The models that may be wrong where links are bad: their ends, and models linked with two of these."""
    ends = np.unique(graph.pairs[state.bad])
    linked = np.zeros((len(graph.models),) * 2, bool)
    linked[graph.pairs[:, 0], graph.pairs[:, 1]] = True
    linked |= linked.T
    between = linked[ends].sum(axis=0) >= 2
    between[ends] = True
    return [model for model in np.flatnonzero(between).tolist() if model in state.similarities]


def _without(alive: Mask, model: int) -> Mask:
    out = alive.copy()
    out[model] = False
    return out


def _heaviest_component(pairs: Index, size: Array) -> Mask:
    """(models,) the connected component with most photos."""
    shape = (len(size), len(size))
    label = connected_components(coo_array((np.ones(len(pairs)), pairs.T), shape=shape), directed=False)[1]
    return np.asarray(label == np.argmax(np.bincount(label, weights=size))) if size.any() else np.zeros(len(size), bool)


def _average(
    models: Sequence[ClusterModel],
    pairs: Index,
    links: Sequence[ClusterLink],
    inside: Mask,
    options: ModelMergingOptions,
) -> tuple[dict[int, Similarity], Array]:
    """World from model for the models `inside`, and by how much each link exceeds what is consistent."""
    members = np.flatnonzero(inside)
    if len(pairs) == 0:
        return {int(model): Similarity(1.0, np.eye(3), np.zeros(3)) for model in members}, np.zeros(0)
    pairs = np.searchsorted(members, pairs)
    scale = np.array([link.scale for link in links])
    rotation = np.array([link.rotation for link in links])
    middle_a, middle_b = (np.array([getattr(link, name) for link in links]) for name in ("middle_a", "middle_b"))
    translation = middle_b - scale[:, None] * np.einsum("eij,ej->ei", rotation, middle_a)
    weight = np.array([link.weight for link in links])
    error = np.radians([link.error_deg for link in links])
    similar = PairSimilarities(scale, rotation, translation, weight, error)
    averaged = average_similarities(len(members), pairs, similar, weight, options.averaging)
    moved = _with_joints_closed(averaged, pairs, middle_a, middle_b, weight)

    a, b = pairs.T
    turn = rotation_angle_deg(moved.rotation[b] @ rotation @ moved.rotation[a].transpose(0, 2, 1))
    stretch = np.abs(np.log(scale * moved.scale[b] / moved.scale[a]))
    gap = np.linalg.norm(_mapped(moved, a, middle_a) - _mapped(moved, b, middle_b), axis=1)
    extent = np.array([_extent(models[model]) for model in members.tolist()]) * moved.scale
    excess = np.maximum(turn / options.max_link_deg, stretch / np.log(options.max_link_scale_ratio))
    excess = np.maximum(excess, gap / (options.max_link_offset * np.minimum(extent[a], extent[b])))
    similarities = {
        int(model): Similarity(float(moved.scale[i]), moved.rotation[i], moved.translation[i])
        for i, model in enumerate(members)
    }
    return similarities, excess


def _with_joints_closed(
    averaged: PhotoSimilarities, pairs: Index, middle_a: Array, middle_b: Array, weight: Array
) -> PhotoSimilarities:
    """The same rotations and scales with the translations that bring common photos together.

    `average_similarities` closes gaps between the origins of frames, to which rotation errors have a long lever.
    """
    a, b = pairs.T
    gap = _mapped(averaged, b, middle_b) - _mapped(averaged, a, middle_a)
    unit = max(float(np.median(np.linalg.norm(gap, axis=1))), 1e-300)
    moved = unit * robust_potentials(len(averaged), pairs, gap / unit, weight)
    return PhotoSimilarities(averaged.scale, averaged.rotation, averaged.translation + moved)


def _mapped(similar: PhotoSimilarities, of: Index, points: Array) -> Array:
    """(n, 3) points in the world, each given in the frame `of` (n,)."""
    turned = np.einsum("eij,ej->ei", similar.rotation[of], points)
    return np.asarray(similar.scale[of, None] * turned + similar.translation[of])


def _extent(model: ClusterModel) -> float:
    """Root mean square distance of the photos from their mean."""
    centres = model.centres
    return max(float(np.sqrt(((centres - centres.mean(axis=0)) ** 2).sum(axis=1).mean())), 1e-12)


def moved_poses(cam_from_model: Array, world_from_model: Similarity) -> Array:
    """(n, 3, 4) cam_from_world of poses in a model, up to the scale of the camera frames."""
    rotation = cam_from_model[:, :, :3] @ world_from_model.rotation.T
    translation = world_from_model.scale * cam_from_model[:, :, 3] - rotation @ world_from_model.translation
    return np.concatenate([rotation, translation[:, :, None]], axis=2)
