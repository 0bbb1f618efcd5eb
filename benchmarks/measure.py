"""One run in its own process, measured from outside, and its result judged by known poses.

Only the standard library is imported here: a child begins its life as a copy of its parent, and the kernel would count
a heavy parent's memory as the child's peak.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Run:
    """One reconstruction of one set: what it gave and what it cost. Plain fields, for JSON."""

    set: str
    runner: str
    """Name of a preset of ours, or of a peer."""
    round: int
    seed: int
    registered: int
    total: int
    auc: dict[str, float]
    """By threshold in degrees, as text; 0 to 1."""
    ate_mm: float | None
    ate_percent: float | None
    """Of the extent of the set."""
    focal_error: float | None
    cpu_s: float
    """User and system time of the process and its children."""
    wall_s: float
    peak_mb: float
    stages: dict[str, dict[str, float]]
    """By stage: cpu_s and wall_s, as the run itself reports them."""
    problem: str = ""
    """The last line of output, where the run failed."""

    @property
    def key(self) -> tuple[str, str, int, int]:
        """What the run is a measurement of."""
        return self.set, self.runner, self.round, self.seed


@dataclass(frozen=True)
class Cost:
    """What a process used up."""

    exit_code: int
    cpu_s: float
    wall_s: float
    peak_mb: float


def measured(command: Sequence[str], log: Path) -> Cost:
    """Run a command to its end, its output going to a file."""
    begin = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - begin
    unit = 1e6 if sys.platform == "darwin" else 1e3  # bytes there, kilobytes elsewhere
    return Cost(process.returncode, usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / unit)


def judged(model: Path, truth: Path) -> dict[str, Any]:
    """The figures of `unposed eval`; where it has nothing to judge, those of an empty model and the reason."""
    command = [sys.executable, "-m", "unposed", "eval", str(model), "--gt", str(truth), "--json"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        total = len(json.loads(truth.read_text(encoding="utf-8"))["images"])
        return {"registered": 0, "total": total, "AUC": {}, "problem": answer.stderr.strip()}
    figures: dict[str, Any] = json.loads(answer.stdout)
    return figures


def stages_of(out: Path) -> dict[str, dict[str, float]]:
    """Seconds per stage, from what the run wrote about itself."""
    for name in ("summary.json", "stages.json"):
        if (out / name).is_file():
            stages = json.loads((out / name).read_text(encoding="utf-8"))["stages"]
            return {node: {key: figures[key] for key in ("cpu_s", "wall_s")} for node, figures in stages.items()}
    return {}


def last_line(log: Path) -> str:
    """What a failed run said last."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "no output"
