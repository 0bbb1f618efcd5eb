"""The benchmark of growth runs, and says what it measured."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from unposed.pipeline.stage import Resources
from unposed.plugins.coarse.global_mapping import GlobalMapper
from unposed.plugins.doubts.doppelgangers import Doppelgangers
from unposed.plugins.fine.bundle import BundleAdjustment
from unposed.synthetic.collections import emulate_collection

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "scale.py"


@pytest.mark.slow
def test_growth_between_two_sizes(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    command = [sys.executable, str(SCRIPT), "--layouts", "aerial", "--photos", "24,48", "--threads", "2"]
    done = subprocess.run([*command, "--json", str(figures)], capture_output=True, text=True, check=True)
    assert (
        len(re.findall(r"^serial: doubts \d+%, coarse \d+%, fine \d+%, all \d+%; 16 threads: ", done.stdout, re.M)) == 2
    )
    assert re.search(r"^exponents aerial 24 to 48: doubts [-\d.]+, coarse [-\d.]+, fine [-\d.]+$", done.stdout, re.M)
    small, large = json.loads(figures.read_text())
    assert small["registered"] == 24 and large["registered"] == 48
    assert small["rotation_deg"] < 0.3 and large["rotation_deg"] < 0.3
    assert small["pairs"] < large["pairs"]


@pytest.mark.slow
def test_stages_take_the_memory_that_they_say() -> None:
    """Beside their libraries, which tracing does not see: from a third to all of what --ram is compared with."""
    spec = importlib.util.spec_from_file_location("scale", SCRIPT)
    assert spec is not None and spec.loader is not None
    scale = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(scale)
    stages = {"doubts": Doppelgangers, "coarse": GlobalMapper, "fine": BundleAdjustment}
    graph, cameras, photos = scale.emulated_inputs(emulate_collection("aerial", count := 60))
    took: dict[str, int] = {}

    def report(name: str, costs: dict[str, float]) -> None:
        took[name] = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()

    tracemalloc.start()
    try:
        scale.run_stages(photos, cameras, graph, Resources("cpu", 1, 1 << 30, 0), report)
    finally:
        tracemalloc.stop()
    for name, stage in stages.items():
        assert took[name] <= stage.memory.of(count), name
    assert took["fine"] >= count * BundleAdjustment.memory.photo_bytes / 3
