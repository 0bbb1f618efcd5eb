"""What a GPU does with this program, as one Markdown table and one JSON file, in a few minutes.

    python benchmarks/gpu.py [--minutes 6] [--out gpu-result] [--device cuda] [--parts abcdefg]
    python benchmarks/gpu.py --cpu

One process, no network; nothing need be installed but torch, numpy, scipy and safetensors, and what else is there is
used. Parts: a parity with the CPU, b networks at full size, c matching, d bundle adjustment, e the whole road, f memory
that runs out, g where the time goes. Each has a share of the time and leaves what it does not need to the others; a
case that fails is named, and the others go on. Files are written after every case. `--cpu` runs small sizes of all.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from gpu.report import as_markdown, write_report
from gpu.setting import Finding, Row, Setting, machine_facts, run_cases

from unposed.gpu_check import device_speed

PARTS = {
    "a": ("parity", 0.25),
    "b": ("networks", 0.25),
    "c": ("matching", 0.10),
    "d": ("adjustment", 0.20),
    "e": ("road", 0.10),
    "f": ("memory", 0.03),
    "g": ("profile", 0.07),
}
"""Modules, and their shares of the time."""

PATIENCE = 1.5
"""Times the minutes asked for after which the process ends itself: a kernel may hang, and what is written stays."""


def main() -> int:
    """Run the parts, one after the other; exit code 1 if a case failed or differs from the CPU."""
    args = _arguments()
    start = time.monotonic()
    device = torch.device("cpu" if args.cpu else args.device)
    args.out.mkdir(parents=True, exist_ok=True)
    faulthandler.dump_traceback_later(60.0 * PATIENCE * args.minutes, exit=True)
    facts, rows = _earlier(args.out) if args.resumed else (machine_facts(device), [])
    setting = Setting(device, device.type == "cpu", args.out, device_speed(device, device.type == "cpu"))
    facts["reached"] = _reached(setting)
    end = start + 60.0 * args.minutes
    for number, part in enumerate(args.parts):
        left = sum(PARTS[each][1] for each in args.parts[number:])
        until = time.monotonic() + (end - time.monotonic()) * PARTS[part][1] / left
        try:
            module = importlib.import_module(f"gpu.{PARTS[part][0]}")
        except ImportError as error:
            rows.append(Row(part, PARTS[part][0], None, f"{type(error).__name__}: {error}"))
            continue
        for row in run_cases(part, module.cases(setting), until):
            rows.append(row)
            print(_line(row), flush=True)
            write_report(args.out, facts, rows)
        if not _alive(device) and args.parts[number + 1 :]:
            return _in_a_new_process(args, args.parts[number + 1 :], end - time.monotonic())
    write_report(args.out, facts, rows)
    print(f"\n{as_markdown(facts, rows)}")
    return int(any(_bad(row) for row in rows))


def _bad(row: Row) -> bool:
    if row.finding is None:
        return not row.problem.startswith("not run")
    return row.finding.passed is False


def _alive(device: torch.device) -> bool:
    """Whether the device still computes: an illegal access ends that for the whole process."""
    try:
        return float(torch.ones(2, device=device).sum()) == 2.0
    except RuntimeError:
        return False


def _in_a_new_process(args: argparse.Namespace, parts: str, seconds: float) -> int:
    """Go on with the other parts where a part has left the device unusable for this process."""
    command = [sys.executable, __file__, "--resumed", "--parts", parts, "--device", args.device]
    command += ["--minutes", str(max(0.5, seconds / 60.0)), "--out", str(args.out)]
    print("the device no longer answers this process: a new one goes on", flush=True)
    faulthandler.cancel_dump_traceback_later()
    return subprocess.run(command, check=False).returncode or 1


def _earlier(folder: Path) -> tuple[dict[str, Any], list[Row]]:
    """What the process before has written."""
    content = json.loads((folder / "gpu.json").read_text(encoding="utf-8"))
    rows = [{**row, "finding": row["finding"] and Finding(**row["finding"])} for row in content["rows"]]
    return content["facts"], [Row(**row) for row in rows]


def _reached(setting: Setting) -> str:
    speed = setting.speed
    products = ", ".join(f"{name} {value:.3g}" for name, value in speed.tflops.items())
    return (
        f"TFLOP/s of plain products: {products}; memory {speed.bandwidth_gb_per_s:.3g} GB/s; "
        f"upload {speed.upload_gb_per_s:.3g} GB/s; launch {speed.launch_us:.3g} us"
    )


def _line(row: Row) -> str:
    found = "" if row.finding is None else f"{'' if row.finding.passed is not False else 'DIFFERS '}{row.seconds:.1f} s"
    return f"{row.part} {row.case}: {row.problem or found}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--out", type=Path, default=Path("gpu-result"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--cpu", action="store_true", help="small sizes on the CPU")
    parser.add_argument("--parts", default="".join(PARTS), help="letters of the parts to run")
    parser.add_argument("--resumed", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if unknown := set(args.parts) - PARTS.keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    return args


if __name__ == "__main__":
    sys.exit(main())
