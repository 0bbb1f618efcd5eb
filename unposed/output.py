"""The output folder: ours or empty, held by one run at a time, and replaced only when the run is complete.

Everything is written below OUT/.new, brought to the disk, and renamed to OUT/.ready: from then on the new result is the
one that counts. What is left is to move it into place, entry by entry, so that OUT may be a mount point or the working
directory; if that is cut short, the next run, export or evaluation finishes it. summary.json is removed first and moved
last: where it exists, the rest is complete and belongs to it. run.log alone is written in place.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from unposed.pipeline.durable import sync_folder, sync_tree
from unposed.pipeline.errors import InputError

MARK = ".unposed"
"""Empty file that marks a folder as ours."""
LOCK, NEW, READY, SUMMARY = ".lock", ".new", ".ready", "summary.json"
REPORT, OVERVIEW, GEOREFERENCE = "report.html", "overview.jpg", "georeference.json"
OF_RESULT = (SUMMARY, "sparse", "panoramas", REPORT, OVERVIEW, GEOREFERENCE)
"""What a new result replaces, even if it has no such thing itself."""
PATIENCE_S = 10.0
"""How long a reader waits for a run that is moving its result into place."""


@contextmanager
def locked_folder(out: Path) -> Iterator[Path]:
    """Hold `out` for one run; returns the folder for the new result. A new folder that nothing was written to goes."""
    is_new = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        strangers = sorted(entry.name for entry in out.iterdir())
        if strangers and MARK not in strangers:
            raise InputError(f"{out} holds other files ({strangers[0]}): give an empty or a new folder with -o")
        (out / MARK).touch()
        lock = FileLock(out / LOCK, timeout=0)
        lock.acquire()
    except Timeout:
        raise InputError(f"{out} is in use by another run: wait for it, or give another folder with -o") from None
    except OSError as error:
        raise InputError(f"{out} cannot be written ({error.strerror}): give another folder with -o") from None
    try:
        _settle(out)
        new = out / NEW
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        yield new
    finally:
        shutil.rmtree(out / NEW, ignore_errors=True)
        if is_new and {entry.name for entry in out.iterdir()} <= {MARK, LOCK}:
            shutil.rmtree(out, ignore_errors=True)
        lock.release()


def keep_georeference(older: Path, new: Path) -> None:
    """Where a result is on earth holds for the next one, whose frames are the same."""
    if (older / GEOREFERENCE).exists():
        shutil.copy2(older / GEOREFERENCE, new / GEOREFERENCE)


def publish(new: Path, out: Path) -> None:
    """Put the result in `new` in the place of the older one in `out`. Cut short at any moment, one of them is there."""
    sync_tree(new)
    new.rename(out / READY)
    sync_folder(out)
    _settle(out)


def settled(out: Path) -> Path:
    """The folder, after finishing what a run was cut short in that was moving a complete result into place."""
    with suppress(OSError, Timeout):  # it can only be read, or a run is at work in it
        if (out / READY).is_dir():
            with FileLock(out / LOCK, timeout=PATIENCE_S):
                _settle(out)
    return out


def _settle(out: Path) -> None:
    """Move the result in OUT/.ready into place. Every step may be the last one: what is done is not done again."""
    ready = out / READY
    old, cleared = ready / ".old", ready / ".cleared"
    entries = [] if not ready.is_dir() else [entry for entry in ready.iterdir() if entry not in (old, cleared)]
    if entries and not cleared.exists():  # what stands in OUT is the older result
        old.mkdir(exist_ok=True)
        for name in OF_RESULT:
            if (out / name).exists():
                (out / name).rename(old / name)
        cleared.touch()
    for entry in sorted(entries, key=lambda entry: (entry.name == SUMMARY, entry.name)):
        if entry.name == SUMMARY:
            sync_folder(out)
        entry.replace(out / entry.name)
    if entries:
        sync_folder(out)
    shutil.rmtree(ready, ignore_errors=True)
