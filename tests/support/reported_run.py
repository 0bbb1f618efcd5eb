"""A run with its report, and file names that are markup."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from unposed import Reconstruction

HOSTILE = (
    "<script>window.hurt=1<",
    "\"onmouseover='window.hurt=1' x=\"",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;img src=x onerror=window.hurt=1&gt;",
)
"""Beginnings of file names that are markup in one language or another."""


@dataclass(frozen=True)
class Reported:
    """A run with its report."""

    made: Reconstruction
    photos: Path
    cache: Path

    @property
    def folder(self) -> Path:
        assert self.made.folder is not None
        return self.made.folder
