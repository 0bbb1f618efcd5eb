"""Readers of untrusted files raise what they promise and nothing else, on mutants of sound files."""

from __future__ import annotations

import warnings

import pytest
from fuzz_input import mutants
from fuzz_targets import TARGETS

COUNT = 150
"""Mutants of each; benchmarks/torture.py tries thousands, benchmarks/fuzz.py as long as it is let."""


@pytest.mark.parametrize("name", TARGETS)
def test_sound_input_is_read(name: str) -> None:
    for seed in TARGETS[name].seeds():
        TARGETS[name].read(seed)


@pytest.mark.parametrize("name", TARGETS)
def test_mutants(name: str) -> None:
    target = TARGETS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numbers that overflow
        for number, data in enumerate(mutants(target.seeds(), COUNT // target.thinned)):
            try:
                target(data)
            except Exception as error:
                pytest.fail(f"mutant {number}: {type(error).__name__}: {error}; bytes {data[:300]!r}")
