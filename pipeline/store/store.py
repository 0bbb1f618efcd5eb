"""The content-addressed store: one SQLite file per cache folder, one row per item.

SQLite because it gives in one file what we need of a cache: atomic puts, kill -9 at any moment, several runs at once,
bulk look-ups. With write-ahead logging and synchronous=NORMAL a put costs no fsync; after a power cut the last few
puts may be gone, and are computed again. Payloads are a table apart, so that look-ups and summaries never touch them.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, LifoQueue
from typing import Any, NamedTuple

from ..errors import StoreError
from .codec import CodecError, decode, encode_parts
from .layouts import connect_to_read, exchange_layouts
from .recent import Recent
from .value_files import ValueFiles

FILE = "store.db"
LAYOUT = 1
BUSY_S = 60.0
RECENT_BYTES = 64 << 20
LOG_PAGES = 8192  # 32 MB: the log is folded in, with an fsync, once per some dozens of photos
FILE_BYTES = 32 << 20
"""Larger values are files of their own beside the database, and are mapped instead of read."""
CHUNK = 500  # keys per statement; SQLite's oldest limit is 999
TABLES = f"""
PRAGMA auto_vacuum = INCREMENTAL;
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS entry (
    key TEXT PRIMARY KEY, stage TEXT NOT NULL, failure TEXT, checksum INTEGER NOT NULL, size INTEGER NOT NULL,
    created REAL NOT NULL, used REAL NOT NULL, payload INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS payload (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
PRAGMA user_version = {LAYOUT};
COMMIT;
"""


class StageUse(NamedTuple):
    """What one stage has in the store."""

    stage: str
    items: int
    failures: int
    bytes: int
    last_used: float
    """Seconds since the epoch."""


def default_folder() -> Path:
    """$UNPOSED_CACHE, else unposed/ in the user's cache folder."""
    if chosen := os.environ.get("UNPOSED_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unposed"


class Store:
    """Values by key. Usable from any thread; `report` hears, in one line each, what was damaged and replaced.

    The values read last are kept in memory, up to `recent_bytes`. A store that is `read_only` changes nothing in the
    folder, not even to note what was used.
    """

    def __init__(
        self,
        folder: Path,
        report: Callable[[str], None] = lambda message: None,
        recent_bytes: int = RECENT_BYTES,
        *,
        read_only: bool = False,
    ) -> None:
        self.folder, self.path = Path(folder), Path(folder) / FILE
        self.report, self.read_only = report, read_only
        self._suspect = self.path.with_name(f"{FILE}.suspect")
        self._recent = Recent(recent_bytes)
        self.files = ValueFiles(self.folder / "values")
        self._idle: LifoQueue[sqlite3.Connection] = LifoQueue()
        self._closed = False
        self._used: set[str] = set()
        self._damaged: Counter[str] = Counter()  # by stage; a thousand damaged values are not worth a thousand lines
        self._lock = threading.Lock()
        if read_only:
            self._begin_reading()
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"{self.folder}: the cache folder cannot be made ({error.strerror}); choose another with --cache"
            ) from error
        try:
            if self._suspect.exists():
                raise sqlite3.DatabaseError("an earlier run found it malformed")
            self._begin()
        except sqlite3.DatabaseError as error:
            if not _malformed(error):
                raise self._explain(error) from error
            self._replace(error)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, key: str, kind: Any) -> Any:
        """The value of type `kind`, or None if there is none; a damaged one is reported, dropped and is none."""
        if (recent := self._recent.get(key)) is not None:
            return recent
        row = self._first(
            "SELECT checksum, size, data, stage FROM entry LEFT JOIN payload ON id = payload "
            "WHERE key = ? AND failure IS NULL",
            key,
        )
        if row is None:
            return None
        checksum, size, data, stage = row
        in_file = data == b"" and size > 0
        try:
            if not self._is_sound(key, checksum, size, data):
                raise CodecError("checksum or length is wrong")
            value = decode(self.files.map(key) or b"" if in_file else data, kind)
        except CodecError as error:
            with self._lock:
                self._damaged[stage] += 1
                first = self._damaged[stage] == 1
            if first:
                self.report(f"a stored result of {stage} was damaged ({error}) and is computed again")
            self._drop([key])
            return None
        self._recent.put(key, value, 0 if in_file else size)
        with self._lock:
            self._used.add(key)
        return value

    def put(self, key: str, value: object, *, stage: str) -> int:
        """Stores a value under a key, whole or not at all; gives its size in bytes. `stage` is for `ls`."""
        parts = encode_parts(value)
        size = sum(map(len, parts))
        if size >= FILE_BYTES:
            try:
                size, checksum = self.files.write(key, parts)
            except OSError as error:
                raise StoreError(f"{self.files.folder}: a result cannot be written ({error.strerror})") from error
            self._insert(key, stage, None, b"", size, checksum)
        else:
            data = b"".join(parts)
            self._insert(key, stage, None, data, size, zlib.crc32(data))
        return size

    def put_failure(self, key: str, reason: str, *, stage: str) -> None:
        """Stores that this item cannot be computed, and why."""
        self._insert(key, stage, reason, b"", 0, 0)

    def has(self, keys: Iterable[str]) -> dict[str, str | None]:
        """Of these keys the stored ones, each with None or the reason of its failure. Reads no values."""
        keys = list(keys)
        found: dict[str, str | None] = {}
        with self._connection() as db:
            for start in range(0, len(keys), CHUNK):
                part = keys[start : start + CHUNK]
                found.update(db.execute(f"SELECT key, failure FROM entry WHERE key IN ({_marks(part)})", part))
        with self._lock:
            self._used.update(found)
        return found

    def ls(self) -> list[StageUse]:
        """What is stored, by stage, largest first."""
        self._mark_used()
        with self._connection() as db:
            rows = db.execute(
                "SELECT stage, count(*), count(failure), sum(size), max(used) FROM entry "
                "GROUP BY stage ORDER BY sum(size) DESC, stage"
            ).fetchall()
        return [StageUse(*row) for row in rows]

    def prune(
        self, *, keep_bytes: int | None = None, older_than: float | None = None, stage: str | None = None
    ) -> tuple[int, int]:
        """Removes entries and gives their number and bytes: those unused for `older_than` seconds, then the least
        recently used until `keep_bytes` are left; only of `stage` if one is named; that whole stage if nothing else."""
        if self.read_only:
            raise StoreError(f"{self.folder}: this cache can only be read")
        self._mark_used()
        where, values = ("stage = ?", (stage,)) if stage else ("1", ())
        with self._connection() as db:
            rows = db.execute(f"SELECT key, size, used FROM entry WHERE {where} ORDER BY used DESC", values).fetchall()
        horizon = float("-inf") if older_than is None else time.time() - older_than
        whole_stage = stage is not None and keep_bytes is None and older_than is None
        kept, gone = 0, []
        for key, size, used in rows:
            if whole_stage or used < horizon or (keep_bytes is not None and kept + size > keep_bytes):
                gone.append((key, size))
            else:
                kept += size
        self._drop([key for key, _ in gone])
        with self._connection() as db:
            known = {key for (key,) in db.execute("SELECT key FROM entry")}
        self.files.remove_strays(known)
        with self._connection() as db:
            db.executescript("PRAGMA incremental_vacuum")  # `execute` would take one step, that is, free one page
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return len(gone), sum(size for _, size in gone)

    def verify(self) -> tuple[int, int]:
        """Reads everything, drops what is damaged, and gives how many entries were sound and how many were not."""
        with self._connection() as db:
            keys = [key for (key,) in db.execute("SELECT key FROM entry WHERE failure IS NULL")]
        bad = []
        for key in keys:
            row = self._first(
                "SELECT checksum, size, data FROM entry LEFT JOIN payload ON id = payload WHERE key = ?", key
            )
            if row and not self._is_sound(key, *row):
                bad.append(key)
        self._drop(bad)
        return len(keys) - len(bad), len(bad)

    def close(self) -> None:
        """Note what was used, and let go of the file. What is asked for later opens it for a moment."""
        for stage, count in self._damaged.items():
            if count > 1:
                self.report(f"in all, {count} stored results of {stage} were damaged and computed again")
        self._damaged.clear()
        try:
            with suppress(StoreError):  # a full disk must not turn a finished run into a failed one
                self._mark_used()
        finally:
            self._closed = True
            with suppress(Empty):
                while True:
                    self._idle.get_nowait().close()

    def _insert(self, key: str, stage: str, failure: str | None, data: bytes, size: int, checksum: int) -> None:
        now = time.time()
        with self._connection() as db:
            db.execute("BEGIN IMMEDIATE")
            old = db.execute("SELECT payload FROM entry WHERE key = ?", (key,)).fetchone()
            if old:  # another run was faster; the later one wins, they are equal
                db.execute("DELETE FROM payload WHERE id = ?", old)
            row = db.execute("INSERT INTO payload (data) VALUES (?)", (data,)).lastrowid
            db.execute(
                "INSERT OR REPLACE INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (key, stage, failure, checksum, size, now, now, row),
            )
            db.execute("COMMIT")

    def _is_sound(self, key: str, checksum: int, size: int, data: bytes | None) -> bool:
        """Whether what is stored of a value is what was written; empty data stand for a value with a file."""
        if data == b"" and size > 0:
            return self.files.checksum(key) == (size, checksum)
        return data is not None and (len(data), zlib.crc32(data)) == (size, checksum)

    def _drop(self, keys: list[str]) -> None:
        if self.read_only:
            return
        self.files.remove(keys)
        with self._connection() as db:
            for start in range(0, len(keys), CHUNK):
                part = keys[start : start + CHUNK]
                db.execute("BEGIN IMMEDIATE")
                db.execute(
                    f"DELETE FROM payload WHERE id IN (SELECT payload FROM entry WHERE key IN ({_marks(part)}))", part
                )
                db.execute(f"DELETE FROM entry WHERE key IN ({_marks(part)})", part)
                db.execute("COMMIT")

    def _mark_used(self) -> None:
        with self._lock:
            keys, self._used = sorted(self._used), set()
        if self.read_only:
            return
        now = time.time()
        with self._connection() as db:
            db.execute("BEGIN IMMEDIATE")
            for start in range(0, len(keys), CHUNK):
                part = keys[start : start + CHUNK]
                db.execute(f"UPDATE entry SET used = ? WHERE key IN ({_marks(part)})", (now, *part))
            db.execute("COMMIT")

    def _first(self, statement: str, key: str) -> Any:
        with self._connection() as db:
            return db.execute(statement, (key,)).fetchone()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection of one's own for a while; what SQLite has to complain of comes out as StoreError."""
        try:
            db = self._idle.get_nowait()
        except Empty:
            try:
                db = self._connect()
            except sqlite3.Error as error:
                raise self._explain(error) from error
        try:
            yield db
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            raise self._explain(error) from error
        finally:
            if db.in_transaction:  # left by an exception that is not SQLite's, such as Ctrl-C
                db.rollback()
            if self._closed:
                db.close()
            else:
                self._idle.put(db)

    def _connect(self) -> sqlite3.Connection:
        if self.read_only:
            return connect_to_read(self.path)
        db = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}").fetchone()
        except BaseException:
            db.close()
            raise
        return db

    def _begin_reading(self) -> None:
        with self._connection() as db:
            (layout,) = db.execute("PRAGMA user_version").fetchone()
        if layout != LAYOUT:
            raise StoreError(
                f"{self.path} is of another version of unposed and cannot be replaced; choose another cache"
            )

    def _begin(self) -> None:
        db = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            (layout,) = db.execute("PRAGMA user_version").fetchone()
            if layout in (0, LAYOUT):
                if layout == 0:
                    db.executescript(TABLES)
                _log_ahead(db)
                db.execute("SELECT count(*) FROM (SELECT 1 FROM entry LIMIT 1)").fetchone()
                db.execute("SELECT count(*) FROM (SELECT 1 FROM payload LIMIT 1)").fetchone()
                return
        finally:
            db.close()
        self.report(exchange_layouts(self.path, layout, LAYOUT, BUSY_S))
        self._begin()

    def _replace(self, error: sqlite3.DatabaseError) -> None:
        """A file that is no database any more is moved aside, with its log, and a new one begun."""
        aside = self.path.with_name(f"{FILE}.damaged-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}")
        try:
            for suffix in ("-wal", "-shm", ""):
                with suppress(FileNotFoundError):
                    Path(f"{self.path}{suffix}").rename(f"{aside}{suffix}")
            self._suspect.unlink(missing_ok=True)
            self._begin()
        except (OSError, sqlite3.Error) as second:
            raise StoreError(f"{self.path} is damaged ({error}) and cannot be replaced ({second})") from second
        self.report(f"{self.path} was damaged ({error}); it was moved to {aside.name} and a new one begun")

    def _explain(self, error: sqlite3.Error) -> StoreError:
        text = str(error)
        if "full" in text or "disk I/O" in text:  # the log's index cannot even be mapped on a full disk
            return StoreError(
                f"{self.folder}: no room for the cache ({text}); what is stored stays valid: free some "
                "space (unposed cache prune) or choose another folder with --cache, and run again"
            )
        if _malformed(error):
            # Others may be reading it, and checking all of it takes long: so the next run begins by replacing it.
            with suppress(OSError):
                self._suspect.touch()
            return StoreError(f"{self.path} is damaged ({text}); run again and it is replaced")
        if "locked" in text or "busy" in text:
            return StoreError(f"{self.path}: another run has held it for {BUSY_S:.0f} s ({text}); run again")
        return StoreError(f"{self.path}: the cache cannot be used ({text}); choose another folder with --cache")


def _malformed(error: sqlite3.Error) -> bool:
    return any(word in str(error) for word in ("malformed", "not a database", "no such table", "no such column"))


def _log_ahead(db: sqlite3.Connection) -> None:
    """Write-ahead logging, which the file keeps for all later connections.

    SQLite does not wait by itself for this switch: where another run is just beginning the same file, it fails at once.
    """
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL").fetchone()
            return
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorname", "") != "SQLITE_BUSY" or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _marks(part: list[str]) -> str:
    return ",".join("?" * len(part))
