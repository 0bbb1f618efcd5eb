"""Networks and retrieval heads that stages and workers share: one instance per weight file."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch

from ..loading import cached_network
from ..precision import Precision, usual_precision
from .checkpoint import load_network
from .network import Mast3rNetwork
from .retrieval_head import RetrievalHead, load_retrieval_head


def load_shared_network(
    weights: Path | None, device: str, precision: Precision = "auto", *, compiled: bool = False
) -> Mast3rNetwork:
    """Load a network, once per file, device and precision. Only on a GPU it may be compiled. Raises WeightsError or
    DeviceError."""
    if precision == "auto":
        precision = usual_precision(torch.device(device))
    shared: Mast3rNetwork = cached_network(_build, weights, device, device, precision, compiled and device != "cpu")
    return shared


def load_shared_retrieval_head(weights: Path | None) -> RetrievalHead:
    """Load a retrieval head, once per file as long as the file does not change."""
    assert weights is not None  # the engine fills weights in before a stage is called
    state = weights.stat()
    return _head(weights, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=2)
def _head(weights: Path, size: int, changed: int) -> RetrievalHead:
    return load_retrieval_head(weights)


def _build(weights: Path, device: str, precision: str, compiled: bool) -> Mast3rNetwork:
    tf32 = precision == "tf32"
    dtype = getattr(torch, "float32" if tf32 else precision)
    return load_network(weights, device=device, dtype=dtype, tf32=tf32, compiled=compiled)
