"""Parts that transformers of all families share: rotary position embedding (RoPE), attention and a two-layer MLP.

Modules have the names of the published parameters.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KERNEL_CAPABILITY = (7, 5)
"""Of GPUs that Triton supports: Turing and later."""

RotaryEmbedding = tuple[Tensor, Tensor]
"""Cosine and sine of the angles of each token, (n, 2, d/4) float32: the row of a token rotates half of a head's
channels, the column the other half."""


def rotary_embedding(position: Tensor, head_width: int, base: float) -> RotaryEmbedding:
    """Rotary embedding of tokens at rows and columns `position` (n, 2): angle k is position * base^(-4 k / d)."""
    quarter = head_width // 4
    frequency = base ** -(torch.arange(quarter, dtype=torch.float32, device=position.device) / quarter)
    angle = position[:, :, None] * frequency
    return angle.cos(), angle.sin()


def grid_positions(rows: int, columns: int, device: torch.device) -> Tensor:
    """(rows * columns, 2) float32 row and column of every patch, row by row."""
    return torch.cartesian_prod(
        torch.arange(rows, dtype=torch.float32, device=device),
        torch.arange(columns, dtype=torch.float32, device=device),
    )


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


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Split tokens (b, n, c) into heads (b, heads, n, c / heads)."""
    return x.view(*x.shape[:-1], heads, -1).transpose(1, 2)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of queries, keys and values by head, concatenated to (b, n, c)."""
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """Attention of tokens to each other; queries and keys of every head are normalised first where `normed` is set."""

    def __init__(self, width: int, heads: int, *, normed: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.q_norm: nn.Module = nn.LayerNorm(width // heads) if normed else nn.Identity()
        self.k_norm: nn.Module = nn.LayerNorm(width // heads) if normed else nn.Identity()

    def forward(self, x: Tensor, here: RotaryEmbedding | None) -> Tensor:
        q, k, v = (split_heads(part, self.heads) for part in self.qkv(x).chunk(3, dim=-1))
        q, k = self.q_norm(q), self.k_norm(k)
        if here is not None:
            q, k = apply_rotary_embedding(q, here), apply_rotary_embedding(k, here)
        out: Tensor = self.proj(attend(q, k, v))
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
