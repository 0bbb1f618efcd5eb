"""The script that compares two evaluations of one network says how far apart they are. Nothing is timed here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import kornia.feature
import numpy as np
import pytest
import torch
from PIL import Image

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks/aliked.py"


@pytest.mark.slow
def test_both_find_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(kornia.feature.ALIKED("aliked-n16rot").state_dict(), tmp_path / "w.pth")
    pixels = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    command = [sys.executable, str(SCRIPT), str(tmp_path / "a.png"), "--weights", str(tmp_path / "w.pth")]
    done = subprocess.run([*command, "--rounds", "1"], capture_output=True, text=True, check=True)
    kornias, ours, ratio, apart = done.stdout.splitlines()
    assert kornias.startswith("kornia") and ours.startswith("ours") and ratio.startswith("ratio")
    assert kornias.split()[-2] == ours.split()[-2]
    assert float(apart.split()[1].rstrip("%")) > 99.0
