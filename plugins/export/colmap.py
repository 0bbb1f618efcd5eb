"""Export models in COLMAP's format, binary or text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unposed.pipeline.artifacts import Photos, SparseModels
from unposed.pipeline.colmap_model import write_models


@dataclass(frozen=True)
class ColmapExport:
    """Writes folder/sparse/0, folder/sparse/1 ..., largest model first."""

    format: Literal["binary", "text"] = "binary"
    """Text is readable, and several times as large."""

    def __call__(self, sparse: SparseModels, photos: Photos, folder: Path) -> None:
        write_models(sparse.models, photos, folder / "sparse", self.format)
