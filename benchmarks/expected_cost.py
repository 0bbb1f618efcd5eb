"""What `unposed check` expects a run to take, beside what the run takes.

    python benchmarks/expected_cost.py DATA_DIR --sets berlin-3,fox

DATA_DIR holds one folder per set, with its photos in `images`. Every run begins with nothing stored.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

UNPOSED = [sys.executable, "-m", "unposed"]


def expected(photos: Path) -> dict[str, Any]:
    """What `check` expects: CPU seconds, bytes of memory, pairs."""
    done = subprocess.run([*UNPOSED, "check", photos, "--json"], stdout=subprocess.PIPE, check=True)
    cost: dict[str, Any] = json.loads(done.stdout)["cost"]
    return cost


def taken(photos: Path) -> tuple[float, float]:
    """CPU seconds and peak memory (bytes) of `reconstruct`."""
    with tempfile.TemporaryDirectory() as folder:
        places = ["-o", f"{folder}/out", "--cache", f"{folder}/cache"]
        process = subprocess.Popen(
            [*UNPOSED, "reconstruct", photos, *places], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        _, _, usage = os.wait4(process.pid, 0)
    return usage.ru_utime + usage.ru_stime, 1024.0 * usage.ru_maxrss


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", required=True, metavar="A,B", help="folders below DATA_DIR")
    arguments = parser.parse_args()
    print("| set | photos | CPU s expected | taken | ratio | MB expected | taken |")
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for name in arguments.sets.split(","):
        photos = arguments.data / name / "images"
        cost, (cpu_s, memory) = expected(photos), taken(photos)
        row = f"{cost['cpu_s']:.1f} | {cpu_s:.1f} | {cost['cpu_s'] / cpu_s:.2f}"
        count = sum(1 for file in photos.iterdir() if file.is_file())
        print(f"| {name} | {count} | {row} | {cost['memory_bytes'] / 1e6:.0f} | {memory / 1e6:.0f} |", flush=True)


if __name__ == "__main__":
    main()
