"""`--reproducible`: the same bytes, whatever CPU the libraries take the machine for."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import unposed
from unposed import reproducible
from unposed.pipeline.errors import ConfigError
from unposed.reproducible import X86, reproducible_environment
from unposed.synthetic.sample import sample_folder

X86_64 = platform.machine().lower() in ("x86_64", "amd64")
CPUS = ({}, {"OPENBLAS_CORETYPE": "Haswell"}, {"OPENBLAS_CORETYPE": "Prescott", "OPENCV_CPU_DISABLE": "AVX2"})


@pytest.mark.slow
@pytest.mark.skipif(not X86_64, reason="known for x86-64 only")
def test_cpus_give_the_same_bytes(tmp_path: Path) -> None:
    """And the same keys, so that one machine may go on where another has stopped."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for image in sorted(sample_folder().glob("*.jpg"))[:4]:
        (photos / image.name).write_bytes(image.read_bytes())
    cache, found = tmp_path / "cache", []
    for number, cpu in enumerate(CPUS):
        out = tmp_path / str(number)
        run = [sys.executable, "-m", "unposed", "reconstruct", str(photos), "-o", str(out), "--reproducible", "--quiet"]
        for each in (run, [*run, "--cache", str(cache)]):
            own = {} if "--cache" in each else {"UNPOSED_CACHE": str(tmp_path / f"cache-{number}")}
            done = subprocess.run(each, env={**os.environ, **cpu, **own}, capture_output=True, text=True, check=True)
            assert done.stderr == ""
            found.append({file.name: file.read_bytes() for file in (out / "sparse" / "0").iterdir()})
    assert all(each == found[0] for each in found)
    reused = (tmp_path / "2" / "run.log").read_text()
    assert "features: 4 to do" not in reused  # nothing was computed: it was stored under the keys of the other CPU


def test_the_environment_overrides_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproducible.platform, "machine", lambda: "x86_64")
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Zen")
    monkeypatch.setenv("OPENCV_CPU_DISABLE", "AVX512-SKX")  # it is no longer found, and has to stay disabled
    made = reproducible_environment()
    assert "AVX512-SKX" in made["OPENCV_CPU_DISABLE"].split(",")
    assert made["OPENBLAS_CORETYPE"] == X86["OPENBLAS_CORETYPE"] == "Nehalem" and made["PATH"] == os.environ["PATH"]
    monkeypatch.setattr(reproducible.platform, "machine", lambda: "arm64")
    with pytest.raises(ConfigError, match="not known for CPUs of the kind arm64"):
        reproducible_environment()


def test_within_a_program_it_is_too_late(toys: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNPOSED_REPRODUCIBLE", raising=False)
    with pytest.raises(ConfigError, match="use the command line"):
        unposed.reconstruct(tmp_path, preset=toys, reproducible=True)
