"""What every part of the run is given, what it finds, and how cases are run so that a failed one stops no other."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Mapping
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


def run_cases(part: str, cases: Iterator[Case], until: float) -> Iterator[Row]:
    """Run cases until a time of `time.monotonic`; those that begin later are named and not run."""
    for name, measure in cases:
        start = time.monotonic()
        if start > until:
            yield Row(part, name, None, "not run: the time of this part is up")
            continue
        try:
            yield Row(part, name, measure(), seconds=time.monotonic() - start)
        except Absent as reason:
            yield Row(part, name, None, str(reason))
        except Exception as error:  # whatever a card, a driver or an old library may raise: the table names it
            first = (str(error).strip().splitlines() or [""])[0]
            yield Row(part, name, None, f"{type(error).__name__}: {first[:160]}", time.monotonic() - start)
        release()


def release() -> None:
    """Return what cases have left on the device."""
    if torch.cuda.is_available():
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
