"""The benchmark's book-keeping: what is measured, what is reused, and what the tables say. Nothing is timed here."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
BUSY = "import time\nwhile time.process_time() < 0.3: pass"


def run_of(photo_set: str, runner: str, **figures: Any) -> dict[str, Any]:
    plain = {
        "round": 0, "seed": 0, "registered": 4, "total": 4, "auc": {"1": 0.5, "3": 0.7, "5": 0.8}, "ate_mm": None,
        "ate_percent": 1.25, "focal_error": 0.02, "cpu_s": 10.0, "wall_s": 6.0, "peak_mb": 300.0, "stages": {},
    }  # fmt: skip
    return {"set": photo_set, "runner": runner, **plain, **figures}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two sets, only one of which has one camera, and a folder that is none."""
    for name, focals in {"one": [500, 500], "several": [500, 600]}.items():
        (tmp_path / "data" / name / "images").mkdir(parents=True)
        images = {f"{i}.jpg": {"K": [[f, 0, 9], [0, f, 9], [0, 0, 1]]} for i, f in enumerate(focals)}
        (tmp_path / "data" / name / "gt.json").write_text(json.dumps({"images": images}))
    (tmp_path / "data" / "no truth" / "images").mkdir(parents=True)
    return tmp_path / "data"


def benchmark(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FOLDER / "photos.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_tables_of_reused_runs(data: Path, tmp_path: Path) -> None:
    """Medians over rounds, a stand-in where photos share no camera, ratios of CPU to the first runner's."""
    mapping = {"mapping": {"cpu_s": 7.5, "wall_s": 1.0}}
    runs = [
        run_of("one", "stock", cpu_s=10.0, ate_mm=8.0),
        run_of("one", "stock", round=1, seed=1, cpu_s=30.0, ate_mm=9.0),
        run_of("one", "stock", round=2, seed=2, cpu_s=20.0, ate_mm=100.0),
        *(run_of("one", "stock-shared", round=r, seed=r, cpu_s=5.0, registered=3, problem="died") for r in range(3)),
        *(run_of("several", "stock", round=r, seed=r, stages=mapping) for r in range(3)),
    ]
    earlier, later = tmp_path / "earlier.json", tmp_path / "later.json"
    earlier.write_text(json.dumps({"runs": runs}))
    options = ("--presets", "none", "--peers", "stock,stock-shared", "--rounds", 3, "--reuse", earlier)
    done = benchmark(data, *options, "--json", later)
    assert done.returncode == 0, done.stderr
    assert "no truth" not in done.stdout
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines() if "|" in line]
    of_one, of_several, sums = rows[2:4], rows[6:8], rows[10:12]
    assert of_one[0][:7] == ["stock", "4/4", "50.0 / 70.0 / 80.0", "9.0 mm", "2.0 %", "20.0", "6.0"]
    assert of_one[1][:2] == ["stock-shared", "3/4"]
    assert of_one[1][-1] == "died"
    assert of_several[0][1:] == of_several[1][1:], "without one camera, the per-photo run stands in"
    assert of_several[0][3] == "1.25 %"
    assert of_several[0][-1] == "mapping 7.5"
    assert sums[0] == ["stock", "8/8", "80.0", "30.0", "1.00", "300"]
    assert sums[1] == ["stock-shared", "7/8", "80.0", "15.0", "0.50", "300"]
    kept = json.loads(later.read_text())
    assert len(kept["runs"]) == len(runs)
    assert kept["about"]["pycolmap"]


def test_sets_can_be_chosen(data: Path, tmp_path: Path) -> None:
    earlier = tmp_path / "earlier.json"
    earlier.write_text(json.dumps({"runs": [run_of("several", "stock-global")]}))
    done = benchmark(data, "--sets", "several", "--presets", "none", "--peers", "stock-global", "--reuse", earlier)
    assert done.returncode == 0, done.stderr
    assert "### one" not in done.stdout


def test_mistakes_are_named(data: Path) -> None:
    assert "no such peer: glomip (there are stock" in benchmark(data, "--peers", "glomip").stderr
    assert "no set with images/" in benchmark(data, "--sets", "nothing").stderr


def measured(child: str, log: Path) -> dict[str, float]:
    """What a lean parent measures of a child: the memory of one as heavy as this test run would be taken for its."""
    parent = (
        "import dataclasses, json, pathlib, sys; from measure import measured\n"
        "cost = measured([sys.executable, '-c', sys.argv[1]], pathlib.Path(sys.argv[2]))\n"
        "print(json.dumps(dataclasses.asdict(cost)))"
    )
    command = [sys.executable, "-c", parent, child, str(log)]
    answer = subprocess.run(command, capture_output=True, check=True, env={**os.environ, "PYTHONPATH": str(FOLDER)})
    return dict(json.loads(answer.stdout))


def test_a_run_pays_for_its_children(tmp_path: Path) -> None:
    child = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BUSY!r}])\nsys.exit('the end')"
    cost = measured(child, tmp_path / "log")
    assert cost["cpu_s"] >= 0.3
    assert cost["exit_code"] == 1
    assert (tmp_path / "log").read_text().strip() == "the end"


def test_peak_memory_is_the_childs(tmp_path: Path) -> None:
    assert 200 < measured("x = b'1' * 200_000_000", tmp_path / "log")["peak_mb"] < 300
