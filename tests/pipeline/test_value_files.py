"""Values too large for the database: written as files, mapped, checked and removed like the others."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from unposed.pipeline.store import store as store_module
from unposed.pipeline.store.store import Store


@dataclass(frozen=True, eq=False)
class Table:
    name: str
    column: np.ndarray


@pytest.fixture(autouse=True)
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "FILE_BYTES", 10_000)


def table(rows: int) -> Table:
    return Table("a table", np.random.default_rng(0).normal(size=(rows, 3)))


def stored_files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "values").glob("*"))


def test_a_large_value_is_mapped_and_equal(tmp_path: Path) -> None:
    large, small = table(1000), table(10)
    with Store(tmp_path) as store:
        assert store.put("large", large, stage="toy") > 24_000
        store.put("small", small, stage="toy")
    assert stored_files(tmp_path) == ["large.value"]
    with Store(tmp_path) as store:
        for key, made in (("large", large), ("small", small)):
            found = store.get(key, Table)
            assert found.name == "a table" and not found.column.flags.writeable
            np.testing.assert_array_equal(found.column, made.column)
        assert store.verify() == (2, 0)
        assert sum(row.bytes for row in store.ls()) > 24_000


def test_columns_that_are_mapped_themselves_and_slices_are_written(tmp_path: Path) -> None:
    column = np.memmap(tmp_path / "column.bin", np.float64, "w+", shape=(2000, 3))
    column[:] = np.arange(6000.0).reshape(2000, 3)
    with Store(tmp_path) as store:
        store.put("mapped", Table("m", column), stage="toy")
        store.put("sliced", Table("s", column[::2, 1:]), stage="toy")
        np.testing.assert_array_equal(store.get("mapped", Table).column, column)
        np.testing.assert_array_equal(store.get("sliced", Table).column, column[::2, 1:])


@pytest.mark.parametrize("damage", ["flipped", "short", "gone"])
def test_a_damaged_file_is_reported_and_made_again(tmp_path: Path, damage: str) -> None:
    said: list[str] = []
    with Store(tmp_path) as store:
        store.put("key", table(1000), stage="toy")
    file = tmp_path / "values" / "key.value"
    content = bytearray(file.read_bytes())
    file.unlink()
    if damage != "gone":
        content[-5] ^= 1
        file.write_bytes(content if damage == "flipped" else content[:-100])
    with Store(tmp_path, report=said.append) as store:
        assert store.get("key", Table) is None
        assert len(said) == 1 and "damaged" in said[0]
        store.put("key", table(1000), stage="toy")
        np.testing.assert_array_equal(store.get("key", Table).column, table(1000).column)


def test_pruning_removes_the_files_and_old_strays(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.put("key", table(1000), stage="toy")
        for name, age_s in (("old.value", 7200), (".writing-x", 7200), ("young.value", 10)):
            stray = tmp_path / "values" / name
            stray.write_bytes(b"x")
            os.utime(stray, (stray.stat().st_atime, stray.stat().st_mtime - age_s))
        assert store.prune(stage="toy")[0] == 1
    assert stored_files(tmp_path) == ["young.value"]
