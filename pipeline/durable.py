"""What is renamed into place is on the disk before: after a power cut a name stands for the old content or the new."""

from __future__ import annotations

import errno
import os
from pathlib import Path

UNKNOWN = (errno.EINVAL, errno.ENOTSUP)
"""What file systems say, mostly of networks, that do not know how to sync a folder."""


def sync_file(file: Path) -> None:
    """Wait until the content of a file is on the disk. OSError if it cannot be written there."""
    descriptor = os.open(file, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system knows of such a thing."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNKNOWN:
            raise
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """The same of everything in a folder, from the inside out."""
    for place, _, files in os.walk(folder, topdown=False):
        for name in files:
            sync_file(Path(place) / name)
        sync_folder(Path(place))
