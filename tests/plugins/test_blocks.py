"""Blocks of items that share photos, and photos on machines that lack them. Neither needs Ray."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unposed.pipeline.images.content import bytes_content, file_content
from unposed.pipeline.images.photos import scan
from unposed.pipeline.stage import Resources, StageError
from unposed.plugins.executor.blocks import Blocks
from unposed.plugins.executor.photo_files import NoRoom, PhotoFiles, PhotoMissing
from unposed.plugins.executor.worker import BlockWorker, Large, portable, sealed_stage


def taken(blocks: Blocks, size: int) -> list[list[tuple[int, ...]]]:
    """All blocks."""
    found = []
    while blocks:
        found.append(blocks.take(size))
    return found


@pytest.mark.parametrize("size", [1, 7, 32, 1000])
def test_every_item_is_in_one_block(size: int) -> None:
    rng = np.random.default_rng(0)
    pairs = {tuple(sorted(rng.choice(50, 2, replace=False).tolist())) for _ in range(300)}
    groups = {tuple(rng.choice(50, 4, replace=False).tolist()) for _ in range(50)}
    items = [(i,) for i in range(50)] + sorted(pairs) + sorted(groups)
    blocks = Blocks(items)
    assert len(blocks) == len(items)
    found = taken(blocks, size)
    assert sorted(item for block in found for item in block) == sorted(items)
    assert all(0 < len(block) <= size for block in found) and blocks.take(size) == []


def test_pairs_of_a_block_lie_within_few_photos() -> None:
    """300 photos on a ring, each with its next five, in random order: ten pairs a photo."""
    pairs = [tuple(sorted((i, (i + step) % 300))) for i in range(300) for step in range(1, 6)]
    order = np.random.default_rng(0).permutation(len(pairs))
    found = taken(Blocks(pairs[i] for i in order), 32)
    photos = [len({photo for pair in block for photo in pair}) for block in found]
    assert np.median(photos) <= 13  # 60 at random
    assert sum(photos) <= 3 * 300  # a photo crosses two to three times, not ten


def test_items_that_come_back_are_taken_again() -> None:
    blocks = Blocks([(0, 1), (1, 2)])
    first = blocks.take(1)
    blocks.put_back_alone(first)
    assert len(blocks) == 2 and blocks.take(9) == first and blocks.take(9) != first and not blocks
    blocks.put_back(first)
    assert taken(blocks, 9) == [first]


def test_the_content_is_that_of_the_scan(yard: Any) -> None:
    photo = scan(yard.images)[0]
    assert photo.content == file_content(photo.path) == bytes_content(photo.path.read_bytes())


def test_files_are_found_by_content_or_written(yard: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    photo = scan(yard.images)[0]
    files = PhotoFiles("run", at_home=False)
    assert files.located(photo, {}) is photo  # the same path has the same bytes

    other = tmp_path / "other.png"
    other.write_bytes(b"something else")
    elsewhere = replace(photo, path=other)
    with pytest.raises(PhotoMissing, match=photo.content):
        PhotoFiles("run", at_home=False).located(elsewhere, {})
    data = photo.path.read_bytes()
    with pytest.raises(PhotoMissing):  # damaged on the way
        PhotoFiles("run", at_home=False).located(elsewhere, {photo.content: lambda: data[:-1]})
    found = PhotoFiles("run", at_home=False).located(elsewhere, {photo.content: lambda: data})
    assert found.path.read_bytes() == data and found.path.parent == tmp_path / "unposed-run"
    second = PhotoFiles("run", at_home=False)  # another worker of the machine finds what the first has written
    masked = replace(elsewhere, mask=other, mask_content=bytes_content(b"something else"))
    assert second.located(masked, {}).path == found.path and second.located(masked, {}).mask == other
    second.tidy()
    assert not found.path.exists()
    with pytest.raises(PhotoMissing):
        second.located(elsewhere, {})


def test_a_full_disk_is_one_line(yard: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    photo = replace(scan(yard.images)[0], path=Path("/nowhere/a.jpg"))
    data = scan(yard.images)[0].path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkstemp", full)
    with pytest.raises(NoRoom, match=r"no photo can be written to .* \(No space left on device\): free"):
        PhotoFiles("run", at_home=True).located(photo, {photo.content: lambda: data})
    worker = BlockWorker("cpu", "run", False)
    lent = Resources("cpu", 1, 1 << 30, 0)
    sealed = sealed_stage(Doubled(), frozenset(), pickle.dumps)
    row = ((0,), (("number", None, (0,)),))
    result = worker.compute(sealed, lent, [row], [photo], {photo.content: lambda: data})
    assert "No space left" in result.problem and not result.values
    assert worker.compute(sealed, lent, [row], [photo], {}).missing == (photo.content,)


@dataclass(frozen=True)
class Doubled:
    """Twice a number, with a file that it reads nothing of."""

    file: Path | None = None

    def __call__(self, number: int) -> int:
        return 2 * number


def test_a_worker_computes_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNPOSED_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "net.pth"
    file.write_bytes(b"weights")
    worker, lent = BlockWorker("cpu", "run", False), Resources("cpu", 1, 1 << 30, 0)
    rows = [((0, 1), (("number", None, (0,)),)), ((1, 2), (("number", None, (1,)),))]
    sealed = sealed_stage(Doubled(file), frozenset(), pickle.dumps)
    assert worker.compute(sealed, lent, rows, [21, Large(0)], {}, 5).values == [((0, 1), 42), ((1, 2), 10)]
    file.unlink()
    another = sealed.replace(b"net.pth", b"not.pth")  # not where the driver has it, nor among the weights
    assert (
        "it lacks the file not.pth: put it into the folder of weights"
        in worker.compute(another, lent, rows, [], {}).problem
    )
    (tmp_path / "cache" / "weights").mkdir(parents=True)
    (tmp_path / "cache" / "weights" / "not.pth").write_bytes(b"weights")
    assert len(worker.compute(another, lent, rows, [1, 2], {}).values) == 2
    assert worker.introduce().resources is not None


class Odd(Exception):
    """Cannot be unpickled."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


def test_exceptions_cross_or_say_the_same() -> None:
    plain = StageError("too dark")
    assert portable(plain) is plain
    crossed = portable(Odd(1, 2))
    assert type(crossed) is RuntimeError and str(crossed) == "Odd: 1 and 2"
