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

Precision = Literal["auto", "float32", "tf32", "bfloat16", "float16"]
"""Of the transformers' matrix products. tf32 is float32 with factors rounded to ten bits, on GPUs that know it. auto is
float32 on a CPU and what `usual_precision` says on a GPU."""


def load_shared_network(weights: Path | None, device: str, precision: Precision = "auto") -> Mast3rNetwork:
    """Load a network, once per file, device and precision. Raises WeightsError or DeviceError."""
    if precision == "auto":
        precision = usual_precision(torch.device(device))
    shared: Mast3rNetwork = cached_network(_build, weights, device, device, precision)
    return shared


def load_shared_retrieval_head(weights: Path | None) -> RetrievalHead:
    """Load a retrieval head, once per file as long as the file does not change."""
    assert weights is not None  # the engine fills weights in before a stage is called
    state = weights.stat()
    return _head(weights, state.st_size, state.st_mtime_ns)


def usual_precision(device: torch.device) -> Precision:
    """The type of number that a device multiplies fastest, of those that keep the results.

    Matrix products on tensor cores are 8 to 16 times as fast as in float32. Ampere and later (compute capability 8) do
    bfloat16, which has the range of float32; Volta and Turing (7) emulate it, and do float16, whose largest number is
    65504. Older cards have no tensor cores.
    """
    if device.type == "cpu":
        return "float32"
    if device.type != "cuda":
        return "bfloat16"
    major, _ = torch.cuda.get_device_capability(device)
    return "bfloat16" if major >= 8 else "float16" if major == 7 else "float32"


@lru_cache(maxsize=2)
def _head(weights: Path, size: int, changed: int) -> RetrievalHead:
    return load_retrieval_head(weights)


def _build(weights: Path, device: str, precision: str) -> Mast3rNetwork:
    tf32 = precision == "tf32"
    return load_network(weights, device=device, dtype=getattr(torch, "float32" if tf32 else precision), tf32=tf32)
