"""Load networks of the DUSt3R and MASt3R family from published weight files, without executing anything in them.

Three layouts are read: `.pth` with parameters and the training arguments, among them the constructor call as text;
`.safetensors` with a `config.json` beside it; and either of them with parameters alone. Files of the same architecture
from elsewhere, such as MonST3R's, load in the same way.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..compiled import compile_blocks
from ..errors import DeviceError, WeightsError
from ..loading import parameter_mismatch
from .config import UnknownArchitecture, infer_config, parse_constructor
from .croco import DecoderBlock, EncoderBlock
from .network import Mast3rNetwork

Parameters = dict[str, Tensor]

_scalar: Any = np.float64(0).__reduce__()[0]
"""NumPy's constructor of scalars; its module depends on NumPy's version."""
SAFE_GLOBALS: list[Any] = [
    # Other content of published checkpoints: settings, file names and numbers. Constructing them has no side effect.
    argparse.Namespace,
    pathlib.PosixPath,
    np.dtype,
    np.dtypes.Float64DType,
    (_scalar, "numpy.core.multiarray.scalar"),
    (_scalar, "numpy._core.multiarray.scalar"),
]
"""Types that may be unpickled."""


def load_network(
    path: Path,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    tf32: bool = False,
    compiled: bool = False,
) -> Mast3rNetwork:
    """Load the network of a weight file for inference.

    `dtype` is the precision of the transformers' parameters and matrix products; norms, rotary embeddings and heads
    stay in float32. `tf32` lets a GPU round the factors of float32 products. On a CPU the file is memory-mapped, so
    that unused parts take no memory. `compiled` compiles the transformer blocks with torch.compile at their first use
    with each shape of image, which takes a minute, and goes on without where that fails. Raises WeightsError
    or DeviceError.
    """
    place = checked_device(device)
    # Parameters that are converted are read, not mapped: mapped ones could not be freed one by one.
    mapped = place.type != "cpu" or dtype == torch.float32
    network = build_network(*read_checkpoint(path, mapped=mapped), path, place, dtype)
    network.tf32 = tf32
    if compiled:
        compile_blocks(network, (EncoderBlock, DecoderBlock))
    return network


def build_network(
    state: Parameters, arguments: Mapping[str, Any], path: Path, device: torch.device, dtype: torch.dtype
) -> Mast3rNetwork:
    """Build the network that fits these parameters, copying only those whose device or type changes.

    `path` is named in errors. Empties `state`, so that the memory of converted parameters is freed one by one.
    """
    full = resolve_aliases(state)
    state.clear()
    try:
        config = infer_config({name: tuple(value.shape) for name, value in full.items()}, arguments)
        with torch.device("meta"):
            network = Mast3rNetwork(config)
    except (UnknownArchitecture, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: no network of the DUSt3R and MASt3R family: {error}") from error
    if problems := parameter_mismatch(network, full):
        raise WeightsError(f"{path}: not all of a network of the DUSt3R and MASt3R family: {problems}")
    for name in full:
        value = full[name]
        # Convolutions on tensor cores want channels last.
        order = torch.channels_last if device.type == "cuda" and value.ndim == 4 else torch.preserve_format
        full[name] = value.to(device, _type_of(network, name, dtype), memory_format=order)
    network.load_state_dict(full, assign=True)
    return network.eval().requires_grad_(False)


def read_checkpoint(path: Path, *, mapped: bool = True) -> tuple[Parameters, dict[str, Any]]:
    """Read the parameters of a file, and the constructor's arguments where the file has them."""
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    content = read_torch(path, mapped=mapped)
    arguments: dict[str, Any] = {}
    if isinstance(content.get("args"), argparse.Namespace):
        text = getattr(content["args"], "model", None)
        if isinstance(text, str):
            try:
                _, arguments = parse_constructor(text)
            except UnknownArchitecture as error:
                raise WeightsError(f"{path}: {error}") from error
    elif isinstance(content.get("croco_kwargs"), Mapping):
        arguments = dict(content["croco_kwargs"])
    return checked_parameters(content.get("model", content), path), arguments


_ALLOWING = threading.Lock()
"""Held while reading: the list of safe types is global to the process, and leaving the context in one thread would
clear it for another."""


def read_torch(path: Path, *, mapped: bool = True) -> Mapping[str, Any]:
    """Read the dictionary of a torch.save file, tensors memory-mapped or loaded; WeightsError if it holds anything but
    data."""
    try:
        with _ALLOWING, torch.serialization.safe_globals(SAFE_GLOBALS):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # whatever unpickling someone's file may raise
        reason = str(error).strip().partition("\n")[0].partition(". ")[0] or type(error).__name__
        if "Unsupported" in str(error) or "GLOBAL" in str(error):
            reason = "it asks for code to be run, or for objects that are no weights"
        raise WeightsError(f"{path}: cannot be read as weights, it may be incomplete: {reason}") from error
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path}: holds no weights by name")
    return content


def checked_parameters(state: object, path: Path) -> Parameters:
    """The tensors by name, without the prefix of DataParallel; WeightsError if it is no dictionary of tensors."""
    if not (isinstance(state, Mapping) and state and all(isinstance(value, Tensor) for value in state.values())):
        raise WeightsError(f"{path}: holds no weights by name")
    return {str(name).removeprefix("module."): value for name, value in state.items()}


def _read_safetensors(path: Path) -> tuple[Parameters, dict[str, Any]]:
    try:
        state = load_file(path)
        beside = path.with_name("config.json")
        arguments = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read as weights, it may be incomplete: {error}") from error
    if not isinstance(arguments, Mapping):
        raise WeightsError(f"{path}: its config.json is no table of settings")
    numbers = {"inf": float("inf"), "-inf": float("-inf")}  # not defined in JSON
    return state, {
        name: tuple(numbers.get(str(v), v) for v in value) if isinstance(value, list) else value
        for name, value in arguments.items()
    }


def resolve_aliases(state: Mapping[str, Tensor]) -> Parameters:
    """Add parameters that files may omit as copies of others, and remove CroCo's prediction head.

    The convolutions of each DPT level have two names, and CroCo has one decoder where DUSt3R has two.
    """
    full = dict(state)
    for head in ("downstream_head1", "downstream_head2"):
        for k in range(4):
            names = f"{head}.dpt.scratch.layer{k + 1}_rn.weight", f"{head}.dpt.scratch.layer_rn.{k}.weight"
            for name, alias in (names, names[::-1]):
                if name in state:
                    full.setdefault(alias, state[name])
    if not any(name.startswith("dec_blocks2.") for name in state):
        for name, value in state.items():
            if name.startswith("dec_blocks."):
                full[name.replace("dec_blocks.", "dec_blocks2.", 1)] = value
    return {name: value for name, value in full.items() if not name.startswith("prediction_head.")}


def _type_of(network: nn.Module, name: str, dtype: torch.dtype) -> torch.dtype:
    """Type of a parameter: `dtype` for matrix products of the transformers, float32 or wider for all else."""
    product = isinstance(network.get_submodule(name.rpartition(".")[0]), nn.Linear | nn.Conv2d)
    own = product and not name.startswith("downstream_head")
    return dtype if own else torch.promote_types(dtype, torch.float32)


def checked_device(device: str) -> torch.device:
    """The device; DeviceError if it is not available."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise DeviceError(f"device {device} was asked for, and there is no CUDA device that PyTorch can use: use cpu")
    return torch.device(device)
