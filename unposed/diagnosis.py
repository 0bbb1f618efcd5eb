"""State of this installation and its problems; a broken part does not hide the others."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from unposed.pipeline.registry import Registry
from unposed.pipeline.resources import cores
from unposed.pipeline.store.store import default_folder

from .plugin_check import check_plugins
from .preset_check import preset_states

LIBRARIES = ("numpy", "scipy", "opencv-python-headless", "pycolmap", "poselib", "faiss-cpu", "torch", "pillow")

EXTRAS = {"view": "viser", "video": "av", "splat": "gsplat", "ray": "ray"}
"""Distribution that each extra of ours brings."""

GPU_CHECK_S = 180
"""Seconds after which the self test of a GPU is ended; it takes twenty, and a first compilation a minute."""

_TORCH_PROBE = """
import json, torch
devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
print(json.dumps([{"name": d.name, "memory_bytes": d.total_memory} for d in devices]))
"""


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
    with ThreadPoolExecutor(3) as pool:  # each waits for a process of its own, which imports for seconds
        asked_gpus, asked_plugins = pool.submit(_gpus), pool.submit(_plugins)
        asked_presets = pool.submit(preset_states)
        cache_facts, cache_problems = _cache(folder)
        gpus, gpu_problems = asked_gpus.result()
        plugins, plugin_problems = asked_plugins.result()
        presets, preset_problems = asked_presets.result()
    facts: dict[str, Any] = {
        "unposed": version("unposed"),
        "python": platform.python_version(),
        "system": platform.platform(),
        **_machine(),
        "libraries": libraries,
        "extras": {extra: _version(name) for extra, name in EXTRAS.items()},
        "gpus": gpus,
        "cache": cache_facts,
        "plugins": plugins,
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


def _gpus() -> tuple[list[dict[str, Any]], list[str]]:
    """GPUs that PyTorch finds, in a process of its own: importing it is slow, and a bad driver may crash the
    process."""
    asked = subprocess.run([sys.executable, "-c", _TORCH_PROBE], capture_output=True, text=True, check=False)
    if asked.returncode == 0:
        return json.loads(asked.stdout.splitlines()[-1]), []
    last = (asked.stderr.strip().splitlines() or [f"exit code {asked.returncode}"])[-1]
    return [], [f"PyTorch does not start ({last}): networks and GPUs cannot be used"]


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


def _plugins() -> tuple[list[str], list[str]]:
    found = check_plugins(Registry().available())
    return [name for name, problem in found.items() if problem is None], [each for each in found.values() if each]
