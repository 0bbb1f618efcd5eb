"""Precision of matrix products: what a device does fastest, and whether it may round to TF32."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal

import torch

Precision = Literal["auto", "float32", "tf32", "bfloat16", "float16"]
"""Of the transformers' matrix products. tf32 is float32 with factors rounded to ten bits, on GPUs that know it. auto is
float32 on a CPU and what `usual_precision` says on a GPU."""


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


_TENSOR_CORES = threading.RLock()
"""Held while the setting of TF32 is not the process's own: threads of several GPUs would undo each other's. They wait
for launches only, not for what is launched."""


@contextmanager
def tensor_cores(device: torch.device, *, allowed: bool) -> Iterator[None]:
    """Allow or forbid TF32, which rounds factors of float32 products to ten bits and is PyTorch's default for
    convolutions. A CPU knows no such thing, and its threads do not wait for each other."""
    if device.type == "cpu":
        yield
        return
    matmul, conv = torch.backends.cuda.matmul, torch.backends.cudnn
    with _TENSOR_CORES:
        before = matmul.allow_tf32, conv.allow_tf32
        matmul.allow_tf32 = conv.allow_tf32 = allowed
        try:
            yield
        finally:
            matmul.allow_tf32, conv.allow_tf32 = before


def forbid_tf32(device: torch.device) -> None:
    """Forbid TF32 from now on, wherever `tensor_cores` does not allow it: key points and matches of networks without a
    setting of their own are those of float32 on every device."""
    if device.type != "cpu":
        with _TENSOR_CORES:
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def matrix_products(dtype: torch.dtype, device: torch.device, *, tf32: bool) -> AbstractContextManager[object]:
    """The setting in which parameters of this type are multiplied: by autocast if they are narrower than float32."""
    if dtype == torch.promote_types(dtype, torch.float32):
        return tensor_cores(device, allowed=tf32)
    return torch.autocast(device.type, dtype)
