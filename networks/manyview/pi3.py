"""Pi3: as VGGT without a view that is distinct from the others; points in the frame of each view, and its pose.

Modules have the names of the published parameters.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..transformer import RotaryEmbedding
from .cameras import inverse_pose
from .config import PATCH_PX, Pi3Config
from .local_points import focals_from_local_points
from .prediction import GroupPrediction
from .vit import ENCODER_EPS, ImageEncoder, ViewBlock, WithTransformer, of_all_views, view_rotation

POINT_CHANNELS = 3


class LocalPoints(NamedTuple):
    """What the heads give for b groups of s views."""

    points: Tensor
    """(b, s, height, width, 3) in the frame of the view."""
    confidence: Tensor
    """(b, s, height, width) logits."""
    world_from_cam: Tensor
    """(b, s, 3, 4)."""


class ViewDecoder(nn.Module):
    """Blocks inside each view between two projections."""

    def __init__(self, width: int, own: int, heads: int, blocks: int, out: int) -> None:
        super().__init__()
        self.projects = nn.Linear(width, own)
        self.blocks = nn.ModuleList(ViewBlock(own, heads, ENCODER_EPS, scaled=False) for _ in range(blocks))
        self.linear_out = nn.Linear(own, out)

    def forward(self, x: Tensor, here: RotaryEmbedding) -> Tensor:
        stream = self.projects(x).to(x.dtype)
        for block in self.blocks:
            stream = block(stream, here)
        out: Tensor = self.linear_out(stream).to(x.dtype)
        return out


class PatchPixels(nn.Module):
    """Patch tokens to the pixels of the patches."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, channels * PATCH_PX**2)

    def forward(self, tokens: Tensor, rows: int, columns: int) -> Tensor:
        """(n, channels, height, width) from (n, patches, width)."""
        return F.pixel_shuffle(self.proj(tokens).transpose(1, 2).unflatten(2, (rows, columns)), PATCH_PX)


class ResidualLayers(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.res_conv1, self.res_conv2, self.res_conv3 = (nn.Linear(width, width) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        change = F.relu(self.res_conv3(F.relu(self.res_conv2(F.relu(self.res_conv1(x))))))
        return x + change


class PoseHead(nn.Module):
    """Patch tokens of a view to its pose."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.res_conv = nn.ModuleList(ResidualLayers(width) for _ in range(2))
        self.more_mlps = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.fc_t = nn.Linear(width, 3)
        self.fc_rot = nn.Linear(width, 9)

    def forward(self, tokens: Tensor) -> Tensor:
        """World-from-camera (n, 3, 4) from tokens (n, patches, width)."""
        for layers in self.res_conv:
            tokens = layers(tokens)
        x = self.more_mlps(tokens.mean(1))
        return torch.cat([rotation_of_rows(self.fc_rot(x)), self.fc_t(x)[..., None]], dim=-1)


def rotation_of_rows(raw: Tensor) -> Tensor:
    """Rotations (n, 3, 3) nearest to the matrices of normalised rows (n, 9)."""
    u, _, vt = torch.linalg.svd(F.normalize(raw.reshape(*raw.shape[:-1], 3, 3), dim=-1))
    sign = torch.det(u @ vt)
    rotation: Tensor = torch.cat([u[..., :2], u[..., 2:] * sign[..., None, None]], dim=-1) @ vt
    return rotation


class Pi3Network(WithTransformer):
    """Encoder, blocks and three decoders: points, confidence, poses."""

    def __init__(self, config: Pi3Config) -> None:
        super().__init__()
        self.config = config
        width, heads = config.stack.width, config.stack.heads
        self.encoder = ImageEncoder(config.encoder, "by size")
        self.register_token = nn.Parameter(torch.zeros(1, 1, config.registers, width))
        self.decoder = nn.ModuleList(
            ViewBlock(width, heads, ENCODER_EPS, normed=True) for _ in range(config.stack.depth)
        )
        blocks = config.head_blocks
        self.point_decoder = ViewDecoder(2 * width, width, heads, blocks, width)
        self.conf_decoder = ViewDecoder(2 * width, width, heads, blocks, width)
        self.camera_decoder = ViewDecoder(2 * width, width, heads, blocks, config.camera_width)
        self.point_head = PatchPixels(width, POINT_CHANNELS)
        self.conf_head = PatchPixels(width, 1)
        self.camera_head = PoseHead(config.camera_width)

    @torch.inference_mode()
    def points(self, images: Tensor) -> LocalPoints:
        """Points, confidences and poses of normalised images (b, s, 3, h, w)."""
        b, s = images.shape[:2]
        stack, special = self.config.stack, self.config.registers
        rows, columns = images.shape[3] // PATCH_PX, images.shape[4] // PATCH_PX
        here = view_rotation(rows, columns, special, stack.width // stack.heads, images.device)
        everywhere = of_all_views(here, s)
        with self.products():
            patches = self.encoder(images.flatten(0, 1))
            x = torch.cat([self.register_token[0].expand(b * s, -1, -1), patches], dim=1)
            tokens, before = x.shape[1], x
            for layer, block in enumerate(self.decoder):
                before = x
                if layer % 2:
                    x = block(x.view(b, s * tokens, -1), everywhere).view(b * s, tokens, -1)
                else:
                    x = block(x, here)
            both = torch.cat([before, x], dim=-1)
            decoders = self.point_decoder, self.conf_decoder, self.camera_decoder
            decoded = [decoder(both, here)[:, special:] for decoder in decoders]
        size = images.shape[3:]
        with self.heads():
            xy, log_z = self.point_head(decoded[0], rows, columns).movedim(1, -1).split((2, 1), dim=-1)
            confidence = self.conf_head(decoded[1], rows, columns).view(b, s, *size)
        depth = log_z.exp()
        local = torch.cat([xy * depth, depth], dim=-1).view(b, s, *size, 3)
        with self.exact():
            return LocalPoints(local, confidence, self.camera_head(decoded[2]).view(b, s, 3, 4))

    @torch.inference_mode()
    def forward(self, images: Tensor) -> GroupPrediction:
        """Predict from normalised images (b, s, 3, h, w)."""
        seen = self.points(images)
        confidence = seen.confidence.sigmoid()
        focal, shift = focals_from_local_points(seen.points.flatten(0, 1), confidence.flatten(0, 1))
        shape = seen.points.shape[:2]
        depth = seen.points[..., 2] + shift.view(*shape, 1, 1)
        both = focal.view(*shape, 1).expand(*shape, 2)
        return GroupPrediction(depth, confidence, inverse_pose(seen.world_from_cam), both)
