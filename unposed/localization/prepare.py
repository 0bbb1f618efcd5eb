"""From a finished reconstruction to a localizer: its preset, and the stored features of its photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from unposed.pipeline.artifacts import Features, Photos, Ranking
from unposed.pipeline.engine import run
from unposed.pipeline.errors import ConfigError, InputError
from unposed.pipeline.graph import Graph, build_graph
from unposed.pipeline.ports import fits
from unposed.pipeline.progress import Progress
from unposed.pipeline.registry import Registry
from unposed.pipeline.stage import Resources
from unposed.pipeline.store.store import Store

from .camera_guess import CameraGuess, CameraSource
from .localizer import Localizer
from .model_map import MappedPhoto, as_detected, model_map, model_vote_table, observed_part
from .node_values import NodeValues, nodes_over_photos
from .options import LocalizationOptions

if TYPE_CHECKING:
    from ..reconstruction import Reconstruction

MATCHING, CAMERAS, RETRIEVAL, VIEW_GRAPH = "matching", "cameras", "retrieval", "view_graph"

MAPPING = ("doubts", "coarse", "fine")
"""Slots that make models of a view graph; nothing before it reads what they give."""


def make_localizer(
    made: Reconstruction,
    store: Store,
    resources: Resources,
    *,
    camera: CameraSource = "auto",
    options: LocalizationOptions | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Localizer:
    """Read, or compute where the store lacks them, the features of the registered photos; the rest is arrays."""
    options = options or LocalizationOptions()
    if not made.sparse.models:
        raise InputError("the reconstruction has no model to localize photos in")
    graph = preset_of(made)
    matching = _matching(graph)
    over_photos = nodes_over_photos(graph, matching)
    appearance = _appearance(graph, over_photos)
    wanted = tuple(dict.fromkeys([appearance, *over_photos]))
    mapped = model_map(made.sparse.models, made.photos, options.min_map_noise)
    views = _views(graph, wanted, mapped.photos, store, resources, progress)
    photos = tuple(_detected(each, row, views) for row, each in enumerate(mapped.photos))
    _check_photos(mapped.photos, photos, views)
    mapped = replace(mapped, photos=photos)
    values = tuple(
        {name: observed_part(view[row], each) for name, view in views.items()} for row, each in enumerate(photos)
    )
    return Localizer(
        model_map=mapped,
        nodes=NodeValues(graph, resources),
        matching=matching,
        appearance=appearance,
        values=values,
        table=model_vote_table([each[appearance] for each in values], options.compared_keypoints),
        cameras=CameraGuess(graph.nodes[CAMERAS].stage, mapped, camera),
        options=options,
        seed=seed,
    )


def preset_of(made: Reconstruction) -> Graph:
    """What localization needs of the graph that a reconstruction was made with, from its summary: importing the mappers
    takes as long as all the rest."""
    settings = made.summary.get("settings")
    if not isinstance(settings, dict):
        raise InputError("the reconstruction does not say how it was made (`settings` in summary.json)")
    kept = {name: node for name, node in settings.items() if name != "outputs" and _slot(name, node) not in MAPPING}
    return build_graph({**kept, "outputs": list(kept)}, Registry())


def _slot(name: str, node: object) -> str:
    """The slot of a node as a preset declares it; that of the name where it does not say."""
    use = node.get("use") if isinstance(node, dict) else None
    return use.partition(".")[0] if isinstance(use, str) and "." in use else name


def _matching(graph: Graph) -> str:
    """The node that matches pairs."""
    view = graph.nodes.get(VIEW_GRAPH)
    name = MATCHING if MATCHING in graph.nodes else view.sources.get(MATCHING) if view else None
    if name is None or CAMERAS not in graph.nodes:
        raise ConfigError(
            "the preset of the reconstruction has no nodes `matching` and `cameras`, which localize photos"
        )
    return str(name)


def _appearance(graph: Graph, over_photos: list[str]) -> str:
    """The features that retrieval compares, of any of the rankings it merges; else those that are matched."""
    names, rankings = list[str](), [RETRIEVAL] if RETRIEVAL in graph.nodes else []
    for ranking in rankings:  # which grows
        names += graph.nodes[ranking].reads
        rankings += [name for name in graph.nodes[ranking].reads if fits(graph.nodes[name].ports.result, Ranking)]
    for name in [*names, *over_photos]:
        if fits(graph.nodes[name].ports.result, Features):
            return str(name)
    raise ConfigError("the preset of the reconstruction has no features, by which photos are compared: use another one")


def _views(
    graph: Graph,
    wanted: tuple[str, ...],
    photos: tuple[MappedPhoto, ...],
    store: Store,
    resources: Resources,
    progress: Progress | None,
) -> dict[str, Any]:
    """The values of the wanted nodes over photos, by node."""
    collection = Photos(tuple(each.photo for each in photos), {})
    nodes = {name: graph.nodes[name] for name in graph.nodes if name in _with_sources(graph, wanted)}
    done = run(Graph(nodes, wanted, None), collection, store, resources=resources, progress=progress)
    for failure in done.failures:
        raise InputError(f"{failure.photos[0]}, a photo of the model: {failure.node}: {failure.reason}")
    return {name: done.value(name) for name in wanted}


def _with_sources(graph: Graph, wanted: tuple[str, ...]) -> set[str]:
    """These nodes and all that they read: who asks for failures need not know the keys of the others."""
    found = set(wanted)
    for name in reversed(list(graph.nodes)):
        found |= set(graph.nodes[name].reads) if name in found else set()
    return found


def _check_photos(before: Sequence[MappedPhoto], detected: Sequence[MappedPhoto], views: dict[str, Any]) -> None:
    """InputError where the key points of most photos are those that their features have now, and of some are not: these
    are other files. Where none are, as with dense matches, or all are those of a closer look, nothing can be said."""
    pairs = [
        (mapped, now)
        for row, (mapped, now) in enumerate(zip(before, detected, strict=True))
        if any(
            isinstance(view[row], Features) and (mapped.keypoint < len(view[row].xy)).any() for view in views.values()
        )
    ]
    others = [mapped.photo for mapped, now in pairs if now is mapped]
    if others and 2 * len(others) < len(pairs):
        more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
        raise InputError(
            f"{others[0].path}{more}: it is not the photo {others[0].name} that the model was made of: say where the "
            "photos of the model are (--photos DIR)"
        )


def _detected(mapped: MappedPhoto, row: int, views: dict[str, Any]) -> MappedPhoto:
    """The photo with its key points as one of the nodes has detected them."""
    for view in views.values():
        if isinstance(view[row], Features):
            mapped = as_detected(mapped, view[row])
    return mapped
