"""The store: whole or not at all, damage seen, disk full survived, several processes."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unposed.pipeline.artifacts import SceneGraph
from unposed.pipeline.errors import StoreError
from unposed.pipeline.store.overlay import open_store
from unposed.pipeline.store.store import LAYOUT, Store, default_folder


def graph(n: int = 100) -> SceneGraph:
    """Any artifact of about 12 n bytes."""
    return SceneGraph(np.arange(2 * n, dtype=np.int32).reshape(n, 2), np.linspace(0, 1, n, dtype=np.float32))


@pytest.fixture
def reports() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, reports: list[str]) -> Iterator[Store]:
    with Store(tmp_path, reports.append, recent_bytes=0) as store:
        yield store


def spoil(store: Store, statement: str) -> None:
    """Changes the database behind the store's back."""
    store.put("other", graph(), stage="s")  # the store remembers the value read last; now it is this one
    store.get("other", SceneGraph)
    db = sqlite3.connect(store.path)
    with db:
        db.execute(statement)
    db.close()


def test_put_get_has(store: Store) -> None:
    store.put("a", graph(), stage="graph.knn")
    store.put_failure("b", "all black", stage="features.sift")
    assert store.has(["a", "b", "c"]) == {"a": None, "b": "all black"}
    np.testing.assert_array_equal(store.get("a", SceneGraph).pairs, graph().pairs)
    assert store.get("b", SceneGraph) is None and store.get("c", SceneGraph) is None


def test_many_keys_at_once(store: Store) -> None:
    for i in range(3000):
        store.put_failure(str(i), "x", stage="s")
    assert len(store.has(str(i) for i in range(10_000))) == 3000


def test_it_is_there_for_the_next_run(tmp_path: Path) -> None:
    with Store(tmp_path / "deep" / "cache") as store:
        store.put("a", graph(), stage="s")
    with Store(tmp_path / "deep" / "cache") as store:
        assert store.get("a", SceneGraph) is not None
    assert [path.name for path in (tmp_path / "deep" / "cache").iterdir()] == ["store.db"]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE payload SET data = CAST(x'00' || substr(data, 2) AS BLOB)",
        "UPDATE payload SET data = substr(data, 1, length(data) - 1)",
        "UPDATE payload SET data = CAST(substr(data, 1, 700) || x'ff' || substr(data, 702) AS BLOB)",
        "DELETE FROM payload",
    ],
)
def test_a_damaged_value_is_none_and_reported(store: Store, reports: list[str], damage: str) -> None:
    store.put("a", graph(), stage="graph.knn")
    spoil(store, damage)
    assert store.get("a", SceneGraph) is None
    assert len(reports) == 1 and reports[0].startswith("a stored result of graph.knn was damaged")
    assert store.has(["a"]) == {}
    store.put("a", graph(), stage="graph.knn")
    assert store.get("a", SceneGraph) is not None


def test_much_damage_is_reported_in_two_lines(store: Store, reports: list[str]) -> None:
    for key in "abc":
        store.put(key, graph(), stage="graph.knn")
    spoil(store, "DELETE FROM payload")
    assert [store.get(key, SceneGraph) for key in "abc"] == [None] * 3
    store.close()
    assert len(reports) == 2 and "3 stored results of graph.knn" in reports[1]


def test_verify_drops_exactly_what_is_damaged(store: Store) -> None:
    for key in "abc":
        store.put(key, graph(), stage="s")
    spoil(store, "UPDATE payload SET data = zeroblob(length(data)) WHERE id = 2")
    assert store.verify() == (3, 1)
    assert set(store.has("abc")) == {"a", "c"}
    assert store.verify() == (3, 0)


def test_a_file_that_is_no_database_is_moved_aside(tmp_path: Path, reports: list[str]) -> None:
    (tmp_path / "store.db").write_bytes(b"not a database at all" * 500)
    with Store(tmp_path, reports.append) as store:
        store.put("a", graph(), stage="s")
        assert store.has("a") == {"a": None}
    assert len(reports) == 1 and "moved to store.db.damaged-" in reports[0]
    assert len(list(tmp_path.glob("store.db.damaged-*"))) == 1


def test_a_database_cut_short_is_moved_aside_or_recomputed(tmp_path: Path, reports: list[str]) -> None:
    with Store(tmp_path) as store:
        for i in range(200):
            store.put(str(i), graph(), stage="s")
    whole = (tmp_path / "store.db").read_bytes()
    (tmp_path / "store.db").write_bytes(whole[:3000])
    with Store(tmp_path, reports.append) as store:
        assert store.has(["0"]) == {}
        store.put("0", graph(), stage="s")
    assert len(reports) == 1


def test_a_database_found_malformed_on_the_way_is_replaced_by_the_next_run(tmp_path: Path, reports: list[str]) -> None:
    with Store(tmp_path) as store:
        for i in range(500):
            store.put(str(i), graph(), stage="s")
    whole = bytearray((tmp_path / "store.db").read_bytes())
    for page in range(8, len(whole) // 4096):  # what is before holds the tables' definitions
        whole[4096 * page : 4096 * page + 100] = b"\xff" * 100
    with Store(tmp_path, reports.append) as store:
        (tmp_path / "store.db").write_bytes(whole)
        with pytest.raises(StoreError, match="run again and it is replaced"):
            for i in range(500):
                store.get(str(i), SceneGraph)
    assert reports == []
    with Store(tmp_path, reports.append) as store:
        store.put("0", graph(), stage="s")
        assert store.verify() == (1, 0)
    assert len(reports) == 1 and "moved to" in reports[0]


def test_a_database_of_another_layout_is_moved_aside_and_taken_back(tmp_path: Path, reports: list[str]) -> None:
    """Of two versions that share a folder, each finds what it had."""

    def other_version(layout: int) -> None:
        db = sqlite3.connect(tmp_path / "store.db")
        db.execute(f"PRAGMA user_version = {layout}")
        db.close()

    with Store(tmp_path) as store:
        store.put("ours", graph(), stage="s")
    (tmp_path / "store.db").rename(tmp_path / f"store.db.layout-{LAYOUT}")
    other_version(99)
    with Store(tmp_path, reports.append) as store:
        assert store.has(["ours"]) == {"ours": None}
    assert len(reports) == 1 and "store.db.layout-99" in reports[0] and "taken back" in reports[0]
    with Store(tmp_path, reports.append) as store:
        assert store.has(["ours"]) == {"ours": None}
    other_version(7)
    with Store(tmp_path, reports.append) as store:
        assert store.has(["ours"]) == {}
    assert len(reports) == 2 and "store.db.layout-7, and a new one begun" in reports[1]


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A warm cache on a file system that is mounted to be read only, as root may write anywhere else."""
    folder = tmp_path / "cache"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        with Store(folder) as store:
            store.put("a", graph(), stage="s")
            store.put_failure("bad", "all black", stage="s")
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_warm_cache_that_can_only_be_read_is_used(read_only: Path, reports: list[str]) -> None:
    before = sorted(file.name for file in read_only.iterdir())
    with open_store(read_only, reports.append) as store:
        assert store.has(["a", "b", "bad"]) == {"a": None, "bad": "all black"}
        assert store.get("a", SceneGraph) is not None
        store.put("b", graph(3), stage="s")
        assert store.has(["a", "b"]) == {"a": None, "b": None}
        assert len(store.get("b", SceneGraph).pairs) == 3
        temporary = store.folder
    assert len(reports) == 1 and "can only be read" in reports[0]
    assert not temporary.exists()
    assert sorted(file.name for file in read_only.iterdir()) == before
    with Store(read_only, read_only=True) as store:
        assert [row.items for row in store.ls()] == [2]
        with pytest.raises(StoreError, match="can only be read"):
            store.prune(stage="s")


def test_a_folder_that_can_be_written_is_no_overlay(tmp_path: Path, reports: list[str]) -> None:
    for _ in range(2):
        with open_store(tmp_path, reports.append) as store:
            assert store.folder == tmp_path
            store.put("a", graph(), stage="s")
    assert reports == []


def test_a_full_disk_is_one_line_and_the_store_stays_valid(store: Store) -> None:
    store.put("a", graph(), stage="s")
    with store._connection() as db:
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count = {pages + 20}")  # as good as a disk without room: SQLITE_FULL
    with pytest.raises(StoreError, match="no room for the cache") as error:
        store.put("b", graph(100_000), stage="s")
    assert "\n" not in str(error.value)
    assert store.has(["a", "b"]) == {"a": None}
    store.put("c", graph(1), stage="s")
    assert store.verify() == (2, 0)


def test_a_full_tmpfs(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a small file system needs root")
    try:
        with Store(tmp_path) as store, pytest.raises(StoreError, match="no room for the cache"):
            for i in range(1000):
                store.put(str(i), graph(1000), stage="s")
        with Store(tmp_path) as store:
            sound, damaged = store.verify()
            assert sound > 5 and damaged == 0
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be made"):
        Store(tmp_path / "file" / "cache")


def test_ls_sums_by_stage(store: Store) -> None:
    store.put("a", graph(1000), stage="matching.nn")
    store.put("b", graph(1000), stage="matching.nn")
    store.put("c", graph(1), stage="features.sift")
    store.put_failure("d", "all black", stage="features.sift")
    rows = store.ls()
    assert [(row.stage, row.items, row.failures) for row in rows] == [("matching.nn", 2, 0), ("features.sift", 2, 1)]
    assert rows[0].bytes > 24_000


def test_prune_by_stage_size_and_age(store: Store) -> None:
    size = store.put("old", graph(1000), stage="a")
    for key in ("new", "newer"):
        time.sleep(0.01)
        store.put(key, graph(1000), stage="a")
    store.put("b", graph(1), stage="b")
    time.sleep(0.01)
    store.get("old", SceneGraph)  # used last now
    assert store.prune(stage="b") == (1, store.put("b", graph(1), stage="b"))
    assert store.prune(stage="b")[0] == 1
    assert store.prune(keep_bytes=2 * size) == (1, size)
    assert set(store.has(["old", "new", "newer"])) == {"old", "newer"}
    assert store.prune(older_than=3600) == (0, 0)
    assert store.prune(older_than=-1) == (2, 2 * size)


def test_prune_gives_the_room_back(store: Store) -> None:
    for i in range(20):
        store.put(str(i), graph(10_000), stage="s")
    store.prune(keep_bytes=0)
    assert store.path.stat().st_size < 100_000


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
import numpy as np
from unposed.pipeline.artifacts import SceneGraph
from unposed.pipeline.store.store import Store
with Store(Path(sys.argv[1])) as store:
    for i in range(100):
        value = SceneGraph(np.full((500, 2), i, np.int32), np.ones(500, np.float32))
        store.put(str(i), value, stage="s")
        assert store.get(str(i), SceneGraph).pairs[0, 0] == i
"""
    both = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path)]) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    with Store(tmp_path) as store:
        assert store.verify() == (100, 0)
        with store._connection() as db:
            assert db.execute("SELECT count(*) FROM payload").fetchone() == (100,)


def test_a_file_that_another_run_is_just_beginning(tmp_path: Path) -> None:
    """SQLite's own waiting leaves out the switch to write-ahead logging: it failed here at once."""
    Store(tmp_path).close()
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None, check_same_thread=False)
    other.execute("PRAGMA journal_mode = DELETE").fetchone()
    other.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.3, other.close)
    timer.start()
    with Store(tmp_path) as store:
        assert not timer.is_alive()
        assert store.has(["a"]) == {}
    timer.join()


def test_the_default_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def at(**variables: str) -> Any:
        for name in ("UNPOSED_CACHE", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return default_folder()

    assert at(UNPOSED_CACHE="/a", XDG_CACHE_HOME="/b") == Path("/a")
    assert at(XDG_CACHE_HOME="/b") == Path("/b/unposed")
    assert at(HOME="/home/me") == Path("/home/me/.cache/unposed")


@pytest.mark.skipif(sys.platform != "linux", reason="open files are listed as Linux does")
def test_a_store_that_is_asked_after_it_was_closed_lets_go_of_the_file_again(tmp_path: Path) -> None:
    """As failures of a run are that ended with an error; Python 3.13 warns of each connection that is left open."""

    def is_open() -> bool:
        return any(Path(os.path.realpath(link)) == tmp_path / "store.db" for link in Path("/proc/self/fd").iterdir())

    store = Store(tmp_path)
    store.put_failure("a" * 64, "too dark", stage="x")
    assert is_open()
    store.close()
    assert not is_open()
    assert store.has(["a" * 64]) == {"a" * 64: "too dark"}
    assert not is_open()
