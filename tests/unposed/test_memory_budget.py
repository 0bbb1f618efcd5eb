"""What does not fit into the memory that was given is said before anything is computed; what fits stays within it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unposed import memory_budget
from unposed.amounts import size
from unposed.memory_budget import affordable, expected_bytes, fitting, recent_bytes
from unposed.pipeline.artifacts import Photo, Photos
from unposed.pipeline.errors import ConfigError, InputError
from unposed.pipeline.stage import Grain, Resources
from unposed.pipeline.store.store import RECENT_BYTES
from unposed.run_setup import checked_graph

MB = 1 << 20


def collection(*decoding_mb: int) -> Photos:
    photos = [Photo(f"{n}.png", Path(f"{n}.png"), str(n), 40, 30) for n in range(len(decoding_mb))]
    sized = [replace(photo, decoding_bytes=mb * MB) for photo, mb in zip(photos, decoding_mb, strict=True)]
    return Photos(tuple(sized), {"x.txt": "no image"})


def graph(item_mb: int) -> Any:
    stage = SimpleNamespace(item_bytes=item_mb * MB)
    return SimpleNamespace(nodes={"features": SimpleNamespace(stage=stage, ports=SimpleNamespace(grain=Grain.PHOTO))})


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said; the program itself takes 200 MB with what its store keeps, and has not imported torch."""
    resident = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=200 * MB))
    monkeypatch.setattr(memory_budget.psutil, "Process", lambda: resident)
    monkeypatch.setattr(memory_budget, "recent_bytes", lambda limit_bytes: 0)
    modules = {name: module for name, module in sys.modules.items() if name != "torch"}
    monkeypatch.setattr(memory_budget, "sys", SimpleNamespace(modules=modules))
    return []


def test_a_limit_is_one_of_the_whole_process(notes: list[str]) -> None:
    fit = fitting(Resources("cpu", 2, 1, 0), 500 * MB, graph(100), collection(10, 20), notes.append)
    assert fit.resources.ram_bytes == 300 * MB and len(fit.photos) == 2 and notes == []


def test_without_a_limit_stages_have_what_is_free(notes: list[str]) -> None:
    fit = fitting(Resources("cpu", 2, 7 * MB, 0), None, graph(100), collection(1, 2), notes.append)
    assert fit.resources.ram_bytes == 7 * MB and fit.torch and recent_bytes(None) == RECENT_BYTES


def test_torch_is_imported_for_speed_where_it_is_a_third_of_the_memory_at_most(notes: list[str]) -> None:
    """And what it takes is lent to nobody else."""
    for limit, torch, lent in ((850, False, 650), (870, True, 450)):
        fit = fitting(Resources("cpu", 2, 1, 0), limit * MB, graph(100), collection(1, 2), notes.append)
        assert (fit.torch, fit.resources.ram_bytes) == (torch, lent * MB)
    fit = fitting(Resources("cpu", 2, 1, 0), 870 * MB, graph(100), collection(10, 451, 900), notes.append)
    assert (fit.torch, len(fit.photos)) == (False, 2)  # a photo that would not fit beside it counts more
    memory_budget.sys.modules["torch"] = sys  # there already, for networks: it has been counted
    fit = fitting(Resources("cpu", 2, 1, 0), 850 * MB, graph(100), collection(1, 2), notes.append)
    assert (fit.torch, fit.resources.ram_bytes) == (True, 650 * MB)


def test_a_small_limit_leaves_less_to_the_values_read_last() -> None:
    assert recent_bytes(320 * MB) == 20 * MB and recent_bytes(64 << 30) == RECENT_BYTES


def test_what_mapping_takes_is_said_before_it_begins(notes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """By the number of photos: the hungriest stage over the collection, beside the program."""
    whole = affordable(Resources("cpu", 1, 1, 0), 600 * MB, checked_graph("classic", ()), lambda line: None)
    node, needed = expected_bytes(whole, 2000)
    assert node == "fine" and 500 * MB < needed < 1000 * MB  # measured: see docs/trust.md
    assert expected_bytes(whole, 300)[1] < needed / 3
    fitting(Resources("cpu", 1, 1, 0), 600 * MB, whole, collection(*[1] * 200), notes.append)
    assert notes == []
    fit = fitting(Resources("cpu", 1, 1, 0), 600 * MB, whole, collection(*[1] * 2000), notes.append)
    assert len(fit.photos) == 2000 and len(notes) == 1
    assert notes[0].startswith("--ram of 629 MB will not be kept: fine takes about ")
    monkeypatch.setattr(memory_budget, "recent_bytes", recent_bytes)
    least = memory_budget._limit_of(200 * MB + needed)
    assert f"give {size(least)} " in notes[0]
    for limit, lines in ((least, 0), (least - MB, 1)):  # what is said suffices, and no less
        fitting(Resources("cpu", 1, 1, 0), limit, whole, collection(*[1] * 2000), (said := list[str]()).append)
        assert len(said) == lines


def test_a_stage_that_cannot_work_is_said_beforehand(notes: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"features takes 157 MB .* give 367 MB or more \(--ram\)"):
        fitting(Resources("cpu", 2, 1, 0), 300 * MB, graph(150), collection(1, 2), notes.append)


def test_a_closer_look_that_does_not_fit_is_left_out(notes: list[str]) -> None:
    whole = checked_graph("classic", ())
    assert affordable(Resources("cpu", 1, 1, 0), None, whole, notes.append) is whole
    assert affordable(Resources("cpu", 1, 1, 0), 2000 * MB, whole, notes.append) is whole and notes == []
    smaller = affordable(Resources("cpu", 1, 1, 0), 640 * MB, whole, notes.append)
    assert set(whole.nodes) - set(smaller.nodes) == {name for name in whole.nodes if "closer_" in name}
    assert "closer_features" not in smaller.nodes["view_graph"].sources.values() and smaller.result == whole.result
    assert notes == [
        "closer_features is left out: it takes 614 MB for a single item, and 671 MB of memory (--ram) leave 461 MB"
    ]
    # Nothing is left out of what a result needs: that is refused, as it was.
    tight = affordable(Resources("cpu", 1, 1, 0), 300 * MB, whole, notes.append)
    assert set(tight.nodes) == set(smaller.nodes)
    with pytest.raises(ConfigError, match="too little: features takes 154 MB for a single item"):
        fitting(Resources("cpu", 1, 1, 0), 300 * MB, tight, collection(10, 10), notes.append)


def test_photos_that_are_too_large_are_left_out_in_one_line(notes: list[str]) -> None:
    photos = fitting(Resources("cpu", 2, 1, 0), 500 * MB, graph(1), collection(10, 900, 20, 301), notes.append).photos
    assert [photo.name for photo in photos.photos] == ["0.png", "2.png"]
    assert list(photos.rejected) == ["x.txt", "1.png", "3.png"]
    assert len(notes) == 1 and "2 photos left out: 1.png, 3.png" in notes[0] and "944 MB" in notes[0]
    with pytest.raises(InputError, match="decoding its 40 x 30 pixels"):
        fitting(Resources("cpu", 2, 1, 0), 500 * MB, graph(1), collection(10, 900), notes.append)


PEAK = """
import re, sys
from pathlib import Path
from unposed.cli import main
code = main(sys.argv[1:])
# Not getrusage, which counts what the parent had when it forked.
peak_kb = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]
sys.stderr.write(f"\\n{code} {int(peak_kb) * 1024}")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted as Linux does")
def test_decompression_bombs_stay_within_the_limit(tmp_path: Path) -> None:
    """Two PNG of 100 KB that take 475 MB each to decode: both fit, one after the other, but not at once."""
    rng = np.random.default_rng(0)
    for number in range(4):
        Image.fromarray(rng.integers(0, 256, (96, 128, 3), np.uint8)).save(tmp_path / f"{number}.png")
    for grey, name in enumerate(("bomb-a.png", "bomb-b.png")):
        Image.new("RGB", (10000, 9500), (grey, 90, 9)).save(tmp_path / name)
    assert (tmp_path / "bomb-a.png").stat().st_size < 400_000
    limit = 900 * MB
    options = ["--ram", str(limit), "--workers", "4", "--cache", str(tmp_path / "cache"), "--quiet", "-o"]
    run = [sys.executable, "-c", PEAK, "reconstruct", str(tmp_path), *options, str(tmp_path / "out")]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    code, peak = done.stderr.split()[-2:]
    assert code == "3"  # noise has no geometry
    assert int(peak) <= 1.15 * limit
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["stages"]["features"]["computed"] + summary["stages"]["features"]["failed"] == 6


KEPT = """
import re, sys, threading
from pathlib import Path
from unposed.process import configure_process
configure_process(900 << 20)
from unposed.pipeline.executor import Job, Local
from unposed.pipeline.images.photos import single_photos
from unposed.pipeline.images.pixels import read_rgb
from unposed.pipeline.stage import Resources

def resident() -> int:
    return int(re.search(r"VmRSS:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

class Large:
    item_bytes = 300 << 20
    def __call__(self) -> bytes:
        parts = [bytes([n % 256]) * (1 << 20) for n in range(300)]
        return bytes(1000) + parts[0][:9]  # lies behind them

photo = single_photos(Path(sys.argv[1]) / "large.png").photos[0]
read_rgb(photo, 50)
before, kept = resident(), []
thread = threading.Thread(target=lambda: kept.extend([read_rgb(photo, 800), bytes(1000)]))
thread.start(); thread.join()
print(resident() - before)
job = Job(Large(), [(0,), (1,)], lambda item: {}, lambda item, value: kept.append(value), frozenset())
for _ in Local().run(job, Resources("cpu", 4, 700 << 20, 0)):
    pass
print(resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted as Linux does")
def test_freed_memory_goes_back_before_another_thread_needs_it(tmp_path: Path) -> None:
    """A photo that takes 247 MB to decode, and items of 300 MB: what they freed is not kept by their threads."""
    Image.new("RGB", (9500, 5000), (7, 90, 9)).save(tmp_path / "large.png")
    done = subprocess.run([sys.executable, "-c", KEPT, str(tmp_path)], capture_output=True, text=True, check=True)
    after_photo, after_items = map(int, done.stdout.split())
    assert after_photo < 100 * MB and after_items < 150 * MB
