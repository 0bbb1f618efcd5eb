"""A self test of a GPU in twenty seconds: what it reaches, whether it computes what a CPU does, what will run on it.

    python -m unposed.gpu_check [DEVICE]     prints the outcome as JSON

`unposed doctor --gpu` runs it in a process of its own. It needs torch, numpy, scipy and safetensors only.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from unposed.networks.mast3r.checkpoint import build_network
from unposed.networks.mast3r.config import DptConfig, Mast3rConfig, StackConfig
from unposed.networks.mast3r.network import Mast3rNetwork
from unposed.networks.precision import usual_precision
from unposed.optim.bundle.adjust import adjust_bundle
from unposed.optim.bundle.adjust_torch import adjust_by_torch
from unposed.optim.bundle.problem import Bundle, BundleOptions
from unposed.optim.pair.reciprocal_matching import neighbours_by_descriptor, reciprocal_both_ways, seed_grid
from unposed.optim.pair.reciprocal_on_device import (
    DenseSides,
    nearest_by_product,
    reciprocal_both_ways_on_device,
    search_kernel_problem,
)
from unposed.synthetic.bundles import emulate_bundle

SMALL_NETWORK = Mast3rConfig(
    encoder=StackConfig(128, 4, 2),
    decoder=StackConfig(128, 4, 2),
    dpt=DptConfig((24, 48, 96, 192), 64, 32),
)
SMALL_SIZE = 96, 128
"""Height and width of the images of the small network, in pixels."""

NETWORK_BYTES = 4 << 30
"""Least memory for MASt3R, one pair at a time: 1.4 GB of parameters in 16 bits, and the maps of a pair."""

ERROR_LIMITS = {"float32": 1e-4, "tf32": 2e-2, "float16": 2e-2, "bfloat16": 1e-1}
"""Relative errors of a network's points against float64, in the norm of the whole map, above which something is wrong:
factors are rounded to 24, 11, 11 and 8 bits, and errors add up over a few dozen layers."""

DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "tf32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}

CLASSES = ((400.0, "data centre"), (80.0, "workstation"), (20.0, "desktop"), (0.0, "entry"))
"""Throughput classes by TFLOP/s of the usual precision, at least."""


@dataclass(frozen=True)
class DeviceSpeed:
    """What a device reaches in plain operations: no kernel can be faster."""

    tflops: dict[str, float]
    """Of products of square matrices, by type of number; without those that the device does not have."""
    bandwidth_gb_per_s: float
    """Of its memory: bytes read and written by a copy."""
    upload_gb_per_s: float
    """From page-locked main memory; 0 on a CPU."""
    launch_us: float
    """Time of a kernel that does next to nothing."""


@dataclass(frozen=True)
class DeviceCheck:
    """One comparison with the CPU."""

    name: str
    error: float
    limit: float

    @property
    def passed(self) -> bool:
        return self.error <= self.limit


@dataclass(frozen=True)
class GpuDiagnosis:
    """Outcome of the self test, plain enough for JSON."""

    device: str
    name: str
    memory_bytes: int
    capability: str
    precision: str
    """What networks will use."""
    throughput_class: str
    speed: DeviceSpeed
    checks: tuple[DeviceCheck, ...]
    uses: tuple[str, ...]
    """What will run on the device, and how; one line each."""
    fallbacks: tuple[str, ...]
    """What will not, and why; one line each."""
    seconds: float


def synchronize(device: torch.device) -> None:
    """Wait for a device; a CPU is never waited for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(device: torch.device, work: Callable[[], object], rounds: int = 3, least_s: float = 0.02) -> float:
    """Least seconds of some rounds after one that warms up; short work is repeated, so that a round takes `least_s`.

    Wall seconds on a GPU, processor seconds on a CPU, where other programs run beside.
    """
    clock = time.process_time if device.type == "cpu" else time.perf_counter

    def measured(times: int) -> float:
        synchronize(device)
        start = clock()
        for _ in range(times):
            work()
        synchronize(device)
        return (clock() - start) / times

    work()
    once = measured(1)
    times = max(1, min(100, round(least_s / max(once, 1e-6))))
    return min(measured(times) for _ in range(rounds))


def device_speed(device: torch.device, small: bool = False) -> DeviceSpeed:
    """Measure a device; `small` is for CPUs and tests."""
    side, copied = (256, 1 << 20) if small else (8192, 1 << 28)
    tflops = {}
    for name, dtype in DTYPES.items():
        if not knows(device, name):
            continue
        n = side // 4 if name == "float64" and not small else side  # an eighth of the speed or less
        a = torch.randn(n, n, device=device).to(dtype)
        with tf32_allowed(name == "tf32"):
            tflops[name] = 2e-12 * n**3 / seconds_of(device, partial(torch.matmul, a, a))
    source = torch.zeros(copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    bandwidth = 2e-9 * copied / seconds_of(device, lambda: target.copy_(source))
    upload = 0.0
    if device.type == "cuda":
        pinned = torch.zeros(copied // 4, dtype=torch.uint8).pin_memory()
        upload = 1e-9 * len(pinned) / seconds_of(device, lambda: pinned.to(device, non_blocking=True))
    one = torch.zeros(1, device=device)
    return DeviceSpeed(tflops, bandwidth, upload, 1e6 * seconds_of(device, lambda: one.add_(1.0)))


@contextmanager
def tf32_allowed(allowed: bool) -> Iterator[None]:
    """Allow or forbid TF32 in a block; without a GPU it means nothing."""
    matmul, conv = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, conv.allow_tf32
    matmul.allow_tf32 = conv.allow_tf32 = allowed
    try:
        yield
    finally:
        matmul.allow_tf32, conv.allow_tf32 = before


def knows(device: torch.device, precision: str) -> bool:
    """Whether a device has this type of number in its units: TF32 and bfloat16 came with compute capability 8."""
    if device.type == "cpu":
        return precision != "tf32"
    return precision not in ("tf32", "bfloat16") or torch.cuda.get_device_capability(device)[0] >= 8


def made_up_network(config: Mast3rConfig, device: torch.device, precision: str, seed: int = 0) -> Mast3rNetwork:
    """A network with random parameters, the same on every device and in every precision but for rounding."""
    torch.manual_seed(seed)
    state = Mast3rNetwork(config).state_dict()
    network = build_network(state, {}, Path("made-up parameters"), device, DTYPES[precision])
    network.tf32 = precision == "tf32"
    return network


def smooth_images(count: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Images (count, 3, height, width) in [-1, 1], as smooth as photos are."""
    coarse = torch.rand(count, 3, 12, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return functional.interpolate(coarse, size=size, mode="bicubic").clamp(-1, 1)


def relative_error(found: Tensor, wanted: Tensor) -> float:
    """|found - wanted| / |wanted| in the norm of all their numbers."""
    there = wanted.double().cpu()
    return float(torch.linalg.vector_norm(found.double().cpu() - there) / torch.linalg.vector_norm(there))


def check_device(device: torch.device) -> list[DeviceCheck]:
    """Compare what stages compute on the device with the same on the CPU; a check that raises has an infinite error."""
    precision = usual_precision(device)
    checks: dict[str, tuple[Callable[[], float], float]] = {
        "attention": (lambda: _attention_error(device), 1e-4),
        "convolution": (lambda: _convolution_error(device), 1e-4),
        "network in float32": (lambda: _network_error(device, "float32"), ERROR_LIMITS["float32"]),
        f"network in {precision}": (lambda: _network_error(device, precision), ERROR_LIMITS[precision]),
        "dense matches that differ": (lambda: _match_difference(device), 0.01),
        "bundle adjustment": (lambda: _adjustment_error(device), 1e-6),
    }
    out = []
    for name, (check, limit) in checks.items():
        try:
            error = check()
        except Exception as problem:  # whatever a card or its driver may raise: the other checks go on
            error, name = float("inf"), f"{name} ({type(problem).__name__}: {str(problem).strip().splitlines()[0]})"
        out.append(DeviceCheck(name, error, limit))
    return out


def _attention_error(device: torch.device) -> float:
    q, k, v = torch.randn(3, 2, 4, 192, 64, generator=torch.Generator().manual_seed(0))
    wanted = functional.scaled_dot_product_attention(q.double(), k.double(), v.double())
    with tf32_allowed(False):
        return relative_error(functional.scaled_dot_product_attention(*(x.to(device) for x in (q, k, v))), wanted)


def _convolution_error(device: torch.device) -> float:
    random = torch.Generator().manual_seed(0)
    x, weight = torch.randn(2, 32, 40, 48, generator=random), torch.randn(32, 32, 3, 3, generator=random)
    wanted = functional.conv2d(x.double(), weight.double(), padding=1)
    x, weight = (each.to(device, memory_format=torch.channels_last) for each in (x, weight))
    with tf32_allowed(False):
        return relative_error(functional.conv2d(x, weight, padding=1), wanted)


def _network_error(device: torch.device, precision: str) -> float:
    images = smooth_images(2, SMALL_SIZE)
    points = []
    for place, kind in ((torch.device("cpu"), "float64"), (device, precision)):
        network = made_up_network(SMALL_NETWORK, place, kind)
        tokens = network.encode(images)
        points.append(network.decode(tokens[:1], tokens[1:], SMALL_SIZE, SMALL_SIZE)[1].pts3d)
    return relative_error(points[1], points[0])


def _match_difference(device: torch.device) -> float:
    """Share of the matches that only one of both finds."""
    maps = functional.normalize(torch.randn(2, 48, 64, 24, generator=torch.Generator().manual_seed(0)), dim=-1)
    seeds = seed_grid(48, 64, 2)
    here = reciprocal_both_ways(neighbours_by_descriptor(maps[0], maps[1]), seeds, seeds)
    sides = DenseSides(maps[0].to(device), maps[1].to(device))
    there = reciprocal_both_ways_on_device([sides], seeds, seeds, nearest_by_product)
    one, other = (
        {(side, *pair) for side, run in enumerate(runs) for pair in zip(*run, strict=True)} for runs in (here, there)
    )
    return len(one ^ other) / len(one | other)


def _adjustment_error(device: torch.device) -> float:
    size = (12, 600) if device.type == "cpu" else (20, 2000)  # three seconds of a CPU, and forty
    bundle = Bundle(**emulate_bundle("ring", *size)._asdict())
    options = BundleOptions(distortion=True, loss_px=1.0, max_iterations=200, tolerance=1e-10)
    here, there = adjust_bundle(bundle, options)[1], adjust_by_torch(str(device), bundle, options)[1]
    return abs(there.final_cost / here.final_cost - 1.0)


def diagnose_gpu(device: torch.device) -> GpuDiagnosis:
    """Run the self test."""
    start = time.perf_counter()
    small = device.type == "cpu"
    speed, checks = device_speed(device, small), tuple(check_device(device))
    if small:
        name, memory, capability = "CPU", 0, ""
    else:
        card = torch.cuda.get_device_properties(device)
        name, memory, capability = card.name, card.total_memory, f"{card.major}.{card.minor}"
    precision = usual_precision(device)
    uses, fallbacks = _consequences(device, precision, memory, checks)
    kind = next(kind for least, kind in CLASSES if speed.tflops[precision] >= least)
    return GpuDiagnosis(
        str(device), name, memory, capability, precision, kind, speed, checks, uses, fallbacks,
        time.perf_counter() - start,
    )  # fmt: skip


def _consequences(
    device: torch.device, precision: str, memory_bytes: int, checks: tuple[DeviceCheck, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What will run on the device, and what will not."""
    uses = [f"networks in {precision}"]
    fallbacks = [f"{each.name}: differs from the CPU by {each.error:.1e}" for each in checks if not each.passed]
    if device.type == "cpu":
        return tuple(uses), ("no GPU that PyTorch can use: everything runs on the CPU", *fallbacks)
    if precision != "bfloat16":
        fallbacks.append(f"no bfloat16 before compute capability 8.0: networks run in {precision}")
    if memory_bytes < NETWORK_BYTES:
        size, least = memory_bytes / 2**30, NETWORK_BYTES / 2**30
        fallbacks.append(f"{size:.0f} GiB are less than MASt3R needs ({least:.0f}): use --device cpu for it")
    if problem := search_kernel_problem(device):
        fallbacks.append(f"dense matching and networks without kernels of our own, more slowly: {problem}")
    else:
        uses.append("dense matching by a kernel that writes no similarities")
    return (*uses, "bundle adjustment from 100,000 observations on"), tuple(fallbacks)


def as_plain(diagnosis: GpuDiagnosis) -> dict[str, Any]:
    """For JSON, which has no infinity."""
    plain = asdict(diagnosis)
    for each, check in zip(plain["checks"], diagnosis.checks, strict=True):
        each["passed"] = check.passed
        each["error"] = check.error if np.isfinite(check.error) else None
    return plain


def main() -> None:
    """Test the device named, else the first GPU, else the CPU."""
    usual = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(sys.argv[1] if len(sys.argv) > 1 else usual)
    print(json.dumps(as_plain(diagnose_gpu(device))))


if __name__ == "__main__":
    main()
