"""VGGT: an image encoder, and blocks that look at one view and at all views in turns. The first view is the reference.

Modules have the names of the published parameters.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..mast3r.heads import ImageSize
from .cameras import CameraRefiner, decode_camera
from .config import PATCH_PX, VggtConfig
from .heads import DptHead, exp_depth
from .prediction import GroupPrediction
from .vit import ImageEncoder, ViewBlock, WithTransformer, of_all_views, view_rotation

_BLOCK_EPS = 1e-5


class Aggregated(NamedTuple):
    """Tokens of b groups of s views: after a block inside the view, and after the next block over all views."""

    levels: list[Tensor]
    """Four of (b s, patches, channels), for the heads."""
    camera: Tensor
    """(b, s, channels) camera tokens after the last block."""


class Aggregator(nn.Module):
    """`aggregator` of published files."""

    def __init__(self, config: VggtConfig) -> None:
        super().__init__()
        self.config = config
        width, heads, depth = config.stack.width, config.stack.heads, config.stack.depth
        self.camera_token = nn.Parameter(torch.zeros(1, 2, 1, width))
        self.register_token = nn.Parameter(torch.zeros(1, 2, config.registers, width))
        self.patch_embed = ImageEncoder(config.encoder, "by size")
        self.frame_blocks, self.global_blocks = (
            nn.ModuleList(ViewBlock(width, heads, _BLOCK_EPS, normed=True) for _ in range(depth)) for _ in range(2)
        )

    def forward(self, images: Tensor) -> Aggregated:
        """Tokens of normalised images (b, s, 3, h, w)."""
        b, s = images.shape[:2]
        stack, special = self.config.stack, 1 + self.config.registers
        rows, columns = images.shape[3] // PATCH_PX, images.shape[4] // PATCH_PX
        here = view_rotation(rows, columns, special, stack.width // stack.heads, images.device)
        everywhere = of_all_views(here, s)
        learned = torch.cat([self.camera_token, self.register_token], dim=2)[0]
        first = torch.cat([learned[:1], learned[1:].expand(s - 1, -1, -1)]).repeat(b, 1, 1)
        x = torch.cat([first, self.patch_embed(images.flatten(0, 1))], dim=1)
        tokens, levels = x.shape[1], []
        seen = x
        for layer, (own, over_all) in enumerate(zip(self.frame_blocks, self.global_blocks, strict=True)):
            seen = own(x, here)
            x = over_all(seen.view(b, s * tokens, -1), everywhere).view(b * s, tokens, -1)
            if layer in self.config.levels_read:
                levels.append(torch.cat([seen, x], dim=-1)[:, special:])
        return Aggregated(levels, torch.cat([seen, x], dim=-1)[:, 0].view(b, s, -1))


class VggtNetwork(WithTransformer):
    """Aggregator, and heads of cameras, depth and points. Unprojected depths are better points than those of their own
    head, which is computed by `points` alone. Tracks are not followed."""

    def __init__(self, config: VggtConfig) -> None:
        super().__init__()
        self.config = config
        width = 2 * config.stack.width
        self.aggregator = Aggregator(config)
        self.camera_head = CameraRefiner(width, config.camera_blocks, config.camera_heads, config.camera_rounds)
        self.depth_head = DptHead(width, config.dpt, 2, rectified=True)
        self.point_head = DptHead(width, config.dpt, 4, rectified=True)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> GroupPrediction:
        """Predict from normalised images (b, s, 3, h, w)."""
        b, s, _, *size = images.shape
        seen, shape = self.tokens(images), (size[0], size[1])
        with self.exact():
            encoding = self.camera_head(seen.camera)[-1]
        with self.heads():
            depth, confidence = exp_depth(self.depth_head.outputs(seen.levels, shape))
        pose, focal = decode_camera(encoding, shape, clamped=False)
        return GroupPrediction(depth.view(b, s, *size), confidence.view(b, s, *size), pose, focal)

    def tokens(self, images: Tensor) -> Aggregated:
        """What the heads read, of normalised images (b, s, 3, h, w)."""
        with self.products():
            out: Aggregated = self.aggregator(images)
        return out

    def points(self, seen: Aggregated, size: ImageSize) -> tuple[Tensor, Tensor]:
        """Points (b s, height, width, 3) in the frame of the first view, and their confidence (b s, height, width)."""
        with self.heads():
            raw = self.point_head.outputs(seen.levels, size)
        xyz = raw[:, :3].movedim(1, -1)
        return xyz.sign() * xyz.abs().expm1(), raw[:, 3].exp() + 1.0
