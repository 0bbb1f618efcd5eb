"""The state of one run of a graph: which items each node has, under which keys, and what is known of them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .artifacts import Photos, SceneGraph
from .cancel import Cancellation
from .errors import ConfigError, NoReconstruction, StageCrashed, UnposedError
from .executor import Executor, Item, Job, call, is_out_of_memory
from .graph import PHOTOS, Graph, Node
from .lazy_results import GroupView, PairView, PhotoView
from .meter import Meter
from .ports import Port, fits, wants_parts
from .progress import Progress, forward_step
from .stage import Grain, Resources, Sides, StageError
from .store.codec import encode
from .store.keys import digest, digest_all, photo_key, photos_key, stage_key
from .store.memo import StoredMemo
from .store.store import Store
from .threads import hold_this_thread

WHOLE: Item = ()
"""The only item of a node over the collection."""


@dataclass(frozen=True)
class Failure:
    """An item that gave nothing; what depends on it went without."""

    node: str
    photos: tuple[str, ...]
    """Names of the photo, or of the photos of the pair or group; empty for a stage over the collection."""
    reason: str


@dataclass(frozen=True)
class NodeReport:
    """What happened at a node."""

    plugin: str
    computed: int
    reused: int
    failed: int
    """Items that gave nothing, in this run or (stored) in an earlier one."""
    dropped: int
    """Items not tried, because what they need has failed."""
    wall_s: float
    cpu_s: float
    peak_mb: float


class Runner:
    """Works backwards: `ensure` makes an item's inputs only if the item itself is missing.

    Every item has a key before anything is computed, since a key says what an item is made of, not whether that can
    be made. What is known of a key: stored (None), stored failure (its reason), crashed, or dropped.
    """

    def __init__(
        self,
        graph: Graph,
        photos: Photos,
        store: Store,
        executor: Executor,
        resources: Resources,
        progress: Progress,
        cancellation: Cancellation,
    ) -> None:
        self.graph, self.store, self.executor, self.resources = graph, store, executor, resources
        self.photos = replace(photos, rejected={})  # what lies beside the photos must not change anything
        self.progress, self.cancellation, self.meter = progress, cancellation, Meter()
        self._stage_keys = {name: stage_key(node) for name, node in graph.nodes.items()}
        self._photo_keys = [photo_key(photo) for photo in photos.photos]
        self._photos_key = photos_key(photos)
        self._items: dict[str, list[Item]] = {}
        self._keys: dict[str, dict[Item, str]] = {}
        self._asked: set[str] = set()
        """Nodes whose keys were looked up in the store."""
        self._stored: dict[str, str | None] = {}
        self._crashed: dict[str, str] = {}
        """Key to reason, where it is one of this moment: not stored, and tried again by the next run."""
        self._dropped: set[str] = set()
        self._computed = dict.fromkeys(graph.nodes, 0)
        self._step_lock = threading.Lock()
        self.warnings: list[str] = []

    # What there is

    def items(self, name: str) -> list[Item]:
        """The items of a node, in order."""
        if name not in self._items:
            node = self.graph.nodes[name]
            if node.ports.grain is Grain.COLLECTION:
                self._items[name] = [WHOLE]
            elif node.ports.grain is Grain.PHOTO:
                self._items[name] = [(i,) for i in range(len(self.photos))]
            else:
                assert node.edges is not None  # by the checks of the graph
                edges: SceneGraph = self.demand(node.edges)
                _check_pairs(edges, node.edges, len(self.photos))
                self._items[name] = _pairs(edges) if node.ports.grain is Grain.PAIR else _stars(edges, node.group_size)
        return self._items[name]

    def keys(self, name: str) -> dict[Item, str]:
        """Key by item."""
        if name not in self._keys:
            node, items = self.graph.nodes[name], self.items(name)
            columns = [self._input_keys(node, port, source, items) for port, source in self._wiring(node)]
            head = [self._stage_keys[name], list(node.sources)]
            rows: Iterable[tuple[Any, ...]] = zip(*columns, strict=True) if columns else [()] * len(items)
            self._keys[name] = {item: digest(head, row) for item, row in zip(items, rows, strict=True)}
        return self._keys[name]

    def _wiring(self, node: Node) -> list[tuple[Port, str]]:
        return [(port, node.sources[port.name]) for port in node.ports.inputs if port.name in node.sources]

    def _by_parts(self, node: Node, port: Port, source: str) -> bool:
        """Whether the node reads the collection's value photo by photo."""
        return self._is_whole(source) and wants_parts(port, node.ports.grain, self.graph.nodes[source].ports.result)

    def _input_keys(self, node: Node, port: Port, source: str, items: list[Item]) -> list[Any]:
        """For each item the key, or keys, of what it reads from `source`."""
        grain = node.ports.grain
        if source == PHOTOS:
            whole = grain is Grain.COLLECTION
            return [self._photos_key if whole else [self._photo_keys[i] for i in item] for item in items]
        if self._by_parts(node, port, source):  # keyed by their content, so the value must be there
            value = self.demand(source)
            parts = {i: digest(encode(value.of_photo(i)).hex()) for i in {i for item in items for i in item}}
            return [[parts[i] for i in item] for item in items]
        keys, source_grain = self.keys(source), self.graph.nodes[source].ports.grain
        # A value made without an item that has crashed must not be taken for the one made with it.
        marked = {item: f"without {key}" if key in self._crashed else key for item, key in keys.items()}
        if source_grain is Grain.COLLECTION:
            return [keys[WHOLE]] * len(items)
        if grain is Grain.COLLECTION:
            return [digest_all(marked.items())]
        if grain is source_grain:
            return [marked[item] for item in items]
        return [[marked[i,] for i in item] for item in items]

    def _look_up(self, name: str) -> dict[Item, str]:
        """The keys of a node, after asking the store for them."""
        keys = self.keys(name)
        if name not in self._asked:
            self._stored.update(self.store.has(keys.values()))
            self._asked.add(name)
        return keys

    def _missing(self, name: str, wanted: Iterable[Item]) -> list[Item]:
        keys = self._look_up(name)
        known = (self._stored, self._crashed, self._dropped)
        return [item for item in wanted if not any(keys[item] in each for each in known)]

    def _there(self, name: str) -> list[Item]:
        """The items of a node that have a value."""
        return [item for item, key in self._look_up(name).items() if self._stored.get(key, "") is None]

    # Making sure that something is there

    def demand(self, name: str) -> Any:
        """The value of a node, or the view of its items; whatever is missing is computed first."""
        self.ensure(name, self.items(name))
        return self._value(name, WHOLE) if self._is_whole(name) else self._view(name)

    def ensure(self, name: str, wanted: Iterable[Item]) -> None:
        """Computes what is missing of the wanted items, and of what they need."""
        node = self.graph.nodes[name]
        with self.meter.charging(name):
            missing = self._missing(name, wanted)
            for source in node.sources.values() if missing else ():
                if source != PHOTOS:
                    self.ensure(source, self._needed(node, source, missing))
            node = self.graph.nodes[name]  # with fewer sources, if one has crashed that is optional
            missing = self._missing(name, missing)  # under other keys, if an input has crashed
            ready = self._ready(node, missing)
            keys = self.keys(name)
            self._dropped.update(keys[item] for item in set(missing) - set(ready))
            if ready:
                self._compute(node, ready)

    def _needed(self, node: Node, source: str, items: list[Item]) -> list[Item]:
        """Which items of a source these items read."""
        grain, source_grain = node.ports.grain, self.graph.nodes[source].ports.grain
        if Grain.COLLECTION in (grain, source_grain):
            return self.items(source)
        if grain is source_grain:
            return items
        return [(i,) for i in sorted({i for item in items for i in item})]

    def _ready(self, node: Node, items: list[Item]) -> list[Item]:
        """Those of the items whose inputs are all there. The collection makes do with what there is."""
        if node.ports.grain is Grain.COLLECTION:
            return items
        for source in node.sources.values():
            if source != PHOTOS and items:
                there = set(self._there(source))
                items = [item for item in items if there.issuperset(self._needed(node, source, [item]))]
        return items

    def _compute(self, node: Node, items: list[Item]) -> None:
        self.cancellation.check()
        name, keys = node.name, self.keys(node.name)
        unique = list({keys[item]: item for item in items}.values())  # the same photo may be there twice
        self.progress.begin(name, len(keys), len(keys) - len(unique))
        before = self.meter.spent_s(name)
        if self._is_whole(name):
            self._compute_whole(node)
        else:
            self._compute_items(node, unique)
        self.progress.end(name, self.meter.spent_s(name) - before)

    def _compute_whole(self, node: Node) -> None:
        hold_this_thread()
        memo = StoredMemo(self.store, node.plugin)
        resources = replace(self.resources, reporter=lambda *step: self._step(node.name, *step), memo=memo)
        try:
            self._save(node, WHOLE, call(node.stage, self._arguments(node, WHOLE), node.ports.lent, resources))
        except StageError as error:
            raise NoReconstruction(f"{node.name}: {_one_line(error)}") from error
        except UnposedError:
            raise
        except Exception as error:
            reason = self._reported(node, error)
            self._crashed[self.keys(node.name)[WHOLE]] = reason
            if not self._is_optional(node.name):
                raise StageCrashed(f"{node.name} ({node.plugin}) failed with an unexpected {reason}") from error
            self._go_on_without(node.name, reason)
            self.progress.advance(node.name, True)
        else:
            self._computed[node.name] += 1
            self.progress.advance(node.name, False)

    def _step(self, name: str, done: int, total: int, message: str) -> None:
        self.cancellation.check()
        with self._step_lock:
            forward_step(self.progress, name, done, total, message)

    def _is_optional(self, name: str) -> bool:
        """Whether all nodes that read this one can be computed without it."""
        readers = [node for node in self.graph.nodes.values() if name in node.reads]
        return name not in self.graph.outputs and all(name in node.optional_sources for node in readers)

    def _go_on_without(self, name: str, reason: str) -> None:
        """Compute the readers of a crashed node as if the graph did not have it, under the keys of such a graph."""
        self.warnings.append(f"{name} failed and was left out: unexpected {reason}; the next run tries it again")
        self.progress.note(self.warnings[-1])
        readers = [reader for reader, node in self.graph.nodes.items() if name in node.sources.values()]
        for reader in readers:
            self._look_up(reader)  # items that are stored keep their keys
        nodes = {
            reader: replace(node, sources={port: source for port, source in node.sources.items() if source != name})
            for reader, node in self.graph.nodes.items()
        }
        self.graph = replace(self.graph, nodes=nodes)
        self._rekey(readers)

    def _compute_items(self, node: Node, items: list[Item]) -> None:
        name, keys = node.name, self.keys(node.name)
        job = Job(
            node.stage,
            items,
            lambda item: self._arguments(node, item),
            lambda item, value: self._save(node, item, value),
            node.ports.lent,
        )
        any_crashed = False
        with closing(self.executor.run(job, self.resources)) as outcomes:
            for item, error in outcomes:
                if error is None:
                    self._computed[name] += 1
                elif isinstance(error, StageError):
                    self._stored[keys[item]] = _one_line(error)
                    self.store.put_failure(keys[item], _one_line(error), stage=node.plugin)
                else:
                    self._crashed[keys[item]] = self._reported(node, error)
                    any_crashed = True
                self.progress.advance(name, error is not None)
                self.cancellation.check()
        if any_crashed:
            self._rekey_readers(name)

    def _reported(self, node: Node, error: Exception) -> str:
        reason = f"{type(error).__name__}: {_one_line(error)}"
        if not is_out_of_memory(error):
            return reason
        instead = "" if self.resources.device == "cpu" else ", or use --device cpu"
        return f"not even one fits into memory: lower the sizes among the options of {node.name}{instead} ({reason})"

    def _rekey_readers(self, name: str) -> None:
        """Items that would be made without a crashed one get keys that say so; those that are stored keep theirs."""
        self._rekey([reader for reader, node in self.graph.nodes.items() if name in node.sources.values()])

    def _rekey(self, readers: Iterable[str]) -> None:
        for reader in readers:
            if reader in self._keys:
                old = self._look_up(reader)
                del self._keys[reader]
                new = self.keys(reader)
                self._keys[reader] = {item: key if key in self._stored else new[item] for item, key in old.items()}
                self._asked.discard(reader)
                self._rekey_readers(reader)

    # Values, which always come from the store

    def _save(self, node: Node, item: Item, value: object) -> None:
        if not fits(type(value), node.ports.result):
            raise TypeError(f"{node.plugin} has given a {type(value).__name__}")
        key = self.keys(node.name)[item]
        self.store.put(key, value, stage=node.plugin)
        self._stored[key] = None

    def _value(self, name: str, item: Item) -> Any:
        key, kind = self.keys(name)[item], self.graph.nodes[name].ports.result
        value = self.store.get(key, kind)
        if value is None:  # damaged, or pruned by someone else since we looked
            self._stored.pop(key, None)
            self.ensure(name, [item])
            value = self.store.get(key, kind)
        if value is None and key in self._crashed:
            raise LookupError(f"{name} gave no result: {self._crashed[key]}")
        if value is None:
            raise LookupError(f"what {name} had stored is lost, and could not be made again")
        return value

    def _view(self, name: str) -> PhotoView[Any] | PairView[Any] | GroupView[Any]:
        grain, there = self.graph.nodes[name].ports.grain, self._there(name)
        if grain is Grain.PHOTO:
            return PhotoView((i for (i,) in there), lambda i: self._value(name, (i,)))
        if grain is Grain.PAIR:
            return PairView(((a, b) for a, b in there), lambda pair: self._value(name, pair))
        return GroupView(there, lambda members: self._value(name, members))

    def _arguments(self, node: Node, item: Item) -> dict[str, Any]:
        return {port.name: self._argument(node, port, item) for port in node.ports.inputs}

    def _argument(self, node: Node, port: Port, item: Item) -> Any:
        source = node.sources.get(port.name)
        if source is None:
            return port.default
        if source == PHOTOS:
            if node.ports.grain is Grain.COLLECTION:
                return self.photos
            values = tuple(self.photos[i] for i in item)
        elif self._by_parts(node, port, source):
            value = self._value(source, WHOLE)
            values = tuple(value.of_photo(i) for i in item)
        elif self._is_whole(source):
            return self._value(source, WHOLE)
        elif node.ports.grain is Grain.COLLECTION:
            return self._view(source)
        elif self.graph.nodes[source].ports.grain is node.ports.grain:
            return self._value(source, item)
        else:
            values = tuple(self._value(source, (i,)) for i in item)
        if node.ports.grain is Grain.PHOTO:
            return values[0]
        return Sides(*values) if node.ports.grain is Grain.PAIR else values

    def _is_whole(self, name: str) -> bool:
        return self.graph.nodes[name].ports.grain is Grain.COLLECTION

    # What happened

    def _known(self, name: str) -> dict[Item, str]:
        """The keys of a node; none if the run has ended before it was known what its items are."""
        return self._look_up(name) if self._is_known(name) else {}

    def _is_known(self, name: str) -> bool:
        node = self.graph.nodes[name]
        if node.edges and name not in self._items:
            if not self._is_known(node.edges):
                return False
            if self._stored.get(self._look_up(node.edges)[WHOLE], "") is not None:
                return False
        return all(self._is_known(source) for source in node.reads)

    def failures(self) -> Iterator[Failure]:
        """Items that gave nothing, node by node."""
        for name in self.graph.nodes:
            for item, key in self._known(name).items():
                if reason := self._stored.get(key) or self._crashed.get(key):
                    yield Failure(name, tuple(self.photos[i].name for i in item), reason)

    def report(self, name: str) -> NodeReport:
        """Counts and costs of a node."""
        keys, cost = self._known(name), self.meter.costs[name]
        failed = sum(bool(self._stored.get(key)) or key in self._crashed for key in keys.values())
        dropped = sum(key in self._dropped for key in keys.values())
        computed = self._computed[name]
        return NodeReport(
            self.graph.nodes[name].plugin,
            computed,
            max(0, sum(self._stored.get(key, "") is None for key in keys.values()) - computed),
            failed,
            dropped,
            round(cost.wall_s, 4),
            round(cost.cpu_s, 4),
            round(cost.peak_mb, 1),
        )


def _check_pairs(edges: SceneGraph, name: str, photos: int) -> None:
    pairs = edges.pairs.reshape(-1, 2)
    ordered = np.all((pairs[:, 0] >= 0) & (pairs[:, 0] < pairs[:, 1]) & (pairs[:, 1] < photos))
    if not ordered or len(np.unique(pairs, axis=0)) != len(pairs):
        raise ConfigError(f"{name}: its plugin gave pairs that are not distinct (i, j), i < j < {photos}")


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


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
