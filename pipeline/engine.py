"""Run a graph: compute keys, reuse stored results, compute the rest, item by item.

The run works backwards from the outputs. If a value is stored, neither it nor its inputs are computed or read: with
everything stored, only the result is read (and the scene graph, since the keys of pairs depend on the pairs). Values
always go through the store: a stage never sees a value that was not written and read back, so a resumed run cannot
differ from an undisturbed one, and the items of a node are never in memory together.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from .artifacts import InitialModels, Photos, SparseModels
from .cancel import INTERRUPTED, Cancellation
from .errors import Interrupted, NoReconstruction, StageCrashed, UnposedError
from .executor import Executor, Local
from .graph import Graph, Node
from .item_failures import Failure
from .logs import module_logger
from .meter import NodeReport
from .progress import Progress, Quiet
from .resources import machine
from .runner import Runner
from .stage import Resources
from .store.store import Store
from .threads import one_thread_each

LOG = module_logger(__name__)

__all__ = ["Failure", "NodeReport", "Run", "run"]


class Run:
    """The results of a run. Values are loaded on request, or computed if not stored, while the store is open."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    @property
    def sparse(self) -> SparseModels | None:
        """The reconstruction; None if the graph computes something else."""
        result = self._runner.graph.result
        sparse: SparseModels | None = self.value(result) if result else None
        return sparse

    def value(self, node: str) -> Any:
        """The value of a node over the collection, else a lazy PerPhoto, PerPair or PerGroup of its items."""
        with one_thread_each():
            return self._runner.demand(node)

    def stored(self, node: str) -> Any | None:
        """The value of a node over the collection if there is one; None otherwise, and nothing is computed."""
        with one_thread_each():
            return self._runner.stored(node)

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Items that gave nothing, node by node."""
        return tuple(self._runner.failures())

    @property
    def lost_photos(self) -> dict[str, str]:
        """Photos without something that the run needs of each, such as damaged ones: by name the reason."""
        return self._runner.lost_photos()

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line for each node that failed and was left out."""
        return tuple(self._runner.warnings)

    @property
    def nodes(self) -> Mapping[str, NodeReport]:
        """Report by node, in the order of the graph."""
        return {name: self._runner.report(name) for name in self._runner.graph.nodes}


def run(
    graph: Graph,
    photos: Photos,
    store: Store,
    executor: Executor | None = None,
    resources: Resources | None = None,
    progress: Progress | None = None,
    seed: int = 0,
    effort: float = 1.0,
    cancellation: Cancellation | None = None,
    preview: Callable[[InitialModels], None] = lambda models: None,
) -> Run:
    """Compute the outputs of the graph. `seed` and `effort` go to all stages that have such a field and leave it open.
    `preview` hears the models that a stage is about to refine.

    Items that fail are recorded and left out, and so is a stage over the collection that has a bug, if its readers can
    do without. Raises NoReconstruction if a stage over the collection cannot work (StageError), StageCrashed if it, or
    anything else, has a bug; both have the Run up to there. Raises Interrupted after Ctrl-C or `cancellation.cancel()`,
    with everything stored that was finished.
    """
    resources = resources or machine()
    LOG.debug("computing %s from %d photos with %r", ", ".join(graph.outputs), len(photos.photos), resources)
    runner = Runner(
        with_run_values(graph, seed=seed, effort=effort),
        photos,
        store,
        executor or Local(),
        resources,
        progress or Quiet(),
        cancellation or Cancellation(),
        preview,
    )
    try:
        with runner.meter.running(), one_thread_each():
            for node in graph.outputs:
                runner.demand(node)
    except (NoReconstruction, StageCrashed) as error:
        error.run = Run(runner)
        raise
    except KeyboardInterrupt:
        raise Interrupted(INTERRUPTED) from None
    except UnposedError:
        raise
    except Exception as error:  # a bug outside of the stages, such as in an executor
        crash = StageCrashed(
            f"the run failed with an unexpected {type(error).__name__}: {' '.join(str(error).split())}"
        )
        crash.run = Run(runner)
        raise crash from error
    finished = Run(runner)
    if LOG.isEnabledFor(logging.DEBUG):
        for name, report in finished.nodes.items():
            LOG.debug("%s: %r", name, report)
    return finished


def with_run_values(graph: Graph, **values: Any) -> Graph:
    """The graph with fields of its stages set to values of the run, where a field of that name is there and the preset
    leaves it open."""

    def filled(node: Node) -> Node:
        open_fields = getattr(node.stage, "__dataclass_fields__", {}).keys() - node.given
        own = {name: value for name, value in values.items() if name in open_fields}
        return replace(node, stage=replace(node.stage, **own)) if own else node

    return replace(graph, nodes={name: filled(node) for name, node in graph.nodes.items()})
