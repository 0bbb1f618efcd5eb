"""Transformer blocks of CroCo: pre-norm attention with rotary position embedding (RoPE) and a two-layer MLP.

Modules have the names of the published parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..transformer import (
    Mlp,
    RotaryEmbedding,
    SelfAttention,
    apply_rotary_embedding,
    attend,
    grid_positions,
    rotary_embedding,
    split_heads,
)
from .config import PATCH_PX, StackConfig

LAYER_NORM_EPS = 1e-6


def image_rotation(size: tuple[int, int], head_width: int, base: float, device: torch.device) -> RotaryEmbedding:
    """Rotary embedding of the tokens, row by row, of an image of `size` = (height, width) pixels."""
    return rotary_embedding(grid_positions(size[0] // PATCH_PX, size[1] // PATCH_PX, device), head_width, base)


class CrossAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.projq = nn.Linear(width, width)
        self.projk = nn.Linear(width, width)
        self.projv = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, memory: Tensor, here: RotaryEmbedding, there: RotaryEmbedding) -> Tensor:
        q = apply_rotary_embedding(split_heads(self.projq(x), self.heads), here)
        k = apply_rotary_embedding(split_heads(self.projk(memory), self.heads), there)
        out: Tensor = self.proj(attend(q, k, split_heads(self.projv(memory), self.heads)))
        return out


class EncoderBlock(nn.Module):
    def __init__(self, stack: StackConfig, mlp_ratio: int) -> None:
        super().__init__()
        width = stack.width
        self.norm1 = nn.LayerNorm(width, LAYER_NORM_EPS)
        self.attn = SelfAttention(width, stack.heads)
        self.norm2 = nn.LayerNorm(width, LAYER_NORM_EPS)
        self.mlp = Mlp(width, mlp_ratio * width, width)

    def forward(self, x: Tensor, here: RotaryEmbedding) -> Tensor:
        x = x + self.attn(self.norm1(x), here)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class DecoderBlock(nn.Module):
    def __init__(self, stack: StackConfig, mlp_ratio: int) -> None:
        super().__init__()
        width = stack.width
        self.norm1 = nn.LayerNorm(width, LAYER_NORM_EPS)
        self.attn = SelfAttention(width, stack.heads)
        self.cross_attn = CrossAttention(width, stack.heads)
        self.norm2 = nn.LayerNorm(width, LAYER_NORM_EPS)
        self.norm3 = nn.LayerNorm(width, LAYER_NORM_EPS)
        self.mlp = Mlp(width, mlp_ratio * width, width)
        self.norm_y = nn.LayerNorm(width, LAYER_NORM_EPS)

    def forward(self, x: Tensor, other: Tensor, here: RotaryEmbedding, there: RotaryEmbedding) -> Tensor:
        """Self-attention, cross-attention to the tokens of the other image, and the MLP."""
        x = x + self.attn(self.norm1(x), here)
        x = x + self.cross_attn(self.norm2(x), self.norm_y(other), here, there)
        out: Tensor = x + self.mlp(self.norm3(x))
        return out
