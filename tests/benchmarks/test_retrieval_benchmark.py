"""The benchmark of rankings runs; nothing is timed here."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "retrieval.py"


def test_a_short_walk_is_ranked() -> None:
    command = [sys.executable, str(SCRIPT), "--cases", "", "--scale", "40"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    photos, _, ratio, _, recall = answer.stdout.splitlines()[-1].strip("| ").split(" | ")
    assert (photos, ratio) == ("40", "1.00")
    assert 0.5 < float(recall) <= 1.0
