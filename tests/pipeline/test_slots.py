"""Type checkers find what is wrong with a plugin, and the checks at load are derived from the same protocols."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from unposed.pipeline.artifacts import Features, SparseModels, Tokens
from unposed.pipeline.slots import PROTOCOLS, SLOTS, STAGE_SLOTS
from unposed.pipeline.stage import Grain

PLUGIN = """
from dataclasses import dataclass
from typing import ClassVar, Literal

from unposed.pipeline.artifacts import Features, PairMatches
from unposed.pipeline.slots import Matcher
from unposed.pipeline.stage import Grain, Sides


@dataclass(frozen=True)
class MyMatcher:
    grain: ClassVar[Literal[Grain.PAIR]] = Grain.PAIR
    version: ClassVar[int] = 1

    def __call__(self, features: Sides[Features]) -> PairMatches:
        raise NotImplementedError


_: Matcher = MyMatcher()
"""


def test_slots_are_read_from_the_protocols() -> None:
    assert SLOTS.keys() == PROTOCOLS.keys()
    assert SLOTS["verification"].grains == (Grain.PAIR, Grain.GROUP)
    assert SLOTS["features"].gives == Features | Tokens and SLOTS["fine"].gives is SparseModels
    assert set(SLOTS) - set(STAGE_SLOTS) == {"export", "dense", "metric", "gaussians", "splat", "executor"}


FAULTS = {
    "right": ("", "", ""),
    "grain": ("Grain.PAIR", "Grain.PHOTO", 'grain: expected "Literal[Grain.PAIR]", got "Literal[Grain.PHOTO]"'),
    "result": ("-> PairMatches", "-> Features", "-> PairMatches"),
    "version": ("ClassVar[int] = 1", 'ClassVar[str] = "1"', 'version: expected "int", got "str"'),
}


def test_mypy_finds_what_is_wrong(tmp_path: Path) -> None:
    """One call for all files: most of its time goes to reading the package."""
    pytest.importorskip("mypy", reason="mypy is not installed")
    for name, (right, wrong, _) in FAULTS.items():
        (tmp_path / f"{name}_matcher.py").write_text(PLUGIN.replace(right, wrong) if right else PLUGIN)
    mypy = [sys.executable, "-m", "mypy", "--strict", "--ignore-missing-imports", "--config-file", ""]
    source = os.environ | {"MYPYPATH": str(Path(__file__).parents[2])}  # mypy does not see editable installations
    files = sorted(file.name for file in tmp_path.glob("*.py"))
    done = subprocess.run([*mypy, *files], capture_output=True, text=True, cwd=tmp_path, env=source, check=False)
    assert done.returncode == 1, done.stdout
    for name, (_, _, message) in FAULTS.items():
        said = "\n".join(line for line in done.stdout.splitlines() if line.startswith(f"{name}_matcher.py"))
        assert message in said if message else not said, done.stdout
