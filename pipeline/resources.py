"""Device, threads and memory of this machine."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import ConfigError
from .memory_limits import free_bytes
from .stage import Resources

RAM_SHARE = 0.7
VRAM_SHARE = 0.85
"""Shares of the free memory that stages may use; the rest is for what `item_bytes` does not count."""


def machine(
    device: str = "cpu", workers: int | None = None, ram_bytes: int | None = None, vram_bytes: int | None = None
) -> Resources:
    """Resources of this machine, or the given ones. `device` may be `auto`: the GPUs if there are any. `cuda` is all of
    them, for stages that run on several, and the first for the others."""
    if device == "auto":
        device = "cuda" if _driver_is_there() and _cuda_works() else "cpu"
    elif device.startswith("cuda") and not _cuda_works():
        raise ConfigError(f"{device}: PyTorch finds no GPU here; use --device cpu")
    if device.startswith("cuda:") and device not in (known := _gpus()):
        raise ConfigError(f"{device}: there is no such GPU here, but {' and '.join(known)}")
    devices = tuple(_gpus()) if device == "cuda" else ()
    if vram_bytes is None:
        used = devices or ((device,) if device.startswith("cuda") else ())
        vram_bytes = int(min(map(_free_vram, used), default=0) * VRAM_SHARE)
    ram_bytes = ram_bytes or int(free_bytes() * RAM_SHARE)
    return Resources(device, workers or cores(), ram_bytes, vram_bytes, devices=devices if len(devices) > 1 else ())


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _driver_is_there() -> bool:
    """Whether a GPU driver is present, without importing torch, which takes seconds."""
    return os.name == "nt" or Path("/proc/driver/nvidia/version").exists() or Path("/dev/dxg").exists()


def _cuda_works() -> bool:
    import torch

    return torch.cuda.is_available()


def _gpus() -> list[str]:
    import torch

    return [f"cuda:{number}" for number in range(torch.cuda.device_count())]


def _free_vram(device: str) -> int:
    import torch

    return int(torch.cuda.mem_get_info(torch.device(device))[0])
