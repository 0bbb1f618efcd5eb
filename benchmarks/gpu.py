"""What a GPU does with this program, as one Markdown table and one JSON file, in a few minutes.

    python benchmarks/gpu.py [--minutes 6] [--out gpu-result] [--device cuda] [--parts abcdefg]
    python benchmarks/gpu.py --cpu

One process, no network; nothing need be installed but torch, numpy, scipy and safetensors, and what else is there is
used. Parts: a parity with the CPU, b networks at full size, c matching, d bundle adjustment, e the whole road, f memory
that runs out, g where the time goes. Each has a share of the time and leaves what it does not need to the others. A
case that fails is named, and the others go on; one that hangs, or after which the device answers no more, is named too,
and this process begins anew with the next case. Files are written after every case. `--cpu` runs small sizes of all.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import json
import math
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import torch
from gpu.report import as_markdown, write_report
from gpu.setting import Finding, Patience, Row, Setting, machine_facts, problem_of, run_cases

from unposed.gpu_check import DTYPES, DeviceSpeed, device_speed

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
"""Times the minutes asked for after which the process ends itself, where not even a hanging case can be given up."""

HANGS_S = 120.0
"""Seconds after which a case is given up: the longest, which let torch.compile work, may take a minute."""

MAX_BEGINNINGS = 6
"""Of this process: a card that is lost more often is not asked any further."""


def main() -> int:
    """Run the parts, one after the other; exit code 1 if a case failed or differs from the CPU."""
    args = _arguments()
    end = time.monotonic() + 60.0 * args.minutes
    device = _device(args)
    args.out.mkdir(parents=True, exist_ok=True)
    faulthandler.dump_traceback_later(60.0 * PATIENCE * args.minutes, exit=True)
    facts, rows = _earlier(args.out) if args.beginning else _prepared(device)
    speed = DeviceSpeed(**facts["speed"]) if args.beginning else _speed(device, facts, rows)
    setting = Setting(device, device.type == "cpu", args.out, speed)

    def begin_anew(row: Row) -> None:
        rows.append(row)
        print(_line(row), flush=True)
        write_report(args.out, facts, rows)
        if args.beginning + 1 < MAX_BEGINNINGS:
            _begin_anew(args, end - time.monotonic())
        print(f"{as_markdown(facts, rows)}\nthe device was lost {MAX_BEGINNINGS} times: no more is asked of it")
        sys.stdout.flush()
        os._exit(1)  # a thread that hangs in the driver would hold this process for ever

    patience = Patience(HANGS_S, begin_anew) if device.type == "cuda" else Patience()  # a CPU is busy at most
    for number, part in enumerate(args.parts):
        left = sum(PARTS[each][1] for each in args.parts[number:])
        until = time.monotonic() + (end - time.monotonic()) * PARTS[part][1] / left
        known = [row.case for row in rows if row.part == part]
        try:
            module = importlib.import_module(f"gpu.{PARTS[part][0]}")
        except Exception as error:  # a library may be there and not of this machine
            if PARTS[part][0] not in known:
                rows.append(Row(part, PARTS[part][0], None, problem_of(error)))
            continue
        for row in run_cases(part, module.cases(setting), until, known, patience):
            if row.finding is None and not _alive(device):
                begin_anew(row)
            rows.append(row)
            print(_line(row), flush=True)
            write_report(args.out, facts, rows)
    write_report(args.out, facts, rows)
    print(f"\n{as_markdown(facts, rows)}")
    return int(any(_bad(row) for row in rows))


def _device(args: argparse.Namespace) -> torch.device:
    """With its number, which some calls ask for; one line where there is no such device."""
    if args.cpu:
        torch.set_num_threads(1)  # small sizes gain nothing by more, and on a busy machine threads wait for each other
        return torch.device("cpu")
    if not torch.cuda.is_available():
        sys.exit(f"PyTorch {torch.__version__} finds no GPU here: --cpu runs small sizes of all parts on the CPU")
    device = torch.device(args.device)
    return torch.device("cuda", torch.cuda.current_device()) if device.index is None else device


def _prepared(device: torch.device) -> tuple[dict[str, Any], list[Row]]:
    try:
        return machine_facts(device), []
    except Exception as error:
        return {"torch": torch.__version__}, [Row("-", "facts of the card", None, problem_of(error))]


def _speed(device: torch.device, facts: dict[str, Any], rows: list[Row]) -> DeviceSpeed:
    """What plain operations reach; not numbers where they fail, so that predictions are none and the parts go on."""
    try:
        speed = device_speed(device, device.type == "cpu")
    except Exception as error:
        rows.append(Row("-", "speed of plain operations", None, problem_of(error)))
        speed = DeviceSpeed(dict.fromkeys(DTYPES, math.nan), math.nan, math.nan, math.nan)
    facts["speed"] = asdict(speed)
    facts["reached"] = _reached(speed)
    return speed


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


def _begin_anew(args: argparse.Namespace, seconds: float) -> NoReturn:
    """Go on in a process that has nothing of this one but its number, where this one can no longer use the device."""
    command = [sys.executable, *(["-S"] if sys.flags.no_site else []), str(Path(__file__).resolve())]
    command += ["--beginning", str(args.beginning + 1), "--parts", args.parts, "--device", args.device]
    command += ["--minutes", str(max(0.5, seconds / 60.0)), "--out", str(args.out), *(["--cpu"] if args.cpu else [])]
    print("the process begins anew with the next case", flush=True)
    os.execv(sys.executable, command)


def _earlier(folder: Path) -> tuple[dict[str, Any], list[Row]]:
    """What the process before has written."""
    content = json.loads((folder / "gpu.json").read_text(encoding="utf-8"))
    rows = [{**row, "finding": row["finding"] and Finding(**row["finding"])} for row in content["rows"]]
    return content["facts"], [Row(**row) for row in rows]


def _reached(speed: DeviceSpeed) -> str:
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
    parser.add_argument("--beginning", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if unknown := set(args.parts) - PARTS.keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    return args


if __name__ == "__main__":
    sys.exit(main())
