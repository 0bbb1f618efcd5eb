"""The folder a reconstruction is written to: ours or empty, held by one run at a time, replaced only when done.

Everything new is written below OUT/.new and moved into place when the run is over, entry by entry, so that OUT may be
a mount point or the working directory. summary.json leaves first and comes last: where it stands, the rest is whole.
run.log alone is written in place; it tells of the last run, whatever became of it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from unposed.pipeline.errors import InputError

MARK = ".unposed"
"""An empty file that says the folder is ours to write in."""


@contextmanager
def claimed(out: Path) -> Iterator[Path]:
    """Hold `out` for one run; gives the folder to write the new result in."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        strangers = sorted(entry.name for entry in out.iterdir())
        if strangers and MARK not in strangers:
            raise InputError(f"{out} holds other files ({strangers[0]}): give an empty or a new folder with -o")
        (out / MARK).touch()
        lock = FileLock(out / ".lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise InputError(f"{out} is in use by another run: wait for it, or give another folder with -o") from None
    except OSError as error:
        raise InputError(f"{out} cannot be written ({error.strerror}): give another folder with -o") from None
    try:
        new = out / ".new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        yield new
    finally:
        shutil.rmtree(out / ".new", ignore_errors=True)
        lock.release()


def publish(new: Path, out: Path) -> None:
    """Move what stands in `new` into `out`; older entries of the same names, and the older result, are gone after."""
    old = new / ".old"
    old.mkdir()
    for name in ("summary.json", "sparse"):
        if (out / name).exists():
            (out / name).rename(old / name)
    entries = sorted((entry for entry in new.iterdir() if entry != old), key=lambda e: e.name == "summary.json")
    for entry in entries:
        entry.rename(out / entry.name)
