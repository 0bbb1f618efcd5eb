"""After a power cut the cache holds what was written or nothing, and the output folder the old result or the new."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from power_cut_targets import PUBLISH, caches, results, tally
from power_cuts import power_cuts, recorded

CUTS = 60
"""Here; benchmarks/torture.py takes a thousand."""

CARELESS = """
import os, sys
from pathlib import Path
root = Path(sys.argv[1])
root.mkdir()
for turn in range(5):
    (root / "new").write_bytes(b"%d" % turn * 3000)
    if "sync" in sys.argv:
        with (root / "new").open("rb+") as file:
            os.fsync(file.fileno())
    (root / "new").rename(root / "value")
"""


@pytest.fixture(autouse=True)
def _strace() -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: power cuts cannot be simulated")
    if subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, check=False).returncode:
        pytest.skip("strace may not trace here: power cuts cannot be simulated")


def test_a_cache_after_a_power_cut(tmp_path: Path) -> None:
    kept, problems = tally(caches(tmp_path, CUTS, seed=0))
    assert problems == []
    assert len(kept) > 4  # from nothing to everything


def test_a_result_after_a_power_cut(tmp_path: Path) -> None:
    found, problems = tally(results(tmp_path, CUTS, seed=1))
    assert problems == []
    assert min(found["old"], found["new"]) > 3


def test_a_result_that_is_not_synced_is_found_torn(tmp_path: Path) -> None:
    careless = PUBLISH.replace("from unposed import output", "from unposed import output; output.sync_tree = str")
    assert careless != PUBLISH
    _, problems = tally(results(tmp_path, CUTS, seed=1, program=careless))
    assert problems


@pytest.mark.parametrize("synced", [False, True])
def test_a_file_that_is_renamed_before_it_is_synced_is_found(tmp_path: Path, synced: bool) -> None:
    calls = recorded(CARELESS, tmp_path / "root", *["sync"] * synced)
    wholes = {b"%d" % turn * 3000 for turn in range(5)}
    cuts = power_cuts(calls, tmp_path / "root", tmp_path / "cut", CUTS, seed=2)
    contents = [(place / "value").read_bytes() for _, place in cuts if (place / "value").exists()]
    assert len(contents) > CUTS / 4
    assert all(content in wholes for content in contents) == synced
