"""Transformer blocks of CroCo: pre-norm attention with rotary position embedding (RoPE) and a two-layer MLP.

Modules have the names of the published parameters.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import PATCH_PX, StackConfig

LAYER_NORM_EPS = 1e-6

KERNEL_CAPABILITY = (7, 5)
"""Of GPUs that Triton supports: Turing and later."""

RotaryEmbedding = tuple[Tensor, Tensor]
"""Cosine and sine of the angles of each token, (n, 2, d/4) float32: the row of a token rotates half of a head's
channels, the column the other half."""


def rotary_embedding(size: tuple[int, int], head_width: int, base: float, device: torch.device) -> RotaryEmbedding:
    """Rotary embedding of the tokens, row by row, of an image of `size` = (height, width) pixels."""
    rows, columns = size[0] // PATCH_PX, size[1] // PATCH_PX
    quarter = head_width // 4
    frequency = base ** -(torch.arange(quarter, dtype=torch.float32, device=device) / quarter)
    position = torch.cartesian_prod(
        torch.arange(rows, dtype=torch.float32, device=device),
        torch.arange(columns, dtype=torch.float32, device=device),
    )
    angle = position[:, :, None] * frequency
    return angle.cos(), angle.sin()


def apply_rotary_embedding(x: Tensor, by: RotaryEmbedding) -> Tensor:
    """Rotate queries or keys (b, heads, n, d): channel k of each half with channel k + d/4 of the same half.

    On a GPU in place, where Triton is; torch.compile makes kernels of its own.
    """
    cos, sin = by
    if x.device.type == "cuda" and not torch.compiler.is_compiling() and _kernel_runs_on(x.device):
        from .rotary_kernel import rotate_in_place  # needs Triton

        return rotate_in_place(x, cos, sin)
    first, second = x.view(*x.shape[:-1], 2, 2, -1).unbind(-2)
    turned = torch.stack((first * cos - second * sin, second * cos + first * sin), dim=-2)
    return turned.flatten(-3).to(x.dtype)


@cache
def _kernel_runs_on(device: torch.device) -> bool:
    """Whether the kernel runs on a GPU: it is tried once, since Triton needs a C compiler when it runs."""
    if find_spec("triton") is None or torch.cuda.get_device_capability(device) < KERNEL_CAPABILITY:
        return False
    try:
        from .rotary_kernel import rotate_in_place

        angles = torch.zeros(1, 2, 4, device=device)
        rotate_in_place(torch.zeros(1, 1, 1, 16, device=device), angles, angles)
    except Exception:  # whatever Triton, its compiler or the driver may raise: torch does the same more slowly
        return False
    return True


def _split(x: Tensor, heads: int) -> Tensor:
    """Split tokens (b, n, c) into heads (b, heads, n, c / heads)."""
    return x.view(*x.shape[:-1], heads, -1).transpose(1, 2)


def _attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of queries, keys and values by head, concatenated to (b, n, c)."""
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, here: RotaryEmbedding) -> Tensor:
        q, k, v = (_split(part, self.heads) for part in self.qkv(x).chunk(3, dim=-1))
        out: Tensor = self.proj(_attention(apply_rotary_embedding(q, here), apply_rotary_embedding(k, here), v))
        return out


class CrossAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.projq = nn.Linear(width, width)
        self.projk = nn.Linear(width, width)
        self.projv = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, memory: Tensor, here: RotaryEmbedding, there: RotaryEmbedding) -> Tensor:
        q = apply_rotary_embedding(_split(self.projq(x), self.heads), here)
        k = apply_rotary_embedding(_split(self.projk(memory), self.heads), there)
        out: Tensor = self.proj(_attention(q, k, _split(self.projv(memory), self.heads)))
        return out


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        # In place: these are the widest tokens.
        out: Tensor = self.fc2(torch.ops.aten.gelu_(self.fc1(x)))
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
