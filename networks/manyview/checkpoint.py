"""Load networks for many views from published weight files, without executing anything in them.

`.safetensors` and `.pt` hold parameters by name. Which network it is follows from their shapes; what it has no use for
(Gaussians, tracks, further levels of the ray branch) is left in the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..compiled import compile_blocks
from ..errors import WeightsError
from ..loading import Net, cached_network, parameter_mismatch
from ..mast3r.checkpoint import checked_device, checked_parameters, read_checkpoint
from ..mast3r.config import UnknownArchitecture
from ..precision import Precision, usual_precision
from .config import PUBLISHED, Da3Config, ManyViewConfig, VggtConfig, published_config
from .da3 import Da3DepthNetwork, Da3Network
from .pi3 import Pi3Network
from .vggt import VggtNetwork
from .vit import ViewBlock

ManyViewNetwork = Da3Network | VggtNetwork | Pi3Network
Kind = TypeVar("Kind", bound=nn.Module)

UNREAD = re.compile(
    r"gs_(head|adapter)\.|track_head\.|aggregator\.patch_embed\.mask_token$|encoder\.mask_token$|image_(mean|std)$"
    r"|head\.scratch\.output_conv[12]_aux\.[012]\."
)
"""Parameters of published files that no network here has."""


def build_many_view(config: ManyViewConfig) -> ManyViewNetwork | Da3DepthNetwork:
    """The network of an architecture, with parameters that are still to be loaded."""
    if isinstance(config, Da3Config):
        return Da3DepthNetwork(config) if config.alternate_from is None else Da3Network(config)
    return VggtNetwork(config) if isinstance(config, VggtConfig) else Pi3Network(config)


def load_many_view(
    path: Path,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    tf32: bool = False,
    compiled: bool = False,
) -> ManyViewNetwork | Da3DepthNetwork:
    """Load the network of a weight file for inference.

    `dtype` is the precision of the transformers' matrix products; norms and heads stay in float32. `tf32` lets a GPU
    round the factors of float32 products. `compiled` is as for `mast3r.checkpoint.load_network`.
    Raises WeightsError or DeviceError.
    """
    place = checked_device(device)
    state, _ = read_checkpoint(path, mapped=place.type != "cpu" or dtype == torch.float32)
    state = read_names(checked_parameters(state, path))
    try:
        found, config = published_config({name: tuple(value.shape) for name, value in state.items()})
        if PUBLISHED.get(path.stem, config) != config:
            raise WeightsError(f"{path} has the shapes of {found}: name the file so, or put {path.stem} in its place")
        with torch.device("meta"):
            network = build_many_view(config)
    except UnknownArchitecture as error:
        raise WeightsError(f"{path}: no network for many views: {error}") from error
    network.tf32 = tf32
    network = fill_network(network, state, path, place, dtype)
    if compiled:
        compile_blocks(network, (ViewBlock,))
    return network


def read_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameters by the names that the networks here have: Depth Anything 3 puts `model.` before all."""
    plain = {name.removeprefix("model."): value for name, value in state.items()}
    return {name: value for name, value in plain.items() if not UNREAD.match(name)}


def fill_network(network: Net, state: dict[str, Tensor], path: Path, device: torch.device, dtype: torch.dtype) -> Net:
    """Put parameters into a network, copying only those whose device or type changes. Empties `state`."""
    if problems := parameter_mismatch(network, state):
        raise WeightsError(f"{path}: not all of a {type(network).__name__}: {problems}")
    for name in list(state):
        value = state[name]
        in_transformer = isinstance(network.get_submodule(name.rpartition(".")[0]), nn.Linear) and not _in_head(name)
        kind = dtype if in_transformer else torch.promote_types(dtype, torch.float32)
        order = torch.channels_last if device.type == "cuda" and value.ndim == 4 else torch.preserve_format
        state[name] = value.to(device, kind, memory_format=order)
    network.load_state_dict(state, assign=True)
    state.clear()
    return network.eval().requires_grad_(False)


def _in_head(name: str) -> bool:
    """Whether a parameter is of what runs in float32 everywhere: cameras and depth are read from it."""
    return name.startswith(("head.", "cam_", "camera_head.", "depth_head.", "point_head.", "conf_head."))


def shared_many_view(
    kind: type[Kind], weights: Path | None, device: str, precision: Precision = "auto", *, compiled: bool = False
) -> Kind:
    """Load a network of this family, once per file, device and precision. Only on a GPU it may be compiled. Raises
    WeightsError or DeviceError."""
    if precision == "auto":
        precision = usual_precision(torch.device(device))
    network = cached_network(_build, weights, device, device, precision, compiled and device != "cpu")
    if not isinstance(network, kind):
        raise WeightsError(f"{weights} holds a {type(network).__name__}, and a {kind.__name__} is needed here")
    return network


def _build(weights: Path, device: str, precision: str, compiled: bool) -> nn.Module:
    tf32 = precision == "tf32"
    dtype = getattr(torch, "float32" if tf32 else precision)
    return load_many_view(weights, device=device, dtype=dtype, tf32=tf32, compiled=compiled)
