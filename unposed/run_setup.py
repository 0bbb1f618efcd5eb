"""Preset, machine and store of a run, common to reconstruct, pairs and pairwise."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields, replace
from math import inf
from pathlib import Path
from typing import Any

from unposed.optim.byte_products import torch_imported_if
from unposed.pipeline.artifacts import InitialModels, Photos
from unposed.pipeline.config import build
from unposed.pipeline.engine import Run, run
from unposed.pipeline.errors import ConfigError
from unposed.pipeline.executor import Executor
from unposed.pipeline.graph import Graph, build_graph
from unposed.pipeline.presets import read_preset
from unposed.pipeline.progress import Progress
from unposed.pipeline.registry import Registry
from unposed.pipeline.resources import machine
from unposed.pipeline.stage import Resources
from unposed.pipeline.store.overlay import open_store
from unposed.pipeline.store.store import Store, default_folder
from unposed.pipeline.weights.catalogue import entry
from unposed.pipeline.weights.files import find_weights

from .clip_pairs import with_clips
from .memory_budget import affordable, fitting, lendable_bytes, recent_bytes
from .options import EFFORTS, RunOptions, Settings
from .posed_pairs import with_settings
from .reproducible import require_reproducible
from .run_log import Silent

ANYWHERE = "classic"
"""Preset that needs no GPU and no download."""

NETWORKS = {"da3": ("da3-base",), "mast3r": ("mast3r", "mast3r-retrieval", "mast3r-codebook")}
"""Presets that are worth a try where their published weights are, first the one whose weights may be used for any
purpose. `auto` chooses none of them, as none has been judged with these weights."""

ONLY_WITH_GPU = frozenset({"mast3r"})
"""Those of them that take minutes a photo without one."""


@dataclass(frozen=True)
class Workplace:
    """The options of a run, resolved for this machine."""

    options: RunOptions
    resources: Resources
    executor: Executor
    cache: Path
    torch: bool = True
    """Whether torch may be imported for the sake of speed."""

    def affordable(self, graph: Graph, note: Callable[[str], None]) -> Graph:
        """The graph without stages that it can do without, and that the memory of the run does not allow."""
        return affordable(self.resources, self.options.ram_bytes, graph, note)

    def fitting(self, graph: Graph, photos: Photos, note: Callable[[str], None]) -> tuple[Workplace, Photos]:
        """The same with the memory that stages may use, and the photos that can be decoded in it."""
        fit = fitting(self.resources, self.options.ram_bytes, graph, photos, note)
        return replace(self, resources=fit.resources, torch=fit.torch), fit.photos

    def open_store(self, report: Callable[[str], None]) -> Store:
        """The store of the run, with no more of it in memory than that allows."""
        return open_store(self.cache, report, recent_bytes(self.options.ram_bytes))

    def run(
        self,
        graph: Graph,
        photos: Photos,
        store: Store,
        progress: Progress,
        preview: Callable[[InitialModels], None] = lambda models: None,
    ) -> Run:
        """Compute the outputs of the graph; `preview` hears the models that a stage is about to refine."""
        with torch_imported_if(self.torch):
            return run(
                graph,
                photos,
                store,
                self.executor,
                self.resources,
                progress,
                self.options.seed,
                effort_of(self.options.effort),
                cancellation=self.options.cancellation,
                preview=preview,
            )


@contextmanager
def workplace(options: RunOptions) -> Iterator[tuple[Workplace, Progress]]:
    """Prepare the machine, executor and progress of a run; the progress is closed in the end."""
    if options.reproducible:
        require_reproducible()
    with closing(options.progress or Silent()) as shown:
        executor = chosen_executor(options)
        elsewhere = hasattr(executor, "device") and options.device == "cuda"  # then there need be none here
        device = "auto" if elsewhere else options.device
        resources = machine(device, options.workers, options.ram_bytes, options.vram_bytes)
        if options.ram_bytes is not None:  # which is for the whole process
            resources = replace(resources, ram_bytes=max(1, lendable_bytes(options.ram_bytes)))
        try:
            yield Workplace(options, resources, executor, cache_folder(options)), shown
        finally:
            getattr(executor, "close", lambda: None)()


def chosen_executor(options: RunOptions) -> Executor:
    """The plugin, configured. What follows a colon is its option `address`; of `device` and `workers` it is told what
    was asked for, if it has options of these names."""
    name, _, address = options.executor.partition(":")
    cls = Registry().find("executor", name)
    known = {field.name for field in fields(cls)}
    if address and "address" not in known:
        raise ConfigError(f"executor {name} works on this machine: leave out {address!r}, or use ray:{address}")
    asked = {"address": address or None, "device": options.device, "workers": options.workers}
    given = {key: value for key, value in asked.items() if key in known and value is not None}
    executor: Executor = build(cls, given, f"executor.{name}")
    return executor


def cache_folder(options: RunOptions) -> Path:
    """Folder of stored results."""
    return default_folder() if options.cache is None else Path(options.cache)


def effort_of(effort: str | float) -> float:
    """Factor of the budgets of second helpings; ConfigError names the words that stand for one."""
    if isinstance(effort, str):
        if effort not in EFFORTS:
            raise ConfigError(f"effort: expected {', '.join(EFFORTS)} or a number, got {effort!r}")
        return EFFORTS[effort]
    if not 0.0 <= effort < inf:
        raise ConfigError(f"effort: expected a number of at least 0, got {effort}")
    return float(effort)


def chosen_preset(preset: str | Path) -> str:
    """Name of the preset; `auto` is the one that was judged on real photos, GPU or not."""
    return ANYWHERE if preset == "auto" else str(preset)


def preset_worth_a_try(device: str) -> str | None:
    """The first preset with networks whose weights are here, and that suits this device.

    Files alone are looked for: to check its graph, PyTorch would be loaded, which takes seconds.
    """
    for preset, weights in NETWORKS.items():
        if preset in ONLY_WITH_GPU and not device.startswith("cuda"):
            continue
        if all(find_weights(entry(name).file) for name in weights):
            return preset
    return None


def setting_lines(settings: Settings) -> list[str]:
    """Settings as lines `node.key=value`."""
    return [f"{k}={json.dumps(v)}" for k, v in settings.items()] if isinstance(settings, Mapping) else list(settings)


def typed_command(words: Sequence[str], settings: Settings) -> str:
    """The command line with settings, as it is typed in a shell."""
    return shlex.join(["unposed", *words, *(word for line in setting_lines(settings) for word in ("--set", line))])


def checked_graph(
    preset: str,
    settings: Settings,
    cameras: Mapping[str, Any] | None = None,
    registry: Registry | None = None,
    *,
    clips: bool = False,
) -> Graph:
    """The graph of a reconstruction, checked before any photo is read; poses that are given choose pairs, too, and so
    do `clips`, where photos are frames of some.

    cameras: settings of the node of that name; None values are ignored. registry: what it finds is imported and checked
    once, for many graphs; a new one if None.
    """
    given = {key: str(value) for key, value in (cameras or {}).items() if value is not None}
    lines = [*setting_lines(settings), *setting_lines({f"cameras.{key}": value for key, value in given.items()})]
    changed = with_clips if clips else with_settings
    graph = build_graph(changed(read_preset(preset), lines), registry or Registry())
    if graph.result is None:
        raise ConfigError(f"{preset}: no node gives SparseModels, so there would be no reconstruction")
    return graph
