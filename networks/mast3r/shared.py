"""Networks and retrieval heads that stages and workers share: one instance per weight file."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch

from ..loading import cached_network
from .checkpoint import load_network
from .network import Mast3rNetwork
from .retrieval_head import RetrievalHead, load_retrieval_head

Precision = Literal["auto", "float32", "bfloat16", "float16"]
"""Of the transformers' matrix products; auto is bfloat16 on a GPU and float32 elsewhere."""


def load_shared_network(weights: Path | None, device: str, precision: Precision = "auto") -> Mast3rNetwork:
    """Load a network, once per file, device and precision. Raises WeightsError or DeviceError."""
    if precision == "auto":
        precision = "float32" if device == "cpu" else "bfloat16"
    shared: Mast3rNetwork = cached_network(_build, weights, device, device, precision)
    return shared


def load_shared_retrieval_head(weights: Path | None) -> RetrievalHead:
    """Load a retrieval head, once per file as long as the file does not change."""
    assert weights is not None  # the engine fills weights in before a stage is called
    state = weights.stat()
    return _head(weights, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=2)
def _head(weights: Path, size: int, changed: int) -> RetrievalHead:
    return load_retrieval_head(weights)


def _build(weights: Path, device: str, precision: str) -> Mast3rNetwork:
    return load_network(weights, device=device, dtype=getattr(torch, precision))
