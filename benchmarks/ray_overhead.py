"""What Ray costs on one machine, and whether its results have the bytes of `local`.

    python benchmarks/ray_overhead.py PHOTOS [--nodes 2] [--preset classic] [--until verification] [--rounds 3]

The stages up to `--until` run once with the executor `local`, with as many workers as there are nodes, and once on a
cluster of nodes of one CPU each on this machine, each time from nothing in a process of its own. Prints wall time from
the first photo on, CPU seconds of the process and of everything below it meanwhile (so with all of Ray's own processes,
and the start of the workers), both of what comes before (imports, and the start of the cluster), what crossed, and how
many stored values differ.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from unposed.pipeline.engine import NodeReport, run
from unposed.pipeline.executor import Executor, Local
from unposed.pipeline.graph import build_graph
from unposed.pipeline.images.photos import scan
from unposed.pipeline.presets import read_preset
from unposed.pipeline.registry import Registry
from unposed.pipeline.resources import machine
from unposed.pipeline.store.codec import encode
from unposed.pipeline.store.store import Store
from unposed.plugins.executor.ray_cluster import Ray


def main() -> None:
    """Measure both, and print the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--preset", default="classic")
    parser.add_argument("--until", default="verification")
    parser.add_argument("--rounds", type=int, default=1, help="the least CPU seconds count")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", choices=("local", "ray"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options)))
        return
    rows: dict[str, dict[str, Any]] = {}
    for _ in range(options.rounds):  # one after the other, as other programs may slow down the machine for a while
        for name in ("local", "ray"):
            command = [sys.executable, __file__, *sys.argv[1:], "--one", name]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
            row = json.loads(done.stdout.splitlines()[-1])
            rows[name] = min(rows.get(name, row), row, key=lambda each: float(each["cpu_s"]))
    print("| executor | photos | CPU s | wall s | before: CPU s | before: wall s | MB put into the object store |")
    print("|---|---|---|---|---|---|---|")
    for name, row in rows.items():
        seconds = (row[each] for each in ("cpu_s", "wall_s", "start_cpu_s", "start_s"))
        print(f"| {name} | {row['photos']} |", *(f"{each:.1f} |" for each in seconds), f"{row['sent_mb']:.0f} |")
    print("\n| stage | items | local: CPU s | ray: CPU s | of it the driver: ms per item |\n|---|---|---|---|---|")
    for stage, ours in rows["ray"]["stages"].items():
        if ours["elsewhere"]:
            own_ms = 1e3 * (ours["cpu_s"] - ours["elsewhere_s"]) / ours["elsewhere"]
            local_s = rows["local"]["stages"][stage]["cpu_s"]
            print(f"| {stage} | {ours['elsewhere']} | {local_s:.1f} | {ours['cpu_s']:.1f} | {own_ms:.1f} |")
    values = [row["values"] for row in rows.values()]
    different = sum(values[0].get(key) != values[1].get(key) for key in values[0].keys() | values[1].keys())
    cpu, wall = (rows["ray"][each] / rows["local"][each] - 1 for each in ("cpu_s", "wall_s"))
    print(f"\nCPU {cpu:+.1%}, wall {wall:+.1%}; {different} of {len(values[0])} values differ")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One run from nothing."""
    cpu = CpuOfAll()
    graph = build_graph(read_preset(options.preset), Registry())
    graph = replace(graph, outputs=(options.until,), result=None)
    photos = scan(options.photos)
    with ExitStack() as stack:
        begun = time.perf_counter()
        executor: Executor = Local() if name == "local" else stack.enter_context(closing(cluster(options.nodes, stack)))
        start_s = time.perf_counter() - begun
        cpu.look()
        start_cpu_s = cpu.total_s
        store = stack.enter_context(Store(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        begun = time.perf_counter()
        done = run(graph, photos, store, executor, machine("cpu", options.nodes))
        wall_s = time.perf_counter() - begun
        values = {}
        for node, report in done.nodes.items():
            value = done.value(node) if report.computed else {}
            items = value.items() if hasattr(value, "items") else [((), value)]
            values |= {f"{node} {item}": hashlib.sha256(encode(each)).hexdigest() for item, each in items}
        cpu.look()
        sent_mb = executor.cluster.sent_bytes / 1e6 if isinstance(executor, Ray) else 0.0
        stages = {node: stage_costs(report) for node, report in done.nodes.items()}
    return {
        "photos": len(photos.photos),
        "cpu_s": cpu.total_s - start_cpu_s,
        "start_cpu_s": start_cpu_s,
        "wall_s": wall_s,
        "start_s": start_s,
        "sent_mb": sent_mb,
        "stages": stages,
        "values": values,
    }


def stage_costs(report: NodeReport) -> dict[str, float]:
    """What a stage cost, and how much of it on the workers of a cluster."""
    return {
        "cpu_s": report.cpu_s,
        "wall_s": report.wall_s,
        "elsewhere": sum(share.items for share in report.machines.values()),
        "elsewhere_s": sum(share.cpu_s for share in report.machines.values()),
    }


def cluster(nodes: int, stack: ExitStack) -> Ray:
    """Nodes of one CPU each on this machine, without Ray's dashboard."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    stack.callback(made.shutdown)
    for _ in range(nodes - 1):
        made.add_node(num_cpus=1)
    executor = Ray(made.address, "cpu")
    _ = executor.cluster
    return executor


class CpuOfAll:
    """CPU seconds of this process and of all below it, those that have ended included as far as they were seen."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, float], float] = {}
        threading.Thread(target=self._watch, daemon=True).start()

    @property
    def total_s(self) -> float:
        """Up to the last look."""
        return sum(self._seen.values())

    def look(self) -> None:
        """Read the clocks of all."""
        own = psutil.Process()
        for process in [own, *own.children(recursive=True)]:
            with suppress(psutil.Error):
                times = process.cpu_times()
                self._seen[process.pid, process.create_time()] = times.user + times.system

    def _watch(self) -> None:
        while True:
            self.look()
            time.sleep(1.0)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
