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
    assert set(SLOTS) - set(STAGE_SLOTS) == {"export", "dense", "splat", "executor"}


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("", "", ""),
        ("Grain.PAIR", "Grain.PHOTO", 'grain: expected "Literal[Grain.PAIR]", got "Literal[Grain.PHOTO]"'),
        ("-> PairMatches", "-> Features", "-> PairMatches"),
        ("ClassVar[int] = 1", 'ClassVar[str] = "1"', 'version: expected "int", got "str"'),
    ],
    ids=["right", "grain", "result", "version"],
)
def test_mypy_finds_what_is_wrong(right: str, wrong: str, message: str, tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is not installed")
    file = tmp_path / "my_matcher.py"
    file.write_text(PLUGIN.replace(right, wrong) if right else PLUGIN)
    mypy = [sys.executable, "-m", "mypy", "--strict", "--ignore-missing-imports", "--config-file", ""]
    source = os.environ | {"MYPYPATH": str(Path(__file__).parents[2])}  # mypy does not see editable installations
    done = subprocess.run([*mypy, file], capture_output=True, text=True, cwd=tmp_path, env=source, check=False)
    assert done.returncode == bool(message), done.stdout
    assert message in done.stdout
