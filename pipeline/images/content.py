"""The identity of a photo's file: the hash of its bytes, as `Photo.content` and `Photo.mask_content` have it."""

from __future__ import annotations

import hashlib
from pathlib import Path


def bytes_content(data: bytes | memoryview) -> str:
    """BLAKE2b of the bytes of a photo's file, 160 bits in hexadecimal."""
    return hashlib.blake2b(data, digest_size=20).hexdigest()


def file_content(path: Path) -> str:
    """The same of a file that may be large. OSError if it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=20)).hexdigest()
