"""The benchmark of growth runs, and says what it measured."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

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
