"""Networks for many views with made-up parameters that a hash gives, and what the published ones give with them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_networks import counted
from torch import Tensor

from unposed.networks.manyview.checkpoint import build_many_view
from unposed.networks.manyview.config import (
    PUBLISHED,
    Da3Config,
    EncoderConfig,
    ManyViewConfig,
    Pi3Config,
    VggtConfig,
)
from unposed.networks.mast3r.config import DptConfig, StackConfig

FOLDER = Path(os.environ.get("UNPOSED_REFERENCE", Path(__file__).parents[3] / "shared/reference")) / "manyview"

_TOKENS = {
    "cls_token",
    "camera_token",
    "register_token",
    "register_tokens",
    "pos_embed",
    "mask_token",
    "empty_pose_tokens",
}
_CHANGED = (
    ("cam_dec.fc_fov.0.bias", 1.0, 1.0),
    ("cam_dec.fc_fov.0.weight", 0.25, 0.0),
    ("camera_head.pose_branch.fc2.bias", 1.0, 0.25),
    ("camera_head.pose_branch.fc2.weight", 0.25, 0.0),
    ("point_head.proj.weight", 0.15, 0.0),
)
"""Parameters that are multiplied and shifted, so that outputs keep a sensible size."""

_TINY_DPT = DptConfig((8, 12, 16, 24), 16, 32)
_TINY_ENCODER = EncoderConfig(StackConfig(32, 3, 2), registers=4, grid=5)
TINY: Mapping[str, ManyViewConfig] = {
    "da3_tinyA": Da3Config(EncoderConfig(StackConfig(32, 8, 2), grid=5), (3, 5, 6, 7), _TINY_DPT, 2),
    "da3_tinyG": Da3Config(EncoderConfig(StackConfig(48, 6, 3), gated=True, grid=5), (2, 3, 4, 5), _TINY_DPT, 3),
    "da3_tinyM": Da3Config(EncoderConfig(StackConfig(32, 6, 2), grid=5), (1, 2, 4, 5), _TINY_DPT),
    "vggt_tiny": VggtConfig(_TINY_ENCODER, StackConfig(32, 6, 2), (1, 2, 4, 5), _TINY_DPT),
    "pi3_tiny": Pi3Config(_TINY_ENCODER, StackConfig(32, 6, 2), camera_width=24),
}
_PREFIX = {"da3_tinyA": "model.", "da3_tinyG": "G:model.", "da3_tinyM": "M:model."}


def hashed_parameter(key: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """The parameter of this name."""
    values = counted(key, shape)
    last = key.rpartition(".")[2]
    if last in _TOKENS:
        values *= 0.5
    elif last == "gamma":
        values = 0.5 + 0.25 * values
    elif len(shape) > 1:
        values *= np.sqrt(3.0 / np.prod(shape[1:]))
    elif last == "weight":
        values = 1.0 + 0.2 * values
    else:
        values *= 0.1
    for end, factor, shift in _CHANGED:
        if key.endswith(end):
            values = factor * values + shift
    return torch.from_numpy(values.astype(np.float32)).to(dtype)


def hashed_network(name: str, dtype: torch.dtype = torch.float64) -> Any:
    """The network of a fixture, with its parameters in this type."""
    config = TINY[name] if name in TINY else PUBLISHED[name]
    prefix = _PREFIX.get(name, "model." if isinstance(config, Da3Config) else "")
    with torch.device("meta"):
        network = build_many_view(config)
    state = {key: hashed_parameter(f"{prefix}{key}", value.shape, dtype) for key, value in network.state_dict().items()}
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)


@dataclass(frozen=True)
class Fixture:
    """Outputs of the published program."""

    arrays: Mapping[str, NDArray[Any]]

    def __getitem__(self, name: str) -> Tensor:
        return torch.from_numpy(np.asarray(self.arrays[name]))

    def images(self, case: str = "") -> Tensor:
        """Normalised images (1, s, 3, h, w) in float64."""
        raw = self[f"{case}images"].movedim(-1, 1).double() / 255.0
        mean, std = (
            torch.tensor(each).double().view(3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        )
        return ((raw - mean) / std)[None]


@cache
def fixture(name: str) -> Fixture:
    """The fixture of this name; skips the test where it is not at hand."""
    path = FOLDER / "fixtures" / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"no {path.name}: $UNPOSED_REFERENCE names the folder with outputs of published networks")
    with np.load(path) as content:
        return Fixture(dict(content))


def published_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the parameters in a published file."""
    path = FOLDER / f"{name}_state_dict.json"
    if not path.exists():
        pytest.skip(f"no {path.name}: $UNPOSED_REFERENCE names the folder with lists of published parameters")
    shapes: dict[str, list[int]] = json.loads(path.read_text(encoding="utf-8"))
    return {key: tuple(shape) for key, shape in shapes.items()}


def deviation(found: Tensor, expected: Tensor) -> float:
    """Largest |a - b| / (1 + |a|)."""
    found, expected = found.double(), expected.double().reshape(found.shape)
    return float(((found - expected).abs() / (1.0 + expected.abs())).max())
