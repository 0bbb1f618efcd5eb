"""Every call to the disk fails once: the run ends in one line, nothing is lost, and the next run is right."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from fault_layer import KINDS, Faults, PowerCut, fault_layer

import unposed
from unposed.pipeline.errors import UnposedError

Photos = Callable[..., Path]
NAMES = ("a.png", "b.png", "c.png")
SAMPLE = 12
"""Calls of each kind that fail here, spread over all; benchmarks/torture.py fails all of them."""


def result(out: Path) -> dict[str, bytes]:
    """The models, which are the same bytes in every run, or nothing."""
    if not (out / "summary.json").exists():
        return {}
    return {file.relative_to(out).as_posix(): file.read_bytes() for file in (out / "sparse").rglob("*.bin")}


def run(toys: str, folder: Path, place: Path, faults: Faults) -> str | None:
    """The line of a run that fails; the store and the result are below `place`."""
    try:
        with fault_layer(faults):
            made = unposed.reconstruct(folder, place / "out", preset=toys, cache=place / "cache", workers=1)
    except (UnposedError, OSError) as error:
        line = str(error)
        assert line and "\n" not in line
        return line
    return str(made.unregistered) if made.unregistered else None


def numbers(toys: str, folder: Path, place: Path, kind: str) -> list[int]:
    """Calls of a kind to fail, evenly spread over those of an undisturbed run."""
    faults = Faults()
    assert run(toys, folder, place, faults) is None
    count = faults.counts[kind]
    assert count > 0
    return sorted({1 + number * (count - 1) // (SAMPLE - 1) for number in range(SAMPLE)})


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_each_call_fails_once(toys: str, photos: Photos, tmp_path: Path, kind: str) -> None:
    folder = photos(*NAMES)
    failing = numbers(toys, folder, tmp_path / "undisturbed", kind)
    expected = result(tmp_path / "undisturbed" / "out")
    assert len(expected) >= 4
    for number in failing:
        place = tmp_path / str(number)
        run(toys, folder, place, Faults(kind, number))
        assert run(toys, folder, place, Faults()) is None, (kind, number)
        assert result(place / "out") == expected, (kind, number)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "memory"])
def test_an_older_result_outlives_every_failure(toys: str, photos: Photos, tmp_path: Path, kind: str) -> None:
    """Until the new one is complete, and whatever reads it in between. Also if everything ends at that call."""
    folder = photos(*NAMES)
    for ending in (None, lambda kind: PowerCut()):
        place = tmp_path / f"{ending is None}"
        failing = numbers(toys, folder, place, kind)
        expected = result(place / "out")
        for number in failing:
            faults = Faults(kind, number) if ending is None else Faults(kind, number, ending)
            line = ""
            with suppress(PowerCut):
                line = run(toys, folder, place, faults) or ""
            if line.startswith("{"):  # it has ended, without a photo that could not be read when it began
                assert run(toys, folder, place, Faults()) is None
            left = unposed.load(place / "out")
            assert left.models, (kind, number, line, left.summary["failure"], left.summary["failures"])
            assert len(left[0]) == len(NAMES), (kind, number)
            assert result(place / "out") == expected, (kind, number)
