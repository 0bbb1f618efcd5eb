"""The report and the overview of a run: gathers what they show, and writes them beside the models."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from unposed.optim.view_graph import ViewGraph
from unposed.pipeline.artifacts import CameraPriors, Doubts, Photos, Ranking, SceneGraph, SparseModels
from unposed.pipeline.engine import Run
from unposed.pipeline.graph import Graph
from unposed.pipeline.ports import fits

from .flags import FLAGS
from .options import DEFAULTS, RunOptions, Settings
from .output import OVERVIEW, REPORT
from .run_setup import setting_lines

if TYPE_CHECKING:
    from unposed.report.sources import ReportSources

T = TypeVar("T")

UNSAID = {"progress", "cancellation", "workers", "ram_bytes", "vram_bytes", "verify_photos"}
"""Fields of RunOptions that change no result, and say nothing about the next run."""


def gathered(
    graph: Graph, photos: Photos, sparse: SparseModels, summary: Mapping[str, Any], run: Run | None, command: str
) -> ReportSources:
    """What a report shows, as far as it is stored: nothing is computed for it."""
    from unposed.report.sources import ReportSources  # here: who wants no report waits for none

    tried = [each.pairs for each in _all_stored(graph, run, SceneGraph)]
    pairs = np.unique(np.concatenate(tried), axis=0) if tried else np.zeros((0, 2), np.int64)
    return ReportSources(
        photos,
        sparse,
        summary,
        command,
        pairs,
        _last_stored(graph, run, Ranking),
        _last_stored(graph, run, ViewGraph),
        _last_stored(graph, run, Doubts),
        _last_stored(graph, run, CameraPriors),
    )


def still_notes(graph: Graph, photos: Photos, summary: Mapping[str, Any], run: Run | None) -> list[str]:
    """A line about what stands still in photos of which there is no model, with the command that hides it."""
    from unposed.report.page import standing_still

    found = standing_still(gathered(graph, photos, SparseModels((), {}), summary, run, ""))
    return [f"{each.text.removesuffix('.')}; hide it by {each.command}, then --masks masks" for each in found]


def write_report(sources: ReportSources, folder: Path, note: Callable[[str], None]) -> None:
    """Write report.html and overview.jpg to `folder`. A report is no reason to lose a reconstruction: what goes wrong
    is noted in one line."""
    from unposed.report.overview import overview
    from unposed.report.page import report_page

    def page() -> None:
        (folder / REPORT).write_text(report_page(sources), encoding="utf-8", errors="backslashreplace")

    def picture() -> None:
        if sources.sparse.models:
            overview(sources.sparse.models[0]).save(folder / OVERVIEW, quality=88, optimize=True)

    for name, write in ((REPORT, page), (OVERVIEW, picture)):
        try:
            write()
        except Exception as error:
            (folder / name).unlink(missing_ok=True)
            note(f"no {name}, but everything else: {type(error).__name__}: {' '.join(str(error).split())}")


def run_command(
    photos: Sequence[str],
    out: Path,
    preset: str,
    settings: Settings,
    options: RunOptions,
    listed: Mapping[str, Sequence[str]],
    **said: object,
) -> str:
    """The line that repeats a run in a shell; options at their defaults are left out, those in `listed` may be there
    more than once."""
    words = ["unposed", "reconstruct", *photos, "-o", str(out), "--preset", preset]
    given = {each.name: getattr(options, each.name) for each in fields(options) if each.name not in UNSAID}
    changed = {name: value for name, value in given.items() if value != getattr(DEFAULTS, name)}
    for name, value in {**said, **changed}.items():
        if value is not None and value is not False:
            flag = (FLAGS[name].names or (f"--{name}",))[0]
            words += [flag] if value is True else [flag, str(value)]
    for name, values in {"settings": setting_lines(settings), **listed}.items():
        words += [word for value in values for word in ((FLAGS[name].names or (f"--{name}",))[0], value)]
    return shlex.join(words)


def _all_stored(graph: Graph, run: Run | None, kind: type[T]) -> list[T]:
    nodes = [] if run is None else [name for name, node in graph.nodes.items() if fits(node.ports.result, kind)]
    found = (run.stored(name) for name in nodes) if run is not None else ()
    return [value for value in found if isinstance(value, kind)]


def _last_stored(graph: Graph, run: Run | None, kind: type[T]) -> T | None:
    """The result of the last node of that kind, which a mapper would read."""
    found = _all_stored(graph, run, kind)
    return found[-1] if found else None
