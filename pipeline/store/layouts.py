"""Files of the store as others left them: of the layout of another version, or where nothing can be written."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import StoreError

PARTS = ("-wal", "-shm", "")
"""A database, after the files that belong to it."""


def exchange_layouts(path: Path, other: int, own: int, patience_s: float) -> str:
    """Move a database of another layout aside, and take back the one that this version was working with, if there is
    one: two versions that share a folder disturb each other, but lose nothing. Says in a line what was done.
    """
    aside, ours = (path.with_name(f"{path.name}.layout-{layout}") for layout in (other, own))
    try:
        with FileLock(path.with_name(f"{path.name}.lock"), timeout=patience_s):
            if _layout(path) != other:  # another run has just done it
                return f"{path} was of another version of unposed; it was moved aside"
            _move(path, aside)
            if not ours.exists():
                return f"{path} was of another version of unposed; it was moved to {aside.name}, and a new one begun"
            _move(ours, path)
            return f"{path} was of another version of unposed; it was moved to {aside.name}, and {ours.name} taken back"
    except (OSError, Timeout) as error:
        raise StoreError(
            f"{path} was written by another version of unposed and cannot be moved aside ({error}); "
            "choose another folder with --cache"
        ) from error


def connect_to_read(path: Path) -> sqlite3.Connection:
    """A connection that changes no file. sqlite3.Error if there is no such database, or it cannot be read alone."""
    uri = path.absolute().as_uri()
    try:
        return _checked(f"{uri}?mode=ro")
    except sqlite3.OperationalError:
        # A log cannot be shared with others where none can be made. Without one the file is all there is, and nobody
        # changes it; with one, the file alone is not the truth.
        log = Path(f"{path}-wal")
        if log.exists() and log.stat().st_size:
            raise
        return _checked(f"{uri}?mode=ro&immutable=1")


def _checked(uri: str) -> sqlite3.Connection:
    db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    try:
        db.execute("SELECT count(*) FROM (SELECT 1 FROM entry LIMIT 1)").fetchone()
    except BaseException:
        db.close()
        raise
    return db


def _layout(path: Path) -> int:
    db = sqlite3.connect(path)
    try:
        return int(db.execute("PRAGMA user_version").fetchone()[0])
    finally:
        db.close()


def _move(old: Path, new: Path) -> None:
    for suffix in PARTS:
        Path(f"{new}{suffix}").unlink(missing_ok=True)
    for suffix in PARTS:
        with suppress(FileNotFoundError):
            Path(f"{old}{suffix}").rename(f"{new}{suffix}")
