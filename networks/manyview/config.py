"""Published architectures of networks that see many views, chosen by the shapes of the parameters in a file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..mast3r.config import DptConfig, Shapes, StackConfig, UnknownArchitecture

PATCH_PX = 14
"""Side of the square image patch that becomes one token."""
ROPE_BASE = 100.0

Levels = tuple[int, int, int, int]

_SMALL_DPT = DptConfig((48, 96, 192, 384), 64, 32)
_BASE_DPT = DptConfig((96, 192, 384, 768), 128, 32)
_LARGE_DPT = DptConfig((256, 512, 1024, 1024), 256, 32)


@dataclass(frozen=True)
class EncoderConfig:
    """Image encoder of the shape of DINOv2."""

    stack: StackConfig
    gated: bool = False
    """Whether the feed-forward parts are SwiGLU, and not an MLP with GELU."""
    registers: int = 0
    """Tokens beside class and patches."""
    grid: int = 37
    """Patches along either side of the images that the positions were trained for."""


@dataclass(frozen=True)
class Da3Config:
    """Depth Anything 3: the later layers of the encoder itself look at all views in turns."""

    encoder: EncoderConfig
    levels_read: Levels
    """Layers, from 0, that the head reads."""
    dpt: DptConfig
    alternate_from: int | None = None
    """First layer from which odd ones attend to all views. None: one view at a time, depth and sky."""
    camera_blocks: int = 4
    camera_heads: int = 16


@dataclass(frozen=True)
class VggtConfig:
    """VGGT: blocks inside each view and over all views take turns behind an image encoder."""

    encoder: EncoderConfig
    stack: StackConfig
    """Of the blocks inside each view; as many look at all."""
    levels_read: Levels
    dpt: DptConfig
    registers: int = 4
    camera_blocks: int = 4
    camera_heads: int = 16
    camera_rounds: int = 4
    """How often cameras are corrected."""


@dataclass(frozen=True)
class Pi3Config:
    """Pi3: as VGGT, with no view that is distinct from the others."""

    encoder: EncoderConfig
    stack: StackConfig
    """Even blocks look inside each view, odd ones at all."""
    camera_width: int = 512
    registers: int = 5
    head_blocks: int = 5


ManyViewConfig = Da3Config | VggtConfig | Pi3Config

_ENCODER_L = EncoderConfig(StackConfig(1024, 24, 16), registers=4)
_PLAIN_L = Da3Config(EncoderConfig(StackConfig(1024, 24, 16)), (4, 11, 17, 23), _LARGE_DPT)

PUBLISHED: Mapping[str, ManyViewConfig] = {
    "da3-small": Da3Config(EncoderConfig(StackConfig(384, 12, 6)), (5, 7, 9, 11), _SMALL_DPT, 4),
    "da3-base": Da3Config(EncoderConfig(StackConfig(768, 12, 12)), (5, 7, 9, 11), _BASE_DPT, 4),
    "da3-large": Da3Config(EncoderConfig(StackConfig(1024, 24, 16)), (11, 15, 19, 23), _LARGE_DPT, 8),
    "da3-giant": Da3Config(EncoderConfig(StackConfig(1536, 40, 24), gated=True), (19, 27, 33, 39), _LARGE_DPT, 13),
    "da3-metric": _PLAIN_L,
    "da3-mono": _PLAIN_L,
    "vggt": VggtConfig(_ENCODER_L, StackConfig(1024, 24, 16), (4, 11, 17, 23), _LARGE_DPT),
    "pi3": Pi3Config(_ENCODER_L, StackConfig(1024, 36, 16)),
}
"""Architectures by the name of their weights. `da3-metric` and `da3-mono` differ in training alone."""


def published_config(shapes: Shapes) -> tuple[str, ManyViewConfig]:
    """The published architecture, and its name, whose encoder and depth are those of a file.

    Everything else is checked when the parameters are loaded. Raises UnknownArchitecture.
    """
    if any(name.startswith("metric_decoder.") for name in shapes):
        raise UnknownArchitecture("this is Pi3X, whose convolutional heads are not supported: use the weights of Pi3")
    found = _outline(shapes)
    for name, config in PUBLISHED.items():
        if _outline_of(config) == found:
            return name, config
    raise UnknownArchitecture(
        f"an encoder of {found[1]} channels in {found[2]} layers, followed by {found[3]}, which is none of "
        f"{', '.join(PUBLISHED)}"
    )


_Outline = tuple[type[ManyViewConfig], int, int, int]
"""Family, width and depth of the encoder, and the first layer (DA3, -1: none) or number of layers over views."""


def _outline_of(config: ManyViewConfig) -> _Outline:
    stack = config.encoder.stack
    if isinstance(config, Da3Config):
        return Da3Config, stack.width, stack.depth, -1 if config.alternate_from is None else config.alternate_from
    return type(config), stack.width, stack.depth, config.stack.depth


def _outline(shapes: Shapes) -> _Outline:
    for family, encoder, blocks in (
        (Da3Config, "backbone.pretrained", ""),
        (VggtConfig, "aggregator.patch_embed", "aggregator.frame_blocks"),
        (Pi3Config, "encoder", "decoder"),
    ):
        position = shapes.get(f"{encoder}.pos_embed")
        if position is None or len(position) != 3:
            continue
        normed = _numbers(shapes, f"{encoder}.blocks", r"attn\.q_norm\.weight")
        beyond = _numbers(shapes, blocks, "norm1.weight") if blocks else normed
        last = len(beyond) if blocks else min(normed, default=-1)
        return family, position[2], len(_numbers(shapes, f"{encoder}.blocks", "norm1.weight")), last
    raise UnknownArchitecture("no image encoder of Depth Anything 3, VGGT or Pi3")


def _numbers(shapes: Shapes, blocks: str, part: str) -> set[int]:
    return {int(found[1]) for name in shapes if (found := re.fullmatch(rf"{re.escape(blocks)}\.(\d+)\.{part}", name))}
