"""What every part of the run is given, what it finds, and how cases are run so that a failed one stops no other."""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from unposed.gpu_check import DeviceSpeed
from unposed.optim.bundle.torch_schur import product_kernel_problem
from unposed.optim.pair.reciprocal_on_device import search_kernel_problem

OPTIONAL = ("triton", "PIL", "cv2", "pycolmap", "poselib", "faiss", "kornia", "threadpoolctl")
"""Libraries that some cases need: used where present, named where absent."""

Figure = float | int | str
Figures = Mapping[str, Figure]


@dataclass(frozen=True)
class Setting:
    """The machine, and how large the cases are."""

    device: torch.device
    small: bool
    """Sizes for a CPU, in seconds."""
    folder: Path
    """For files that cases need; results go there, too."""
    speed: DeviceSpeed

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"


@dataclass(frozen=True)
class Finding:
    """What one case has measured."""

    figures: Figures
    predicted: Figures = field(default_factory=dict)
    """The same from operations and bytes, before anything was measured but the speed of plain operations."""
    passed: bool | None = None
    """Whether it agrees with the CPU, for cases that ask that."""


@dataclass(frozen=True)
class Row:
    """One case in the table."""

    part: str
    case: str
    finding: Finding | None
    problem: str = ""
    seconds: float = 0.0


Case = tuple[str, Callable[[], Finding]]


class Absent(Exception):
    """A case needs a library that is not installed, or hardware that is not there; the message says which."""


def needs(*modules: str) -> None:
    """Raise Absent unless these are installed."""
    if missing := [name for name in modules if find_spec(name) is None]:
        raise Absent(f"not run: {' and '.join(missing)} not installed")


@dataclass(frozen=True)
class Patience:
    """How long a case may take, and what is done where it takes longer."""

    seconds: float = threading.TIMEOUT_MAX
    give_up: Callable[[Row], None] = lambda row: None
    """Called in a thread of its own while the case still runs, with the row that it ends as."""

    @contextmanager
    def watching(self, part: str, case: str) -> Iterator[None]:
        row = Row(part, case, None, f"hangs: no end after {self.seconds:.0f} s", self.seconds)
        timer = threading.Timer(self.seconds, self.give_up, (row,))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def run_cases(
    part: str,
    cases: Iterator[Case],
    until: float,
    known: Collection[str] = (),
    patience: Patience = Patience(),
) -> Iterator[Row]:
    """Run cases until a time of `time.monotonic`; those that begin later are named and not run, `known` ones left
    out."""
    try:
        for name, measure in cases:
            if name in known:
                continue
            start = time.monotonic()
            if start > until:
                yield Row(part, name, None, "not run: the time of this part is up")
                continue
            try:
                with patience.watching(part, name):
                    row = Row(part, name, measure(), seconds=time.monotonic() - start)
            except Absent as reason:
                row = Row(part, name, None, str(reason))
            except Exception as error:  # whatever a card, a driver or an old library may raise: the table names it
                row = Row(part, name, None, problem_of(error), time.monotonic() - start)
            yield row
            release()
    except Exception as error:  # between the cases, where their inputs are made and freed
        yield Row(part, "further cases", None, problem_of(error))


def problem_of(error: Exception) -> str:
    """The kind of error and the first line of what it says."""
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first[:160]}"


def release() -> None:
    """Return what cases have left on the device, if it still answers."""
    if torch.cuda.is_available():
        with suppress(RuntimeError):  # after an illegal access every call raises
            torch.cuda.empty_cache()


def machine_facts(device: torch.device) -> dict[str, Any]:
    """Versions and the card."""
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "present": [name for name in OPTIONAL if find_spec(name) is not None],
        "absent": [name for name in OPTIONAL if find_spec(name) is None],
    }
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        facts |= {
            "card": card.name,
            "capability": f"{card.major}.{card.minor}",
            "memory_gib": round(card.total_memory / 2**30, 1),
            "multiprocessors": card.multi_processor_count,
            "cudnn": torch.backends.cudnn.version(),
            "kernels of dense matching": search_kernel_problem(device) or "run",
            "kernels of bundle adjustment": product_kernel_problem(device) or "run",
        }
    else:
        facts |= {"card": "none: CPU", "threads": torch.get_num_threads()}
    return facts
