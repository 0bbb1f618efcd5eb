"""The output folder: ours or empty, held by one run at a time, and replaced only when the run is complete.

Everything is written below OUT/.new and moved into place at the end, entry by entry, so that OUT may be a mount point
or the working directory. summary.json is removed first and written last: where it exists, the rest is complete. run.log
alone is written in place.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from unposed.pipeline.errors import InputError

MARK = ".unposed"
"""Empty file that marks a folder as ours."""


@contextmanager
def locked_folder(out: Path) -> Iterator[Path]:
    """Hold `out` for one run; returns the folder for the new result."""
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
    """Move the content of `new` into `out`, and remove older entries of the same names and the older result."""
    old = new / ".old"
    old.mkdir()
    for name in ("summary.json", "sparse"):
        if (out / name).exists():
            (out / name).rename(old / name)
    entries = sorted((entry for entry in new.iterdir() if entry != old), key=lambda e: e.name == "summary.json")
    for entry in entries:
        entry.rename(out / entry.name)
