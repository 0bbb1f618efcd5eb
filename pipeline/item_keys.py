"""The items of every node and their keys.

Every item has a key before anything is computed, since a key says what an item is made of, not whether that can be
made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from .artifacts import PhotoGroups, Photos, SceneGraph
from .executor import Item
from .graph import PHOTOS, Graph, Node
from .ports import Port, wants_parts
from .stage import Grain
from .store.codec import encode
from .store.keys import digest, digest_all, photo_key, photos_key, stage_key

WHOLE: Item = ()
"""The only item of a node over the collection."""


class ItemKeys:
    """Items and keys by node, made when they are first asked for.

    `demand` gives the value of a node over the collection, which pairs and parts by photo depend on; `crashed` has the
    keys of items that gave nothing in this run.
    """

    def __init__(
        self, graph: Graph, photos: Photos, demand: Callable[[str], Any], crashed: Mapping[str, object]
    ) -> None:
        self.graph, self._photos, self._demand, self._crashed = graph, photos, demand, crashed
        self._stage_keys = {name: stage_key(node) for name, node in graph.nodes.items()}
        self._photo_keys = [photo_key(photo) for photo in photos.photos]
        self._photos_key = photos_key(photos)
        self._items: dict[str, list[Item]] = {}
        self._keys: dict[str, dict[Item, str]] = {}

    def items(self, name: str) -> list[Item]:
        """The items of a node, in order."""
        if name not in self._items:
            node = self.graph.nodes[name]
            if node.ports.grain is Grain.COLLECTION:
                self._items[name] = [WHOLE]
            elif node.ports.grain is Grain.PHOTO:
                self._items[name] = [(i,) for i in range(len(self._photos))]
            else:
                assert node.edges is not None  # by the checks of the graph
                edges: SceneGraph | PhotoGroups = self._demand(node.edges)
                if isinstance(edges, PhotoGroups):
                    self._items[name] = _groups(edges)
                else:
                    pairs = node.ports.grain is Grain.PAIR
                    self._items[name] = _pairs(edges) if pairs else _stars(edges, node.group_size)
        return self._items[name]

    def has_items(self, name: str) -> bool:
        """Whether the items of a node are known already."""
        return name in self._items

    def has(self, name: str) -> bool:
        """Whether the keys of a node are known already."""
        return name in self._keys

    def of(self, name: str) -> dict[Item, str]:
        """Key by item."""
        if name not in self._keys:
            self._keys[name] = self.made_anew(name)
        return self._keys[name]

    def made_anew(self, name: str) -> dict[Item, str]:
        """The same from what the node reads now."""
        node, items = self.graph.nodes[name], self.items(name)
        columns = [self._input_keys(node, port, source, items) for port, source in wiring(node)]
        head = [self._stage_keys[name], list(node.sources)]
        rows: Iterable[tuple[Any, ...]] = zip(*columns, strict=True) if columns else [()] * len(items)
        return {item: digest(head, row) for item, row in zip(items, rows, strict=True)}

    def replace(self, name: str, keys: dict[Item, str]) -> None:
        """Take other keys for the items of a node from now on."""
        self._keys[name] = keys

    def by_parts(self, node: Node, port: Port, source: str) -> bool:
        """Whether the node reads the collection's value photo by photo."""
        given = self.graph.nodes[source].ports
        return given.grain is Grain.COLLECTION and wants_parts(port, node.ports.grain, given.result)

    def _input_keys(self, node: Node, port: Port, source: str, items: list[Item]) -> list[Any]:
        """For each item the key, or keys, of what it reads from `source`."""
        grain = node.ports.grain
        if source == PHOTOS:
            whole = grain is Grain.COLLECTION
            return [self._photos_key if whole else [self._photo_keys[i] for i in item] for item in items]
        if self.by_parts(node, port, source):  # keyed by their content, so the value must be there
            value = self._demand(source)
            parts = {i: digest(encode(value.of_photo(i)).hex()) for i in {i for item in items for i in item}}
            return [[parts[i] for i in item] for item in items]
        keys, source_grain = self.of(source), self.graph.nodes[source].ports.grain
        # A value made without an item that has crashed must not be taken for the one made with it.
        marked = {item: f"without {key}" if key in self._crashed else key for item, key in keys.items()}
        if source_grain is Grain.COLLECTION:
            return [keys[WHOLE]] * len(items)
        if grain is Grain.COLLECTION:
            return [digest_all(marked.items())]
        if grain is source_grain:
            return [marked[item] for item in items]
        return [[marked[i,] for i in item] for item in items]


def wiring(node: Node) -> list[tuple[Port, str]]:
    """The ports that a node feeds, each with that node."""
    return [(port, node.sources[port.name]) for port in node.ports.inputs if port.name in node.sources]


def _groups(chosen: PhotoGroups) -> list[Item]:
    """The groups, each once."""
    return list(dict.fromkeys(tuple(group.tolist()) for group in chosen.groups))


def _pairs(edges: SceneGraph) -> list[Item]:
    return [(a, b) for a, b in edges.pairs.tolist()]


def _stars(edges: SceneGraph, size: int) -> list[Item]:
    """Every photo with its best neighbours, at most `size` together."""
    order = np.argsort(-edges.similarity, kind="stable")
    neighbours: dict[int, list[int]] = {}
    for a, b in edges.pairs[order].tolist():
        neighbours.setdefault(a, []).append(b)
        neighbours.setdefault(b, []).append(a)
    return [(centre, *neighbours[centre][: size - 1]) for centre in sorted(neighbours)]
