"""What runs on a machine of a cluster: one process that computes blocks of items. Ray is not imported here.

A block comes with a table of values, each once however many of its items read it, and goes through the executor
`local`: batches, memory that runs out and items that fail alone are the same as on one machine.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from unposed.pipeline.artifacts import Photo
from unposed.pipeline.environment import LIBRARIES, cpu_kind, library_versions
from unposed.pipeline.errors import UnposedError
from unposed.pipeline.executor import Argument, Item, Job, Local, Piece
from unposed.pipeline.resources import machine
from unposed.pipeline.stage import Resources
from unposed.pipeline.store.content import content_hash
from unposed.pipeline.threads import one_thread_each
from unposed.pipeline.weights.files import find_weights

from .photo_files import NoRoom, PhotoFiles, PhotoMissing

SAME = ("unposed", "ray")
"""Distributions whose version must be the driver's."""
ROUNDING = (*LIBRARIES, "CPU")
"""What the last bits of results depend on."""


class Large(NamedTuple):
    """The place of a value that comes beside the table, among the large ones."""

    number: int


Row = tuple[Item, tuple[tuple[str, type | None, tuple[int, ...]], ...]]
"""An item, and for each of its arguments the name, the container and the places of its values in the table."""


@dataclass(frozen=True)
class BlockResult:
    """What came of a block."""

    values: list[tuple[Item, Any]] = field(default_factory=list)
    errors: list[tuple[Item, Exception]] = field(default_factory=list)
    seconds: float = 0.0
    cpu_s: float = 0.0
    """Of this process since the last block, with what it took to receive this one."""
    missing: tuple[str, ...] = ()
    """Contents of photos that this machine lacks; then nothing was computed."""
    problem: str = ""
    """Why this machine cannot compute the stage; then nothing was computed."""


@dataclass(frozen=True)
class Introduction:
    """What a worker says of itself when it starts."""

    versions: Mapping[str, str]
    resources: Resources | None
    problem: str = ""


def installed_versions() -> dict[str, str]:
    """Python, the distributions and the CPU, which have to be the same, or nearly, on all machines."""
    found = {**library_versions(), "CPU": cpu_kind()}
    for name in SAME:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


class BlockWorker:
    """Computes blocks, one after the other, on a CPU (`device` cpu) or on the GPU that Ray lends its process."""

    def __init__(self, device: str, run_name: str, at_home: bool) -> None:
        self._device, self._files = device, PhotoFiles(run_name, at_home)
        self._cpu_s = time.process_time()
        self._held = one_thread_each()  # as long as this lives, which is as long as the process
        self._held.__enter__()

    def introduce(self) -> Introduction:
        """Versions, and what this machine has for all its workers together."""
        try:
            return Introduction(installed_versions(), machine(self._device, 1))
        except UnposedError as error:
            return Introduction(installed_versions(), None, str(error))

    def tidy(self) -> None:
        """Remove the photos that were sent to this machine."""
        self._files.tidy()

    def compute(
        self,
        sealed: bytes,
        lent: Resources,
        rows: Sequence[Row],
        table: Sequence[Any],
        sent: Mapping[str, Callable[[], bytes]],
        *large: Any,
    ) -> BlockResult:
        """Compute the items of `rows` by the stage that is pickled in `sealed`."""
        begun = time.perf_counter()
        try:
            stage, names = _unsealed(sealed)
        except Exception as error:  # a stranger's module may raise anything while it is imported
            return BlockResult(problem=_problem(error))
        values = [large[value.number] if isinstance(value, Large) else value for value in table]
        missing = []
        try:
            for place, value in enumerate(values):
                if isinstance(value, Photo):
                    try:
                        values[place] = self._files.located(value, sent)
                    except PhotoMissing as error:
                        missing.append(str(error))
        except NoRoom as error:
            return BlockResult(problem=str(error))
        if missing:
            return BlockResult(missing=tuple(missing))
        results: dict[Item, Any] = {}
        job = Job(stage, [item for item, _ in rows], _reader(rows, values), results.__setitem__, names)
        errors = [(item, portable(error)) for item, error in Local().run(job, lent) if error is not None]
        used, self._cpu_s = self._cpu_s, time.process_time()
        return BlockResult(list(results.items()), errors, time.perf_counter() - begun, self._cpu_s - used)


def _reader(rows: Sequence[Row], values: Sequence[Any]) -> Callable[[Item], dict[str, Argument]]:
    by_item = dict(rows)

    def read(item: Item) -> dict[str, Argument]:
        return {
            name: Argument(*(Piece("", _value_at(values, place)) for place in places), container=container)
            for name, container, places in by_item[item]
        }

    return read


def _value_at(values: Sequence[Any], place: int) -> Callable[[], Any]:
    """Gives one value of the table."""
    return lambda: values[place]


def portable(error: Exception) -> Exception:
    """The exception itself if it can cross to another process, else one of the same name that says the same."""
    try:
        copy = pickle.loads(pickle.dumps(error))
        if type(copy) is type(error) and str(copy) == str(error):
            return error
    except Exception:  # pickling may call anything
        pass
    return RuntimeError(f"{type(error).__name__}: {error}")


@lru_cache(maxsize=8)
def _unsealed(sealed: bytes) -> tuple[Any, frozenset[str]]:
    stage, lent, contents = pickle.loads(sealed)
    return _with_files(stage, contents), lent


def _with_files(stage: Any, contents: Mapping[str, str]) -> Any:
    """The stage with files of this machine, such as weights, in the place of the driver's: the same bytes."""
    found = {name: _file_here(getattr(stage, name), content) for name, content in contents.items()}
    return replace(stage, **found) if found else stage


def _file_here(path: Path, content: str) -> Path:
    for candidate in (path, find_weights(path.name)):
        if candidate is not None and candidate.is_file() and content_hash(candidate) == content:
            return candidate
    raise FileNotFoundError(f"it lacks the file {path.name}: put it into the folder of weights there ({path} here)")


def sealed_stage(stage: Any, lent: frozenset[str], dumps: Callable[[Any], bytes]) -> bytes:
    """A stage in the form in which it crosses, with the hashes of its files."""
    paths = {f.name: getattr(stage, f.name) for f in fields(stage)} if is_dataclass(stage) else {}
    return dumps((stage, lent, {name: content_hash(path) for name, path in paths.items() if isinstance(path, Path)}))


def _problem(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"it lacks the Python package {(error.name or str(error)).partition('.')[0]}: install it there as here"
    if isinstance(error, FileNotFoundError) and error.errno is None:
        return str(error)
    return f"it cannot load the stage ({type(error).__name__}: {' '.join(str(error).split())})"
