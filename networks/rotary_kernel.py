"""Rotary position embedding by a Triton kernel, in place. Importing this module needs Triton.

In single operations the rotation of one number in 16 bits reads and writes 38 bytes: four products of halves to float32
(12), two sums (12), their stack (8) and its rounding (6). In one kernel it is 2 bytes read and 2 written, and the
arithmetic is the same. Queries and keys of a block of the encoder are then 8 bytes per token and channel in place of
76, beside 100 for all else of the block; of a decoder's block 16 in place of 152, beside 164. On a GPU of 3 TB/s that
saves 0.4 ms of the 2 ms that an image of 512 x 384 pixels takes to be encoded, and 1.3 of 8.5 ms per symmetric pair.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

TOKENS = 32
"""Tokens of one head that a program rotates."""


def rotate_in_place(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate (b, heads, n, d) of any strides but the last, as `apply_rotary_embedding` does, and return it."""
    batch, heads, tokens, width = x.shape
    half = width // 2
    grid = triton.cdiv(tokens, TOKENS), heads, batch
    padded = triton.next_power_of_2(half)
    # Triton launches on the current device, wherever the tensors are
    with torch.cuda.device(x.get_device()):
        _rotate[grid](x, cos, sin, x.stride(0), x.stride(1), x.stride(2), tokens, half, padded, TOKENS)
    return x


def _rotate_tokens(
    x: tl.tensor,
    cos: tl.tensor,
    sin: tl.tensor,
    batch_stride: tl.tensor,
    head_stride: tl.tensor,
    token_stride: tl.tensor,
    tokens: tl.tensor,
    half: tl.tensor,
    padded: tl.constexpr,
    block: tl.constexpr,
) -> None:
    token = tl.program_id(0) * block + tl.arange(0, block)
    angle = tl.arange(0, padded)
    inside = (token[:, None] < tokens) & (angle[None, :] < half)
    at = token[:, None] * half + angle[None, :]
    cosine = tl.load(cos + at, mask=inside, other=0.0)
    sine = tl.load(sin + at, mask=inside, other=0.0)
    # Channel k of each half of the channels turns with channel k + d/4 of the same half.
    quarter = half // 2
    channel = angle + angle // quarter * quarter
    start = x + tl.program_id(2).to(tl.int64) * batch_stride + tl.program_id(1) * head_stride
    place = start + token[:, None] * token_stride + channel[None, :]
    first = tl.load(place, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(place + quarter, mask=inside, other=0.0).to(tl.float32)
    tl.store(place, (first * cosine - second * sine).to(x.dtype.element_ty), mask=inside)
    tl.store(place + quarter, (second * cosine + first * sine).to(x.dtype.element_ty), mask=inside)


_rotate = triton.jit(_rotate_tokens)
