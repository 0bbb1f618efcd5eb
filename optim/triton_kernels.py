"""Whether kernels written in Triton run on a device: they need a GPU that Triton supports, and a C compiler."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import torch


def kernel_problem(device: torch.device, least_capability: tuple[int, int], attempt: Callable[[], object]) -> str:
    """Why kernels do not run on a device; empty if they do. `attempt` runs them once, on next to nothing."""
    if device.type != "cuda":
        return "there is no GPU"
    if find_spec("triton") is None:
        return "Triton is not installed"
    if torch.cuda.get_device_capability(device) < least_capability:
        return f"they need compute capability {least_capability[0]}.{least_capability[1]}"
    try:
        attempt()
    except Exception as error:  # whatever Triton, its compiler or the driver may raise: torch does the same more slowly
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ""
