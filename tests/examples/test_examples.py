"""The examples run as they are, and print what they promise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def printed(tmp_path: Path):
    """printed(script): its output, from a process with an empty cache."""

    def run(script: str, *arguments: str | Path) -> str:
        environment = os.environ | {"UNPOSED_CACHE": str(tmp_path / "cache")}
        line = [sys.executable, "-W", "error", EXAMPLES / script, *arguments]
        done = subprocess.run(line, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_reconstruct_and_look(printed, tmp_path: Path) -> None:
    text = printed("reconstruct_and_look.py", "--out", tmp_path / "out")
    assert "20 of 20 photos registered" in text
    assert "camera SIMPLE_RADIAL 864 x" in text
    assert "num_images = 20" in text
    assert (tmp_path / "out/sparse/0/points3D.bin").exists()


def test_swap_a_matcher(printed) -> None:
    """Both matchers end near the truth, so neither was passed over."""
    lines = printed("swap_a_matcher.py").splitlines()
    assert [line.split()[0] for line in lines] == ["mutual-nn", "example"]
    assert all("20 of 20 registered" in line for line in lines)
    auc = [float(re.search(r"AUC@5 ([\d.]+)", line)[1]) for line in lines]
    assert min(auc) > 90.0
    points = [int(re.search(r"(\d+) points", line)[1]) for line in lines]
    assert points[0] != points[1]


def test_optim_on_arrays(printed) -> None:
    """The truth has 0.5 * sqrt(pi / 2) = 0.63 px; three coordinates fitted to 16 numbers leave sqrt(13 / 16) of it."""
    text = printed("optim_on_arrays.py")
    before, after = (float(number) for number in re.findall(r"([\d.]+) px", text))
    assert after < before
    assert after == pytest.approx(0.565, abs=0.04)
    position = [float(number) for number in re.findall(r"([\d.]+) % of the extent", text)]
    assert position[-1] < min(0.2, position[0])


def test_every_example_is_tested() -> None:
    named = Path(__file__).read_text(encoding="utf-8")
    assert all(f'"{script.name}"' in named for script in EXAMPLES.glob("*.py"))
