"""Small facts remembered between runs, each kind a JSON file in a cache folder, the user's if none is named."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .store import default_folder


def recall(name: str, folder: Path | None = None) -> dict[str, Any]:
    """What was remembered under this name; nothing, if nothing was or it makes no sense any more."""
    try:
        record = json.loads(((folder or default_folder()) / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def remember(name: str, record: Mapping[str, Any], folder: Path | None = None) -> None:
    """Replace it, all or nothing. OSError if the folder cannot be written."""
    folder = folder or default_folder()
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, new = tempfile.mkstemp(prefix=f"{name}-", suffix=".new", dir=folder)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(record, file, indent=0)
            file.flush()
            os.fsync(file.fileno())
        Path(new).replace(folder / f"{name}.json")
    finally:
        Path(new).unlink(missing_ok=True)
