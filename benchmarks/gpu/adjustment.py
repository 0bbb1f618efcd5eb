"""Part d: bundle adjustment at three sizes: seconds per step, final cost against the CPU, and Ceres where it is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial

import numpy as np
import torch

from unposed.gpu_check import seconds_of, synchronize
from unposed.optim.bundle.adjust import INITIAL_DAMPING, adjust_bundle
from unposed.optim.bundle.adjust_torch import TorchProblem, adjust_by_torch
from unposed.optim.bundle.objective import build_objective, bundle_state
from unposed.optim.bundle.problem import Bundle, BundleOptions
from unposed.optim.bundle.torch_schur import ImplicitSchurComplement
from unposed.optim.rigs import Rigs
from unposed.synthetic.bundles import SENSORS, emulate_bundle, emulated_sensors

from .setting import Case, Figure, Finding, Setting, needs
from .work import gradient_iteration_work, linearization_work

OPTIONS = BundleOptions(distortion=True, loss_px=1.0, max_iterations=30, tolerance=1e-6)
SIZES = {"0.1 million": (120, 18_000), "1 million": (400, 180_000), "10 million": (2000, 1_800_000)}
"""Photos and points of rings with about so many observations."""
SMALL_SIZES = {"2 thousand": (21, 800), "4 thousand": (24, 1400)}
SAME_COST = 1e-3
STEPS_OF_CPU = 3
"""Steps that a CPU makes where it is only timed."""


def cases(setting: Setting) -> Iterator[Case]:
    """Smaller ones first."""
    sizes = SMALL_SIZES if setting.small else SIZES
    for number, (name, size) in enumerate(sizes.items()):
        yield f"{name} observations, one step", partial(_step, setting, size)
        yield f"{name} observations, to the end", partial(_to_the_end, setting, size, number == 0)
        if number < 2:
            yield f"{name} observations, CPU", partial(_on_cpu, setting, size)
            yield f"{name} observations, Ceres", partial(_ceres, size)
        if number == 0:
            yield f"{name} observations, rigs, one step", partial(_step, setting, size, "rigs")
            yield f"{name} observations, rigs, to the end", partial(_to_the_end, setting, size, True, "rigs")
        bundle_of.cache_clear()


@cache
def bundle_of(photos: int, points: int, kind: str = "ring") -> Bundle:
    """A ring, of photos or of rigs of three, two of which are refined."""
    bundle = Bundle(**emulate_bundle(kind, photos, points)._asdict())
    if kind != "rigs":
        return bundle
    frame, sensor = np.divmod(np.arange(photos), SENSORS)
    none = np.zeros(SENSORS, np.int64)
    return replace(bundle, rigs=Rigs(frame, sensor, none, emulated_sensors(), np.arange(SENSORS) > 0))


def _step(setting: Setting, size: tuple[int, int], kind: str = "ring") -> Finding:
    """The parts of a step one by one."""
    bundle = bundle_of(*size, kind)
    objective = build_objective(bundle, OPTIONS, block_size=len(bundle.xy))
    if setting.on_gpu:
        torch.cuda.reset_peak_memory_stats(setting.device)
    with torch.no_grad():
        problem = TorchProblem(objective, setting.device, len(bundle.points))
        state = bundle_state(bundle, objective.order)
        state = replace(state, points=problem.layout.to_device(state.points))
        linear = problem.linearize(state)
        schur = ImplicitSchurComplement(problem.layout, linear, INITIAL_DAMPING)
        direction = torch.ones_like(linear.photo_gradient), torch.ones_like(linear.camera_gradient)
        rounds = 1 if setting.small else 3
        figures: dict[str, Figure] = {
            "observations": len(bundle.xy),
            "products by": "Triton kernels" if schur.kernel else "torch",
            "linearize ms": 1e3 * seconds_of(setting.device, lambda: problem.linearize(state), rounds),
            "eliminate ms": 1e3
            * seconds_of(
                setting.device, lambda: ImplicitSchurComplement(problem.layout, linear, INITIAL_DAMPING), rounds
            ),
            "iteration ms": 1e3 * seconds_of(setting.device, lambda: schur.multiply(direction), rounds),
            "step ms": 1e3 * seconds_of(setting.device, lambda: problem.step(state, linear, INITIAL_DAMPING), rounds),
            "cost ms": 1e3 * seconds_of(setting.device, lambda: problem.cost(state), rounds),
        }
    if setting.on_gpu:
        figures["peak GiB"] = torch.cuda.max_memory_allocated(setting.device) / 2**30
    m, d = len(bundle.xy), objective.free.pose_size + objective.free.intrinsics_size
    predicted = {
        "linearize ms": 1e3 * linearization_work(m, d).seconds(setting.speed, "float64"),
        "iteration ms": 1e3 * gradient_iteration_work(m, d, not schur.kernel).seconds(setting.speed, "float64"),
    }
    return Finding(figures, predicted)


def _to_the_end(setting: Setting, size: tuple[int, int], compared: bool, kind: str = "ring") -> Finding:
    bundle = bundle_of(*size, kind)
    start = time.perf_counter()
    _, summary = adjust_by_torch(str(setting.device), bundle, OPTIONS)
    synchronize(setting.device)
    seconds = time.perf_counter() - start
    figures: dict[str, Figure] = {
        "s": seconds,
        "steps": summary.iterations,
        "s per step": seconds / summary.iterations,
        "final cost": summary.final_cost,
        "of initial": summary.final_cost / summary.initial_cost,
    }
    if not compared:
        return Finding(figures)
    expected = adjust_bundle(bundle, OPTIONS)[1].final_cost
    figures["over that of the CPU - 1"] = difference = summary.final_cost / expected - 1.0
    return Finding(figures, {"limit": SAME_COST}, abs(difference) < SAME_COST)


def _on_cpu(setting: Setting, size: tuple[int, int]) -> Finding:
    """One thread, a few steps."""
    start = time.process_time()
    _, summary = adjust_bundle(bundle_of(*size), replace(OPTIONS, max_iterations=STEPS_OF_CPU))
    seconds = time.process_time() - start
    return Finding({"CPU s": seconds, "CPU s per step": seconds / summary.iterations})


def _ceres(size: tuple[int, int]) -> Finding:
    needs("pycolmap")
    from unposed.optim.bundle.ceres import adjust_by_ceres

    start, wall = time.process_time(), time.perf_counter()
    _, summary = adjust_by_ceres(bundle_of(*size), replace(OPTIONS, max_iterations=STEPS_OF_CPU))
    figures = {"CPU s": time.process_time() - start, "wall s": time.perf_counter() - wall}
    return Finding(figures | {"wall s per step": figures["wall s"] / max(1, summary.iterations)})
