"""Limits of control groups, SLURM and shells, from files and variables as these systems write them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from unposed.pipeline import memory_limits
from unposed.pipeline.memory_limits import free_bytes, group_rooms

GB = 1 << 30


def second(folder: Path, limit: int | str, used: int, cached: int = 0) -> None:
    """The files of a group of version 2."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon {used - cached}\ninactive_file {cached}\n")


def first(folder: Path, limit: int, used: int, cached: int = 0) -> None:
    """The files of a group of version 1."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"cache {cached}\ntotal_inactive_file {cached}\n")


@pytest.fixture
def membership(tmp_path: Path) -> Path:
    return tmp_path / "self-cgroup"


def test_a_container_of_version_2(tmp_path: Path, membership: Path) -> None:
    membership.write_text("0::/\n")
    second(tmp_path / "fs", 4 * GB, 3 * GB, cached=2 * GB)
    assert group_rooms(tmp_path / "fs", membership) == [3 * GB]


def test_a_nested_group_is_bound_by_all_around_it(tmp_path: Path, membership: Path) -> None:
    """As systemd's user scopes and SLURM's steps are."""
    membership.write_text("0::/system.slice/slurmstepd.scope/job_7/step_0\n")
    second(tmp_path / "fs/system.slice/slurmstepd.scope/job_7/step_0", "max", GB)
    second(tmp_path / "fs/system.slice/slurmstepd.scope/job_7", 2 * GB, GB)
    second(tmp_path / "fs/system.slice", 8 * GB, 5 * GB)
    assert group_rooms(tmp_path / "fs", membership) == [GB, 3 * GB]


def test_version_1(tmp_path: Path, membership: Path) -> None:
    membership.write_text("5:devices:/\n4:memory:/docker/abc\n0::/\n")
    first(tmp_path / "fs/memory/docker/abc", 2 * GB, GB, cached=GB // 2)
    first(tmp_path / "fs/memory", 1 << 62, 9 * GB)
    assert group_rooms(tmp_path / "fs", membership)[0] == 3 * GB // 2
    assert min(group_rooms(tmp_path / "fs", membership)) == 3 * GB // 2


def test_version_1_where_the_container_sees_its_group_as_the_root(tmp_path: Path, membership: Path) -> None:
    membership.write_text("4:cpu,memory:/docker/abc\n")
    first(tmp_path / "fs/memory", GB, 0)
    assert group_rooms(tmp_path / "fs", membership) == [GB]


def test_a_group_outside_of_what_is_shown(tmp_path: Path, membership: Path) -> None:
    membership.write_text("0::/../../outside\n")
    second(tmp_path / "fs", GB, 0)
    assert group_rooms(tmp_path / "fs", membership) == [GB]


@pytest.mark.parametrize("text", ["", "nonsense", "0::/gone\n", "4:memory\n"])
def test_no_limit_is_no_problem(tmp_path: Path, membership: Path, text: str) -> None:
    membership.write_text(text)
    assert group_rooms(tmp_path / "fs", membership) == []
    assert group_rooms(tmp_path / "fs", tmp_path / "missing") == []


def test_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_limits, "_resident", lambda: 100 << 20)
    monkeypatch.setattr(memory_limits, "group_rooms", lambda: [])
    for variable in ("SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU", "SLURM_CPUS_ON_NODE"):
        monkeypatch.delenv(variable, raising=False)
    unlimited = free_bytes()
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "150")
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "2")
    assert free_bytes() == 200 << 20
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "400")
    assert free_bytes() == 300 << 20
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "0")
    assert free_bytes() > unlimited // 2


def test_the_limit_of_a_shell_is_seen() -> None:
    pytest.importorskip("resource")
    code = """
import resource
from unposed.pipeline.memory_limits import free_bytes
import psutil
resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + (300 << 20),) * 2)
print(free_bytes() >> 20)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 250 < int(done.stdout) <= 300
