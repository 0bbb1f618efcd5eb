"""Image encoder of DINOv2, and transformer blocks with what the families add: layer scale, normed queries, SwiGLU.

Modules have the names of the published parameters.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..precision import matrix_products, tensor_cores
from ..transformer import Mlp, RotaryEmbedding, SelfAttention, grid_positions, rotary_embedding
from .config import PATCH_PX, ROPE_BASE, EncoderConfig

ENCODER_EPS = 1e-6
"""Of the layer norms of encoders' blocks; norms that are not named here have PyTorch's 1e-5."""
MLP_RATIO = 4

GridResize = Literal["by factor", "by size"]
"""How position embeddings are resized: by factors (n + 0.1) / grid, as DINOv2 does without registers, or to a size with
antialiasing, as with registers. The samples lie elsewhere, and the networks have learned with theirs."""


class WithTransformer(nn.Module):
    """A network with transformer blocks, whose matrix products have the type of their parameters, while all else is
    float32."""

    tf32 = False
    """Whether a GPU may round the factors of float32 products to TF32; those of the heads beside transformers of less
    than float32 it may in any case."""

    def products(self) -> AbstractContextManager[object]:
        """The setting for the transformer."""
        weight = self._a_product()
        return matrix_products(weight.dtype, weight.device, tf32=self.tf32)

    def heads(self) -> AbstractContextManager[object]:
        """The setting for what reads its tokens."""
        weight = self._a_product()
        narrow = weight.dtype != torch.promote_types(weight.dtype, torch.float32)
        return tensor_cores(weight.device, allowed=self.tf32 or narrow)

    def exact(self) -> AbstractContextManager[object]:
        """The setting for cameras: TF32 that heads of another batch have allowed at the time would turn them by a
        twentieth of a degree."""
        return tensor_cores(self._a_product().device, allowed=False)

    def _a_product(self) -> Tensor:
        return next(part.qkv.weight for part in self.modules() if isinstance(part, SelfAttention))


class LayerScale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))


class GatedMlp(nn.Module):
    """SwiGLU: w3(silu(a) b), of which w12 gives a and b."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = (int(MLP_RATIO * width * 2 / 3) + 7) // 8 * 8
        self.w12 = nn.Linear(width, 2 * hidden)
        self.w3 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.w12(x).chunk(2, dim=-1)
        out: Tensor = self.w3(F.silu(a).mul_(b))
        return out


class ViewBlock(nn.Module):
    """Pre-norm attention and feed-forward, each scaled by channel before it is added."""

    def __init__(
        self,
        width: int,
        heads: int,
        eps: float,
        *,
        normed: bool = False,
        scaled: bool = True,
        gated: bool = False,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps)
        self.attn = SelfAttention(width, heads, normed=normed)
        self.ls1: nn.Module = LayerScale(width) if scaled else nn.Identity()
        self.norm2 = nn.LayerNorm(width, eps)
        self.mlp: nn.Module = GatedMlp(width) if gated else Mlp(width, MLP_RATIO * width, width)
        self.ls2: nn.Module = LayerScale(width) if scaled else nn.Identity()

    def forward(self, x: Tensor, here: RotaryEmbedding | None = None) -> Tensor:
        x = _added(x, self.attn(self.norm1(x), here), self.ls1)
        return _added(x, self.mlp(self.norm2(x)), self.ls2)


def _added(x: Tensor, change: Tensor, scale: nn.Module) -> Tensor:
    return torch.addcmul(x, change.to(x.dtype), scale.gamma) if isinstance(scale, LayerScale) else x + change


class PatchProjection(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH_PX, stride=PATCH_PX)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.proj(images).flatten(2).transpose(1, 2)
        return out


class ImageEncoder(nn.Module):
    """DINOv2: one image to tokens [class, registers, patches]."""

    def __init__(self, config: EncoderConfig, resize: GridResize, normed_from: int | None = None) -> None:
        super().__init__()
        self.config, self.resize = config, resize
        width, heads = config.stack.width, config.stack.heads
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + config.grid**2, width))
        if config.registers:
            self.register_tokens = nn.Parameter(torch.zeros(1, config.registers, width))
        self.patch_embed = PatchProjection(width)
        self.blocks = nn.ModuleList(
            ViewBlock(
                width, heads, ENCODER_EPS, normed=normed_from is not None and layer >= normed_from, gated=config.gated
            )
            for layer in range(config.stack.depth)
        )
        # With registers the last norm has the eps of the blocks.
        self.norm = nn.LayerNorm(width, ENCODER_EPS if config.registers else 1e-5)

    def embed(self, images: Tensor) -> Tensor:
        """Tokens (n, 1 + registers + patches, width) before the first block, of images (n, 3, h, w)."""
        n, rows, columns = len(images), images.shape[2] // PATCH_PX, images.shape[3] // PATCH_PX
        position = self.positions(rows, columns)
        patches = self.patch_embed(images).to(position.dtype) + position[:, 1:]
        tokens = [(self.cls_token + position[:, :1]).expand(n, -1, -1), patches]
        if self.config.registers:
            tokens.insert(1, self.register_tokens.expand(n, -1, -1))
        return torch.cat(tokens, dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """Normed patch tokens (n, patches, width)."""
        x = self.embed(images)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.norm(x[:, 1 + self.config.registers :])
        return out

    def positions(self, rows: int, columns: int) -> Tensor:
        """Position embedding (1, 1 + rows * columns, width), resized from that of the training images."""
        side = self.config.grid
        if rows == columns == side:
            return self.pos_embed
        grid = self.pos_embed[:, 1:].reshape(1, side, side, -1).movedim(-1, 1)
        if self.resize == "by factor":
            factor = (rows + 0.1) / side, (columns + 0.1) / side
            grid = F.interpolate(grid, scale_factor=factor, mode="bicubic", align_corners=False)
        else:
            grid = F.interpolate(grid, size=(rows, columns), mode="bicubic", align_corners=False, antialias=True)
        return torch.cat([self.pos_embed[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


def view_rotation(
    rows: int, columns: int, special: int, head_width: int, device: torch.device, *, places: bool = True
) -> RotaryEmbedding:
    """Rotary embedding of the tokens of a view: `special` ones at (0, 0), then patches at (row + 1, column + 1).

    Without `places` all patches are at (1, 1): which patch it is can be told from its content only.
    """
    patches = grid_positions(rows, columns, device) + 1.0 if places else torch.ones(rows * columns, 2, device=device)
    position = torch.cat([torch.zeros(special, 2, device=device), patches])
    return rotary_embedding(position, head_width, ROPE_BASE)


def of_all_views(rotation: RotaryEmbedding, views: int) -> RotaryEmbedding:
    """The rotary embedding of the tokens of many views, one view after the other."""
    cos, sin = (each.repeat(views, 1, 1) for each in rotation)
    return cos, sin
