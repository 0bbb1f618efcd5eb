"""The folder of an export: new, empty, or an older export, which is replaced only when the new one is complete."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unposed.pipeline.errors import InputError

MARK = ".unposed-export"
"""File that marks a folder as an export; its lines are the entries that were written."""
NEW = ".unposed-export-new"
DERIVED = re.compile(r"images_\d+_png")
"""Folders that trainers make of an export, and that would be stale beside the next one."""


@contextmanager
def replaced_export(folder: Path) -> Iterator[Path]:
    """A folder to make and write into, whose content stands in `folder` at the end, in the place of an older export.

    What is not ours is never removed: a folder that holds anything else is refused. If the writing fails, the older
    export stays as it was, and nothing is left of the new one.
    """
    new = folder / NEW
    existed = folder.exists()
    try:
        older = older_export(folder)
        shutil.rmtree(new, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        yield new
        new.mkdir(exist_ok=True)
        entries = sorted(entry.name for entry in new.iterdir())
        (folder / MARK).write_text("".join(f"{name}\n" for name in sorted({*entries, *older})), encoding="utf-8")
        for name in older:
            _remove(folder / name)
        for name in entries:
            (new / name).rename(folder / name)
        (folder / MARK).write_text("".join(f"{name}\n" for name in entries), encoding="utf-8")
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{folder} cannot be written ({reason}): make room, or give another folder with -o") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
        if not existed and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def older_export(folder: Path) -> list[str]:
    """The entries of an older export. InputError if the folder holds anything else."""
    if not folder.exists():
        return []
    if not folder.is_dir():
        raise InputError(f"{folder} is a file: give a new folder with -o")
    present = sorted(entry.name for entry in folder.iterdir() if entry.name not in (MARK, NEW))
    mark = folder / MARK
    written = set(mark.read_text("utf-8").splitlines()) if mark.is_file() else set()
    if strangers := [name for name in present if name not in written and not (written and DERIVED.fullmatch(name))]:
        raise InputError(f"{folder} holds other files ({strangers[0]}): give an empty or a new folder with -o")
    return present


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
