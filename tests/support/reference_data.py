"""Outputs of published programs on small made-up inputs: where the files are, and those that are made when asked for.

`tests/data/reference/README.md` defines every file. The folder `$UNPOSED_REFERENCE` may hold more of them.
"""

from __future__ import annotations

import json
import lzma
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parents[1] / "data/reference"


def find_file(name: str, scratch: Path) -> Path | None:
    """The file of this name: as it lies here, unpacked or made in the folder `scratch`, or of $UNPOSED_REFERENCE."""
    if (HERE / name).exists():
        return HERE / name
    made = scratch / name
    packed = HERE / f"{name}.xz"
    if made.exists():
        return made
    if packed.exists() or name in MADE:
        made.parent.mkdir(parents=True, exist_ok=True)
        if name in MADE:
            MADE[name](made)
        else:
            made.write_bytes(lzma.decompress(packed.read_bytes()))
        return made
    further = Path(os.environ.get("UNPOSED_REFERENCE", Path(__file__).parents[3] / "shared/reference")) / name
    return further if further.exists() else None


def read_safetensors(path: Path) -> dict[str, NDArray[np.generic]]:
    """The arrays of a file: a table of contents in JSON, and then nothing but bytes."""
    kinds = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "u1", "BOOL": "?"}
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    contents: dict[str, Any] = json.loads(raw[8:start])
    contents.pop("__metadata__", None)
    arrays = {}
    for name, entry in contents.items():
        begin, end = entry["data_offsets"]
        arrays[name] = np.frombuffer(raw[start + begin : start + end], kinds[entry["dtype"]]).reshape(entry["shape"])
    return arrays


def _mast3r(path: Path) -> None:
    from tiny_networks import write_mast3r

    write_mast3r(path, _tiny_shapes())


def _dust3r(path: Path) -> None:
    from tiny_networks import write_dust3r

    write_dust3r(path, _tiny_shapes())


def _retrieval_head(path: Path) -> None:
    from tiny_networks import write_retrieval_head

    arrays = read_safetensors(HERE / "fixtures/retrieval_features.safetensors")
    write_retrieval_head(path, {part: arrays[f"prewhiten.weights.prewhiten.{part}"] for part in "mp"})


def _codebook(path: Path) -> None:
    from tiny_networks import write_codebook

    write_codebook(path, read_safetensors(HERE / "fixtures/tiny_retrieval_codebook.safetensors")["centroids"])


def _tiny_shapes() -> dict[str, list[int]]:
    shapes: dict[str, list[int]] = json.loads(
        (HERE / "fixtures/tiny_mast3r_state_dict.json").read_text(encoding="utf-8")
    )
    return shapes


MADE: dict[str, Callable[[Path], None]] = {
    "fixtures/tiny_mast3r.pth": _mast3r,
    "fixtures/tiny_dust3r.pth": _dust3r,
    "fixtures/tiny_retrieval_trainingfree.pth": _retrieval_head,
    "fixtures/tiny_retrieval_codebook.pkl": _codebook,
}
"""Checkpoints in the layout of the published ones, whose parameters follow from a formula or lie here as numbers."""
