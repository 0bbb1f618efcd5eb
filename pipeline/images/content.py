"""The identity of a photo's file: the hash of its bytes, as `Photo.content` and `Photo.mask_content` have it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..regular_files import read_bytes
from ..stage import InputUnavailable


def bytes_content(data: bytes | memoryview) -> str:
    """BLAKE2b of the bytes of a photo's file, 160 bits in hexadecimal."""
    return hashlib.blake2b(data, digest_size=20).hexdigest()


def file_content(path: Path) -> str:
    """The same of a file that may be large. OSError if it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=20)).hexdigest()


def read_content(path: Path, content: str, what: str) -> bytes:
    """The bytes of a photo's file, which are those that its results are stored for.

    What is decoded is what was hashed: a file that was replaced or rewritten since the photos were scanned would
    otherwise be taken for the old one, in this run and, by the store, for ever. InputUnavailable if it cannot be read,
    or has other bytes; `content` may be empty for a photo that was never scanned.
    """
    try:
        data = read_bytes(path)
    except OSError as error:
        raise InputUnavailable(f"{what}: {error.strerror or error}") from error
    if content and bytes_content(data) != content:
        raise InputUnavailable(
            f"{what}: the file has changed since the run began (if it has not, run with --verify-photos)"
        )
    return data
