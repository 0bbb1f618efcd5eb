"""State of this installation and its problems; a broken part does not hide the others."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from unposed.pipeline.registry import PluginInfo, Registry
from unposed.pipeline.resources import cores
from unposed.pipeline.store.store import default_folder

from .isolated import Answer, answers
from .preset_check import preset_states

LIBRARIES = ("numpy", "scipy", "opencv-python-headless", "pycolmap", "poselib", "faiss-cpu", "torch", "pillow")

EXTRAS = {"view": "viser", "video": "av", "splat": "gsplat", "ray": "ray"}
"""Distribution that each extra of ours brings."""

GPU_CHECK_S = 180
"""Seconds after which the self test of a GPU is ended; it takes twenty, and a first compilation a minute."""


@dataclass(frozen=True)
class Diagnosis:
    """Facts by name, plain enough for JSON, and problems to solve, one line each."""

    facts: dict[str, Any]
    problems: tuple[str, ...]


def doctor(cache: str | Path | None = None, gpu: bool = False) -> Diagnosis:
    """Check Python, libraries, extras, GPUs, memory, plugins, which presets can run, and the cache folder (None: the
    user's). With `gpu` the first GPU is tested for twenty seconds, see `gpu_check`; where there is none, the CPU is."""
    folder = default_folder() if cache is None else Path(cache)
    libraries, missing = _libraries()
    plugins = Registry().available()
    usable = [each for each in plugins if each.problem is None]
    # The GPUs last: a driver that hangs or crashes takes nothing along.
    questions: list[tuple[str, ...]] = [(f"{__name__}:find_plugin", each.slot, each.name) for each in usable]
    questions += [("unposed.preset_check:preset_rows",), (f"{__name__}:find_gpus",)]
    *found, of_presets, of_gpus = answers(questions)
    plugin_problems = [each.problem for each in plugins if each.problem]
    plugin_problems += [
        _plugin_problem(each, answer) for each, answer in zip(usable, found, strict=True) if answer.problem
    ]
    presets, preset_problems = preset_states(of_presets)
    gpus, gpu_problems = _gpus(of_gpus)
    cache_facts, cache_problems = _cache(folder)
    facts: dict[str, Any] = {
        "unposed": version("unposed"),
        "python": platform.python_version(),
        "system": platform.platform(),
        **_machine(),
        "libraries": libraries,
        "extras": {extra: _version(name) for extra, name in EXTRAS.items()},
        "gpus": gpus,
        "cache": cache_facts,
        "plugins": [f"{i.slot}.{i.name}" for i, answer in zip(usable, found, strict=True) if not answer.problem],
        "presets": {each.name: {**asdict(each), "runs": each.runs, "text": each.text(bool(gpus))} for each in presets},
    }
    if gpu:
        facts["gpu_check"], check_problems = _gpu_check()
        gpu_problems += check_problems
    return Diagnosis(facts, (*missing, *gpu_problems, *cache_problems, *plugin_problems, *preset_problems))


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _libraries() -> tuple[dict[str, str], list[str]]:
    versions, missing = {}, []
    for name in LIBRARIES:
        if found := _version(name):
            versions[name] = found
        else:
            missing.append(f"{name} is not installed: pip install {name}")
    return versions, missing


def _machine() -> dict[str, Any]:
    memory = psutil.virtual_memory()
    return {"cores": cores(), "memory_bytes": memory.total, "memory_free_bytes": memory.available}


def find_plugin(slot: str, name: str) -> None:
    """Import a plugin; ConfigError says what is wrong with it."""
    _registry().find(slot, name)


@lru_cache
def _registry() -> Registry:
    """The one that all questions of a process share: making it reads the metadata of all distributions."""
    return Registry()


def find_gpus() -> list[dict[str, Any]]:
    """Names and memory of the GPUs that PyTorch finds."""
    import torch  # imported here, since that takes seconds and a bad driver may crash the process

    devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return [{"name": each.name, "memory_bytes": each.total_memory} for each in devices]


def _plugin_problem(plugin: PluginInfo, answer: Answer) -> str:
    if not answer.ended:
        return str(answer.problem)
    return f"plugin {plugin.slot}.{plugin.name} of {plugin.distribution} cannot be loaded: {answer.problem}"


def _gpus(answer: Answer) -> tuple[list[dict[str, Any]], list[str]]:
    if answer.problem:
        return [], [f"PyTorch does not start ({answer.problem}): networks and GPUs cannot be used"]
    return answer.value, []


def _gpu_check() -> tuple[dict[str, Any] | None, list[str]]:
    """The self test, in a process of its own, and what differs from the CPU."""
    command = [sys.executable, "-m", "unposed.gpu_check"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=GPU_CHECK_S)
    except subprocess.TimeoutExpired:
        return None, [
            f"the self test did not finish in {GPU_CHECK_S} s: try it on an idle machine, or use --device cpu"
        ]
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return None, [f"the test of the GPU failed ({last}): use --device cpu"]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    wrong = [check["name"] for check in found["checks"] if not check["passed"]]
    return found, [f"{found['name']} differs from the CPU in: {', '.join(wrong)}; use --device cpu"] if wrong else []


def _cache(folder: Path) -> tuple[dict[str, Any], list[str]]:
    held = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    parent = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
    facts = {"folder": str(folder), "bytes": held, "disk_free_bytes": shutil.disk_usage(parent).free}
    try:
        tempfile.TemporaryFile(dir=parent).close()
    except OSError as error:
        return facts, [f"the cache {folder} cannot be written ({error.strerror}): give another with --cache"]
    return facts, []
