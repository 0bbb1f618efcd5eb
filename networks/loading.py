"""Load network parameters from untrusted weight files, once for all workers of the process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from .errors import WeightsError
from .precision import forbid_tf32

Net = TypeVar("Net", bound=nn.Module)

_building = threading.Lock()
_MAX_LISTED = 3  # parameters that an error message lists by name


def cached_network(build: Callable[..., nn.Module], weights: Path | None, device: str, *options: object) -> Any:
    """The network `build(weights, *options)` in inference mode on the device, cached by file, device and options."""
    assert weights is not None  # the engine fills weights in before a stage is called
    state = weights.stat()
    with _building:  # otherwise every worker would build its own
        return _built_on(device)(build, weights, (state.st_size, state.st_mtime_ns), *options)


@cache
def _built_on(device: str) -> Callable[..., nn.Module]:
    """The networks of one device: several devices take turns, and must not displace each other's."""

    @lru_cache(maxsize=4)
    def built(build: Callable[..., nn.Module], weights: Path, state: tuple[int, int], *options: object) -> nn.Module:
        forbid_tf32(torch.device(device))
        return build(weights, *options).eval().requires_grad_(False).to(device)

    return built


def read_parameters(path: Path, *inside: str) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint by name, from the first of its entries named in `inside`, else from the whole
    file.

    Nothing in the file is executed. Raises WeightsError if it holds anything but tensors.
    """
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever unpickling someone's file may raise
        reason = str(error).strip().partition("\n")[0].partition(". ")[0] or type(error).__name__
        raise WeightsError(f"{path}: cannot be read as weights, it may be incomplete: {reason}") from error
    for name in inside:
        if isinstance(state, Mapping) and isinstance(state.get(name), Mapping):
            state = state[name]
    if not (isinstance(state, Mapping) and state and all(isinstance(value, Tensor) for value in state.values())):
        raise WeightsError(f"{path}: holds no weights by name")
    return dict(state)


def parameter_mismatch(net: nn.Module, state: Mapping[str, Tensor], without: Collection[str] = ()) -> str:
    """Describe missing, unexpected and misshapen parameters; empty if the state fits the network.

    Parameters in `without` may be missing.
    """
    wanted = net.state_dict()
    missing = [name for name in wanted if name not in state and name not in without]
    strange = [name for name in state if name not in wanted]
    misshapen = [
        f"{name} is {list(state[name].shape)} and not {list(value.shape)}"
        for name, value in wanted.items()
        if name in state and state[name].shape != value.shape
    ]
    return "; ".join(
        f"{what}{', '.join(names[:_MAX_LISTED])}"
        f"{f' and {len(names) - _MAX_LISTED} more' if len(names) > _MAX_LISTED else ''}"
        for what, names in (("it lacks ", missing), ("it has ", strange), ("", misshapen))
        if names
    )


def load_parameters(net: Net, state: Mapping[str, Tensor], path: Path, without: Collection[str] = ()) -> Net:
    """Load parameters into a network; WeightsError if they do not fit. Buffers in `without` may be missing."""
    if problems := parameter_mismatch(net, state, without):
        raise WeightsError(f"{path}: weights of another network than {type(net).__name__}: {problems}")
    net.load_state_dict({**net.state_dict(), **state})
    return net
