"""The state of one run of a graph: which items each node has, under which keys, and what is known of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

from .artifact_rules import broken_rules
from .artifacts import InitialModels, Photos
from .cancel import Cancellation
from .errors import NoReconstruction, StageCrashed, UnposedError
from .executor import Argument, Executor, Item, Job, Piece, Watch, call, map_by
from .freed_memory import give_back_freed_memory
from .graph import PHOTOS, Graph, Node
from .item_failures import BrokenRule, Failure, is_bug, line_of, reason_of, reason_of_all
from .item_keys import WHOLE, ItemKeys
from .lazy_results import GroupView, PairView, PhotoView
from .meter import Meter, NodeReport
from .ports import Port, fits
from .progress import Progress, forward_step
from .stage import Grain, InputUnavailable, Resources, Sides, StageError
from .store.memo import StoredMemo
from .store.store import Store
from .threads import hold_this_thread

NAMED_RULES = 3
"""Broken rules that a message has."""


class Runner:
    """Works backwards: `ensure` makes an item's inputs only if the item itself is missing.

    What is known of a key: stored (None), stored failure (its reason), crashed, or dropped.
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
        preview: Callable[[InitialModels], None],
    ) -> None:
        self.graph, self.store, self.executor, self.resources = graph, store, executor, resources
        self._preview = preview
        self.photos = replace(photos, rejected={})  # what lies beside the photos must not change anything
        self.progress, self.cancellation, self.meter = progress, cancellation, Meter()
        self._asked: set[str] = set()
        """Nodes whose keys were looked up in the store."""
        self._stored: dict[str, str | None] = {}
        self._crashed: dict[str, str] = {}
        """Key to reason, where it is one of this moment: not stored, and tried again by the next run."""
        self._keys = ItemKeys(graph, photos, self.demand, self._crashed)
        self._dropped: set[str] = set()
        self._computed = dict.fromkeys(graph.nodes, 0)
        self._step_lock = threading.Lock()
        self.warnings: list[str] = []

    # What there is

    def _look_up(self, name: str) -> dict[Item, str]:
        """The keys of a node, after asking the store for them."""
        keys = self._keys.of(name)
        if name not in self._asked:
            self._stored.update(self.store.has(keys.values()))
            self._asked.add(name)
        return keys

    def _missing(self, name: str, wanted: Iterable[Item]) -> list[Item]:
        keys, known = self._look_up(name), (self._stored, self._crashed, self._dropped)
        return [item for item in wanted if not any(keys[item] in each for each in known)]

    def _there(self, name: str) -> list[Item]:
        """The items of a node that have a value."""
        return [item for item, key in self._look_up(name).items() if self._stored.get(key, "") is None]

    # Making sure that something is there

    def demand(self, name: str) -> Any:
        """The value of a node, or the view of its items; whatever is missing is computed first."""
        self.ensure(name, self._keys.items(name))
        return self._value(name, WHOLE) if self._is_whole(name) else self._view(name)

    def stored(self, name: str) -> Any | None:
        """The value of a node over the collection if it is stored; None otherwise: nothing is computed."""
        if not self._is_whole(name) or not self._is_known(name):
            return None
        key = self._look_up(name)[WHOLE]
        return self.store.get(key, self.graph.nodes[name].ports.result) if self._stored.get(key, "") is None else None

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
            keys = self._keys.of(name)
            self._dropped.update(keys[item] for item in set(missing) - set(ready))
            cause = self._compute(node, ready) if ready else None
            if not self._is_whole(name):
                self._end_if_all_failed(node, cause)

    def _needed(self, node: Node, source: str, items: list[Item]) -> list[Item]:
        """Which items of a source these items read."""
        grain, source_grain = node.ports.grain, self.graph.nodes[source].ports.grain
        if Grain.COLLECTION in (grain, source_grain):
            return self._keys.items(source)
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

    def _compute(self, node: Node, items: list[Item]) -> Exception | None:
        """Computes items, and gives the first exception of theirs if they have met with nothing else."""
        self.cancellation.check()
        name, keys = node.name, self._keys.of(node.name)
        unique = list({keys[item]: item for item in items}.values())  # the same photo may be there twice
        self.progress.begin(name, len(keys), len(keys) - len(unique))
        before, cause = self.meter.spent_s(name), None
        if self._is_whole(name):
            self._compute_whole(node)
        else:
            cause = self._compute_items(node, unique)
        self.progress.end(name, self.meter.spent_s(name) - before)
        return cause

    def _end_if_all_failed(self, node: Node, cause: Exception | None) -> None:
        """Raise what a stage met with that failed for every item it could be tried on, and that others need: what they
        would make of nothing would be blamed on the photos."""
        keys = set(self._keys.of(node.name).values())
        stored = [self._stored.get(key, self._crashed.get(key)) for key in keys - self._dropped]
        reasons = [reason for reason in stored if reason is not None]
        if not reasons or len(reasons) < len(stored):
            return
        line = reason_of_all(node.name, node.plugin, node.ports.grain, reasons)
        bug = cause is not None and is_bug(cause)
        if not self._is_dispensable(node.name):
            raise (StageCrashed(line) if bug else NoReconstruction(line)) from cause
        if bug:
            self._warn(f"{line}; the run goes on without it")

    def _compute_whole(self, node: Node) -> None:
        hold_this_thread()
        give_back_freed_memory()  # threads of other stages keep what this one cannot use
        resources = replace(
            self.resources,
            reporter=lambda *step: self._step(node.name, *step),
            mapper=partial(map_by, self.executor, self.resources, self._watch(node.name)),
            memo=StoredMemo(self.store, node.plugin),
        )
        try:
            arguments = {name: argument.value() for name, argument in self._arguments(node, WHOLE).items()}
            for each in arguments.values():
                if isinstance(each, InitialModels):
                    self._preview(each)
            self._save(node, WHOLE, call(node.stage, arguments, node.ports.lent, resources))
        except StageError as error:
            raise NoReconstruction(f"{node.name}: {line_of(error)}") from error
        except UnposedError:
            raise
        except Exception as error:
            reason = reason_of(error, node.name, self.resources.device)
            self._crashed[self._keys.of(node.name)[WHOLE]] = reason
            if not self._is_optional(node.name):
                if isinstance(error, InputUnavailable):
                    raise NoReconstruction(f"{node.name}: {reason}") from error
                met = ": " if isinstance(error, BrokenRule) else " with an unexpected "
                raise StageCrashed(f"{node.name} ({node.plugin}) failed{met}{reason}") from error
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

    def _is_dispensable(self, name: str) -> bool:
        """Whether the run can go on without any item of a node, such as one of a closer look at some photos."""
        readers = [reader for reader, node in self.graph.nodes.items() if name in node.reads]
        return name not in self.graph.outputs and all(
            name in self.graph.nodes[reader].optional_sources
            or (not self._is_whole(reader) and self._is_dispensable(reader))
            for reader in readers
        )

    def _go_on_without(self, name: str, reason: str) -> None:
        """Compute the readers of a crashed node as if the graph did not have it, under the keys of such a graph."""
        self._warn(f"{name} failed and was left out: {reason}; the next run tries it again")
        readers = [reader for reader, node in self.graph.nodes.items() if name in node.sources.values()]
        for reader in readers:
            self._look_up(reader)  # items that are stored keep their keys
        nodes = {
            reader: replace(node, sources={port: source for port, source in node.sources.items() if source != name})
            for reader, node in self.graph.nodes.items()
        }
        self.graph = self._keys.graph = replace(self.graph, nodes=nodes)
        self._rekey(readers)

    def _compute_items(self, node: Node, items: list[Item]) -> Exception | None:
        name, keys = node.name, self._keys.of(node.name)
        job = Job(
            node.stage,
            items,
            lambda item: self._arguments(node, item),
            lambda item, value: self._save(node, item, value),
            node.ports.lent,
            self._watch(name),
            self._decoding_bytes if PHOTOS in node.sources.values() else lambda item: 0,
        )
        any_crashed, cause = False, None
        with closing(self.executor.run(job, self.resources)) as outcomes:
            for item, error in outcomes:
                if error is None:
                    self._computed[name] += 1
                elif isinstance(error, StageError):
                    self._stored[keys[item]] = line_of(error)
                    self.store.put_failure(keys[item], line_of(error), stage=node.plugin)
                else:
                    self._crashed[keys[item]] = reason_of(error, name, self.resources.device)
                    any_crashed, cause = True, cause or error
                self.progress.advance(name, error is not None)
                self.cancellation.check()
        if any_crashed:
            self._rekey_readers(name)
        return cause

    def _decoding_bytes(self, item: Item) -> int:
        """Photos of a pair are decoded one after the other."""
        return max(self.photos[i].decoding_bytes for i in item)

    def _watch(self, name: str) -> Watch:
        return Watch(
            self.cancellation.check,
            self._warn,
            lambda *share: self.meter.count_elsewhere(name, *share),
            lambda items, seconds: self.progress.note(self._slow_line(name, items, seconds)),
        )

    def _slow_line(self, name: str, items: Sequence[Item], seconds: float) -> str:
        photos = " and ".join(self.photos[i].name for i in items[0]) if len(items) == 1 else f"{len(items)} items"
        plugin = self.graph.nodes[name].plugin
        return f"{name}: {photos} in work for {seconds / 60:.0f} min by {plugin}, which may hang: Ctrl-C keeps the rest"

    def _warn(self, line: str) -> None:
        self.warnings.append(line)
        self.progress.note(line)

    def _rekey_readers(self, name: str) -> None:
        """Items that would be made without a crashed one get keys that say so; those that are stored keep theirs."""
        self._rekey([reader for reader, node in self.graph.nodes.items() if name in node.sources.values()])

    def _rekey(self, readers: Iterable[str]) -> None:
        for reader in readers:
            if self._keys.has(reader):
                old, new = self._look_up(reader), self._keys.made_anew(reader)
                kept = {item: key if key in self._stored else new[item] for item, key in old.items()}
                self._keys.replace(reader, kept)
                self._asked.discard(reader)
                self._rekey_readers(reader)

    # Values, which always come from the store

    def _save(self, node: Node, item: Item, value: object) -> None:
        if not fits(type(value), node.ports.result):
            raise BrokenRule(f"{node.plugin} gives a {type(value).__name__}")
        sizes = [(self.photos[i].width, self.photos[i].height) for i in item]
        if wrong := broken_rules(value, sizes, len(self.photos)):
            raise BrokenRule(f"{node.plugin} gives what it must not: {'; '.join(wrong[:NAMED_RULES])}")
        key = self._keys.of(node.name)[item]
        self.store.put(key, value, stage=node.plugin)
        self._stored[key] = None

    def _value(self, name: str, item: Item) -> Any:
        key, kind = self._keys.of(name)[item], self.graph.nodes[name].ports.result
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

    def _arguments(self, node: Node, item: Item) -> dict[str, Argument]:
        return {port.name: self._argument(node, port, item) for port in node.ports.inputs}

    def _argument(self, node: Node, port: Port, item: Item) -> Argument:
        source, grain = node.sources.get(port.name), node.ports.grain
        if source is None:
            return Argument(Piece(f"default of {port.name}", lambda: port.default))
        by_photo = {Grain.PHOTO: None, Grain.PAIR: Sides}.get(grain, tuple)
        if source == PHOTOS:
            if grain is Grain.COLLECTION:
                return Argument(Piece(PHOTOS, lambda: self.photos))
            return Argument(
                *(Piece(f"photo {i}", partial(self.photos.__getitem__, i)) for i in item), container=by_photo
            )
        keys = self._keys.of(source)
        if self._keys.by_parts(node, port, source):
            parts = (Piece(f"{keys[WHOLE]} {i}", partial(self._part, source, i)) for i in item)
            return Argument(*parts, container=by_photo)
        if self._is_whole(source):
            return Argument(Piece(keys[WHOLE], partial(self._value, source, WHOLE)))
        if grain is Grain.COLLECTION:
            return Argument(Piece(f"all of {source}", partial(self._view, source)))
        if self.graph.nodes[source].ports.grain is grain:
            return Argument(Piece(keys[item], partial(self._value, source, item)))
        return Argument(*(Piece(keys[i,], partial(self._value, source, (i,))) for i in item), container=by_photo)

    def _part(self, source: str, photo: int) -> Any:
        return self._value(source, WHOLE).of_photo(photo)

    def _is_whole(self, name: str) -> bool:
        return self.graph.nodes[name].ports.grain is Grain.COLLECTION

    # What happened

    def _known(self, name: str) -> dict[Item, str]:
        """The keys of a node; none if the run has ended before it was known what its items are."""
        return self._look_up(name) if self._is_known(name) else {}

    def _is_known(self, name: str, visited: set[str] | None = None) -> bool:
        visited = set() if visited is None else visited  # the paths through a graph are many more than its nodes
        node, is_first = self.graph.nodes[name], name not in visited
        visited.add(name)
        if is_first and node.edges and not self._keys.has_items(name):
            if not self._is_known(node.edges, visited):
                return False
            if self._stored.get(self._look_up(node.edges)[WHOLE], "") is not None:
                return False
        return not is_first or all(self._is_known(source, visited) for source in node.reads)

    def failures(self) -> Iterator[Failure]:
        """Items that gave nothing, node by node."""
        for name in self.graph.nodes:
            for item, key in self._known(name).items():
                if reason := self._stored.get(key) or self._crashed.get(key):
                    yield Failure(name, tuple(self.photos[i].name for i in item), reason)

    def lost_photos(self) -> dict[str, str]:
        """Photos without a value of a node that the run needs, by name the reason."""
        alone = [each for each in self.failures() if len(each.photos) == 1 and not self._is_dispensable(each.node)]
        return {each.photos[0]: each.reason for each in alone}

    def report(self, name: str) -> NodeReport:
        """Counts and costs of a node."""
        keys, cost, computed = self._known(name), self.meter.costs[name], self._computed[name]
        failed = sum(bool(self._stored.get(key)) or key in self._crashed for key in keys.values())
        dropped = sum(key in self._dropped for key in keys.values())
        return NodeReport(
            self.graph.nodes[name].plugin,
            computed,
            max(0, sum(self._stored.get(key, "") is None for key in keys.values()) - computed),
            failed,
            dropped,
            round(cost.wall_s, 4),
            round(cost.cpu_s, 4),
            round(cost.peak_mb, 1),
            {machine: replace(share, cpu_s=round(share.cpu_s, 4)) for machine, share in sorted(cost.elsewhere.items())},
        )
