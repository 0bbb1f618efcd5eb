"""The graph of a run: nodes of a preset, wired by parameter names and checked completely before any photo is read."""

from __future__ import annotations

import graphlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .artifacts import PhotoGroups, SceneGraph, SparseModels
from .config import build, did_you_mean, quoted
from .errors import ConfigError
from .ports import GRAIN_TABLE, GRAIN_TEXT, Port, Ports, fits, photos_port, port_text, read_ports, wants_parts
from .presets import RESERVED
from .registry import Registry
from .slots import SLOTS, STAGE_SLOTS
from .stage import Grain
from .weights.files import with_weights

PHOTOS = "photos"
EDGES, GROUPS = "graph", "groups"
GROUP_SIZE = 8


@dataclass(frozen=True)
class Node:
    """One stage of the graph."""

    name: str
    plugin: str
    """<slot>.<plugin>."""
    stage: Any
    """The configured instance; called with the values that its ports read."""
    ports: Ports
    sources: Mapping[str, str]
    """Parameter to the node it reads, in signature order; optional ones without a node are left out."""
    edges: str | None
    """The node whose edges a pair stage, or whose groups or stars a group stage runs over."""
    given: frozenset[str]
    """Options that the preset sets; the others have their defaults."""

    @property
    def optional_sources(self) -> frozenset[str]:
        """The nodes this one reads through parameters with a default only: it can be computed without them."""
        needed = {self.sources.get(port.name) for port in self.ports.inputs if not port.optional}
        return frozenset(self.sources.values()) - needed - {self.edges}

    @property
    def reads(self) -> tuple[str, ...]:
        """Nodes that this one reads, without `photos`."""
        wired = (*self.sources.values(), *([self.edges] if self.edges else []))
        return tuple(dict.fromkeys(source for source in wired if source != PHOTOS))

    @property
    def group_size(self) -> int:
        """Largest number of photos of one group."""
        return int(getattr(self.stage, "group_size", GROUP_SIZE))


@dataclass(frozen=True)
class Graph:
    """Nodes in topological order, the ones to compute, and the one that gives the result."""

    nodes: Mapping[str, Node]
    outputs: tuple[str, ...]
    result: str | None
    """The node whose SparseModels are the reconstruction; None if the graph computes something else."""


def without(graph: Graph, name: str) -> Graph | None:
    """The graph without a node and those that cannot be computed without it; None if an output is among these."""
    gone, kept = {name}, {}
    for each, node in graph.nodes.items():
        if each in gone or (set(node.reads) - node.optional_sources) & gone:
            gone.add(each)
        else:
            kept[each] = replace(node, sources={to: read for to, read in node.sources.items() if read not in gone})
    if gone.intersection((*graph.outputs, graph.result)):
        return None
    needed: set[str | None] = {*graph.outputs, graph.result}
    for each in reversed(list(kept)):
        needed |= set(kept[each].reads) if each in needed else set()
    return Graph({each: node for each, node in kept.items() if each in needed}, graph.outputs, graph.result)


def build_graph(preset: Mapping[str, Any], registry: Registry) -> Graph:
    """Build and check the graph of a preset; ConfigError names the wrong node, option or cycle."""
    declared = {name: value for name, value in preset.items() if name not in RESERVED}
    if PHOTOS in declared:
        raise ConfigError("photos: this node is always there and cannot be defined")
    meant = {name: _like(name, value, declared) for name, value in declared.items()}
    nodes = _over_own_pairs({name: _node(name, value, declared, registry) for name, value in meant.items()}, declared)
    order = _sorted(nodes)
    for node in (nodes[name] for name in order):
        _check_edges(node, nodes)
        for port in node.ports.inputs:
            if port.name in node.sources:
                _check_port(node, port, nodes)
    result = _result(nodes, order)
    outputs = _outputs(preset, nodes, result)
    _check_used(nodes, order, outputs)
    stages = with_weights({name: node.stage for name, node in nodes.items()})
    return Graph({name: replace(nodes[name], stage=stages[name]) for name in order}, outputs, result)


def _like(name: str, value: object, declared: Mapping[str, Any]) -> object:
    """A node that is `like` another has its plugin, options and wiring, except for those it sets itself.

    So a pair stage can run over two scene graphs, `seed_matching: {like: matching, from: {graph: seed_graph}}`; pairs
    of both are computed once, as their keys are equal.
    """
    if not isinstance(value, Mapping) or "like" not in value:
        return value
    own = {key: each for key, each in value.items() if key != "like"}
    model, other = value["like"], declared.get(value["like"]) if isinstance(value["like"], str) else None
    if not isinstance(other, Mapping):
        raise ConfigError(f"{name}.like: no such node {model!r}{did_you_mean(str(model), declared)}")
    if "use" in own:
        raise ConfigError(f"{name}: has both `use` and `like`; options of another node hold for its plugin only")
    if "like" in other:
        raise ConfigError(f"{name}.like: {model} is itself like {other['like']!r}: name that one")
    use, wiring = other.get("use"), (other.get("from", {}), own.get("from", {}))
    if isinstance(use, str) and "." not in use:
        own["use"] = f"{model}.{use}"  # the slot is that of the other's name
    if all(isinstance(each, Mapping) for each in wiring) and any(wiring):
        own["from"] = {**wiring[0], **wiring[1]}
    return {**other, **own}


def _over_own_pairs(nodes: Mapping[str, Node], declared: Mapping[str, Any]) -> dict[str, Node]:
    """Stages over pairs that read others over other pairs read copies of these over their own.

    So `{like: verification, from: {graph: more_graph}}` is whole, whatever lies between features and verification. A
    node that is `like` what is read, over the same pairs, is that copy.
    """
    found, waiting = dict(nodes), list(nodes)
    while waiting:
        node = found[waiting.pop(0)]
        sources = dict(node.sources)
        for parameter, source in node.sources.items():
            other = found.get(source)
            if other is None or other.ports.grain is not node.ports.grain or other.edges in (None, node.edges):
                continue
            same = {"like": source, "from": {EDGES: node.edges}}
            copy = next((name for name in nodes if declared[name] == same), f"{source} over {node.edges}")
            if copy not in found:
                found[copy] = replace(other, name=copy, edges=node.edges)
                waiting.append(copy)
            sources[parameter] = copy
        found[node.name] = replace(node, sources=sources)
    return found


def _node(name: str, value: object, declared: Iterable[str], registry: Registry) -> Node:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name}: expected {{use: plugin, ...options}}, got {quoted(value)}")
    options = dict(value)
    use, renames = options.pop("use", None), options.pop("from", {})
    if not isinstance(use, str):
        raise ConfigError(f"{name}.use: expected the name of a plugin, got {quoted(use)}")
    if not (isinstance(renames, Mapping) and all(isinstance(v, str) for v in renames.values())):
        raise ConfigError(f"{name}.from: expected a mapping of parameter to node, got {quoted(renames)}")
    head, dot, tail = use.partition(".")
    slot, plugin = (head, tail) if dot else (name, use)
    if slot not in STAGE_SLOTS:
        hint = f"no such slot{did_you_mean(slot, STAGE_SLOTS)}" if dot else f"{name} is no slot: write slot.{use}"
        if slot in SLOTS:
            hint = f"{slot} is not a part of the graph"
        raise ConfigError(f"{name}.use: {hint}")
    cls = registry.find(slot, plugin)
    ports = read_ports(cls)
    listing = {Grain.PAIR: (EDGES,), Grain.GROUP: (GROUPS, EDGES)}.get(ports.grain, ())
    parameters = {port.name for port in ports.inputs} | set(listing)
    for parameter in renames:
        if parameter not in parameters:
            raise ConfigError(f"{name}.from.{parameter}: no such parameter{did_you_mean(parameter, parameters)}")
    known = {*declared, PHOTOS}
    sources = {}
    for port in ports.inputs:
        source = renames.get(port.name, port.name)
        if source in known:
            sources[port.name] = source
        elif not port.optional or port.name in renames:
            raise ConfigError(f"{name}: needs a node {source!r}{_remedy(source, known, registry)}")
    named = [renames[each] for each in listing if each in renames]
    usual = [each for each in listing if each in declared and each != name]
    edges = [*named, *usual, EDGES][0] if listing else None
    if edges is not None and edges not in declared:
        raise ConfigError(f"{name}: runs over {GRAIN_TEXT[ports.grain]}, so it needs a node {edges!r} to list them")
    return Node(name, f"{slot}.{plugin}", build(cls, options, name), ports, sources, edges, frozenset(options))


def _remedy(source: str, known: Iterable[str], registry: Registry) -> str:
    """How to add a missing node: by a plugin of its slot, or by a near name."""
    plugins = sorted(info.name for info in registry.available() if info.slot == source)
    return f"; add `{source}: {{use: {plugins[0]}}}`" if plugins else did_you_mean(source, known)


def _sorted(nodes: Mapping[str, Node]) -> list[str]:
    try:
        return list(graphlib.TopologicalSorter({name: node.reads for name, node in nodes.items()}).static_order())
    except graphlib.CycleError as error:
        # graphlib names the cycle from the read node to its reader; users think along the arrow of reading.
        raise ConfigError(f"the graph has a cycle: {' reads '.join(reversed(error.args[1]))}") from None


def _check_edges(node: Node, nodes: Mapping[str, Node]) -> None:
    if node.edges is None:
        return
    ports = nodes[node.edges].ports
    wanted = SceneGraph | PhotoGroups if node.ports.grain is Grain.GROUP else SceneGraph
    if ports.grain is not Grain.COLLECTION or not fits(ports.result, wanted):
        gives = port_text(None, ports.result)
        raise ConfigError(f"{node.name}: wants the edges of a SceneGraph, node {node.edges!r} gives {gives}")


def _check_port(node: Node, port: Port, nodes: Mapping[str, Node]) -> None:
    source, grain = node.sources[port.name], node.ports.grain
    if source == PHOTOS:
        container, item = photos_port(grain)
    else:
        other = nodes[source]
        if other.ports.grain not in GRAIN_TABLE[grain]:
            raise ConfigError(
                f"{node.name}: runs over {GRAIN_TEXT[grain]} and cannot read node {source!r}, "
                f"which runs over {GRAIN_TEXT[other.ports.grain]}"
            )
        if node.edges and other.edges and node.group_size != other.group_size:
            raise ConfigError(f"{node.name}: runs over other {GRAIN_TEXT[grain]} than node {source!r}")
        container, item = GRAIN_TABLE[grain][other.ports.grain], other.ports.result
        if other.ports.grain is Grain.COLLECTION and wants_parts(port, grain, item):
            return
    if port.container is not container or not fits(item, port.item):
        raise ConfigError(f"{node.name}: wants {port}, node {source!r} gives {port_text(container, item)}")


def _result(nodes: Mapping[str, Node], order: list[str]) -> str | None:
    giving = [name for name in order if fits(nodes[name].ports.result, SparseModels)]
    return "fine" if "fine" in giving else giving[-1] if giving else None


def _outputs(preset: Mapping[str, Any], nodes: Mapping[str, Node], result: str | None) -> tuple[str, ...]:
    listed = preset.get("outputs", [])
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise ConfigError(f"outputs: expected a list of nodes, got {quoted(listed)}")
    for name in listed:
        if name not in nodes:
            raise ConfigError(f"outputs: no such node {name!r}{did_you_mean(name, nodes)}")
    if not listed and result is None:
        raise ConfigError("the graph gives nothing: it has neither a node that gives SparseModels nor `outputs`")
    return tuple(dict.fromkeys([*listed, *([result] if result else [])]))


def _check_used(nodes: Mapping[str, Node], order: list[str], outputs: tuple[str, ...]) -> None:
    used = set(outputs)
    for name in reversed(order):
        if name in used:
            used.update(nodes[name].reads)
    for name in nodes:
        if name not in used:
            raise ConfigError(f"{name}: no node reads it; remove it (`{name}: null`) or list it under `outputs`")
