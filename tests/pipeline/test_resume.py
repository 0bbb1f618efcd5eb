"""Killed without warning and started again: the same result, and nothing finished is computed twice."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

PHOTOS, WORKERS, KILLS = 12, 2, 10
SCRIPT = Path(__file__).with_name("toys.py")


def start(cache: Path, log: Path | None = None, sleep: str = "0") -> subprocess.Popen[str]:
    """One run in a process of its own."""
    environment = os.environ | {"UNPOSED_TOY_SLEEP": sleep} | ({"UNPOSED_TOY_LOG": str(log)} if log else {})
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(cache), str(PHOTOS), str(WORKERS)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )


def result(process: subprocess.Popen[str]) -> str:
    """The hash of the points it has found."""
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return output.strip()


def stored(cache: Path) -> dict[str, int]:
    """Finished items per stage."""
    db = sqlite3.connect(cache / "store.db")
    try:
        return dict(db.execute("SELECT stage, count(*) FROM entry GROUP BY stage"))
    except sqlite3.OperationalError:  # killed before the tables were there
        return {}
    finally:
        db.close()


def begun(log: Path) -> dict[str, int]:
    """Calls per node."""
    nodes = [line.split()[0] for line in log.read_text().splitlines()] if log.exists() else []
    return {node: nodes.count(node) for node in set(nodes)}


@pytest.mark.slow
def test_killed_at_ten_moments(tmp_path: Path) -> None:
    undisturbed = result(start(tmp_path / "undisturbed"))
    cache, log = tmp_path / "killed", tmp_path / "calls.log"
    rng = random.Random(0)
    interrupted = 0
    for _ in range(KILLS):
        process = start(cache, log, sleep="0.02")
        # Wait for a sign of work, so that the moment of the kill does not depend on how fast Python starts.
        size = log.stat().st_size if log.exists() else 0
        while process.poll() is None and (log.stat().st_size if log.exists() else 0) == size:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.12))
        interrupted += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
        finished = stored(cache)
        # In work when the process died: at most one item per worker. All else that was begun is stored.
        for stage, node in (("features.dots", "features"), ("matching.nearest", "matching")):
            assert begun(log).get(node, 0) - finished.get(stage, 0) <= (interrupted * WORKERS)
    assert interrupted >= 3
    finished, before = stored(cache), begun(log)
    assert result(start(cache, log)) == undisturbed
    total = {"features": PHOTOS, "matching": PHOTOS * (PHOTOS - 1) // 2}
    for stage, node in (("features.dots", "features"), ("matching.nearest", "matching")):
        assert begun(log)[node] - before.get(node, 0) == total[node] - finished.get(stage, 0)


def test_two_runs_on_one_cache_at_once(tmp_path: Path) -> None:
    undisturbed = result(start(tmp_path / "undisturbed"))
    both = [start(tmp_path / "shared", sleep="0.002") for _ in range(2)]
    assert [result(process) for process in both] == [undisturbed, undisturbed]


def test_a_full_disk_ends_with_one_line_and_room_lets_it_go_on(tmp_path: Path) -> None:
    cache = tmp_path / "small"
    cache.mkdir()
    tmpfs = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(cache)]
    if shutil.which("mount") is None or subprocess.run(tmpfs, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        command = [sys.executable, str(SCRIPT), str(cache), str(PHOTOS), str(WORKERS)]
        full = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (
            full.stderr.strip()
            .splitlines()[-1]
            .startswith(f"unposed.pipeline.errors.StoreError: {cache}: no room for the cache")
        )
        finished = stored(cache)
        assert finished
        subprocess.run(["mount", "-o", "remount,size=64m", str(cache)], check=True)
        log = tmp_path / "calls.log"
        assert result(start(cache, log)) == result(start(tmp_path / "undisturbed"))
        assert begun(log).get("features", 0) == PHOTOS - finished["features.dots"]
    finally:
        subprocess.run(["umount", str(cache)], check=True)


@pytest.mark.parametrize("moment", [0.0, 0.1])
def test_ctrl_c_ends_with_one_line(tmp_path: Path, moment: float) -> None:
    log = tmp_path / "calls.log"
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(tmp_path / "cache"), str(PHOTOS), str(WORKERS)],
        env=os.environ | {"UNPOSED_TOY_SLEEP": "0.05", "UNPOSED_TOY_LOG": str(log)},
        stderr=subprocess.PIPE,
        text=True,
    )
    while not log.exists() and process.poll() is None:
        time.sleep(0.005)
    time.sleep(moment)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert errors.strip().splitlines()[-1].startswith("unposed.pipeline.errors.Interrupted: ")
    before: Any = begun(log)
    assert stored(tmp_path / "cache")["features.dots"] == before["features"]
