"""The DUSt3R and MASt3R network: images to tokens, and tokens of two images to point maps and descriptors.

The encoder sees one image, so its tokens are computed once per photo. The decoders see two, and all their outputs are
in the camera frame of the first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..precision import matrix_products, tensor_cores
from ..transformer import RotaryEmbedding
from .config import PATCH_PX, Mast3rConfig
from .croco import LAYER_NORM_EPS, DecoderBlock, EncoderBlock, image_rotation
from .heads import ImageSize, PointHead


class PointMapPrediction(NamedTuple):
    """Point maps and descriptors of a batch of images, or of one image without the batch axis; float32."""

    pts3d: Tensor
    """(b, height, width, 3) in the camera frame of the first image."""
    conf: Tensor
    """(b, height, width), larger is more confident."""
    desc: Tensor | None
    """(b, height, width, d) of unit norm; None where not requested, or where the network has none."""
    desc_conf: Tensor | None
    """(b, height, width)."""


class PatchEmbedding(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH_PX, stride=PATCH_PX)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.proj(images).flatten(2).transpose(1, 2)
        return out


class Mast3rNetwork(nn.Module):
    """Encoder, two decoders and heads. Matrix products of the transformers have the type of their parameters, all else
    is float32."""

    def __init__(self, config: Mast3rConfig) -> None:
        super().__init__()
        self.config = config
        encoder, decoder, ratio = config.encoder, config.decoder, config.mlp_ratio
        self.patch_embed = PatchEmbedding(encoder.width)
        # Replaces masked patches in training; in all published files.
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder.width))
        self.enc_blocks = nn.ModuleList(EncoderBlock(encoder, ratio) for _ in range(encoder.depth))
        self.enc_norm = nn.LayerNorm(encoder.width, LAYER_NORM_EPS)
        self.decoder_embed = nn.Linear(encoder.width, decoder.width)
        self.dec_blocks = nn.ModuleList(DecoderBlock(decoder, ratio) for _ in range(decoder.depth))
        self.dec_blocks2 = nn.ModuleList(DecoderBlock(decoder, ratio) for _ in range(decoder.depth))
        self.dec_norm = nn.LayerNorm(decoder.width, LAYER_NORM_EPS)
        if config.head != "none":
            self.downstream_head1 = PointHead(config)
            self.downstream_head2 = PointHead(config)
        self.tf32 = False
        """Whether a GPU may round the factors of float32 products to TF32; those of the heads beside transformers of
        less than float32 it may in any case."""
        self._rotations: dict[tuple[ImageSize, int, torch.device], RotaryEmbedding] = {}

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the transformers' parameters and matrix products."""
        return self.decoder_embed.weight.dtype

    @property
    def stream_dtype(self) -> torch.dtype:
        """Precision of what passes from block to block, of norms and of heads: float32, or float64 in such networks."""
        return torch.promote_types(self.dtype, torch.float32)

    @property
    def device(self) -> torch.device:
        return self.decoder_embed.weight.device

    @torch.inference_mode()
    def encode(self, images: Tensor) -> Tensor:
        """Encode images (b, 3, height, width) in [-1, 1], sides multiples of 16, to tokens (b, n, d) float32."""
        size = _checked((images.shape[-2], images.shape[-1]))
        here = self._rotation(size, self.config.encoder.width // self.config.encoder.heads)
        with self._products():
            x = self.patch_embed(images.to(self.device, self.patch_embed.proj.weight.dtype)).to(self.stream_dtype)
            for block in self.enc_blocks:
                x = block(x, here)
        out: Tensor = self.enc_norm(x)
        return out

    @torch.inference_mode()
    def decode(
        self, tokens_1: Tensor, tokens_2: Tensor, size_1: ImageSize, size_2: ImageSize, *, descriptors: bool = True
    ) -> tuple[PointMapPrediction, PointMapPrediction]:
        """Predict both images in the camera frame of image 1 from tokens (b, n, d) of each.

        Sizes are (height, width) in pixels. Without `descriptors` a MASt3R saves an eighth of its time.
        """
        if self.config.head == "none":
            raise ValueError("this network has no head for points: it gives tokens only")
        if self.device.type != "cpu":
            first, second = self._views(tokens_1, tokens_2, size_1, size_2, descriptors)
            return first, second
        # Maps of one pair take hundreds of megabytes, and a CPU gains nothing by having several at once.
        batch, together = len(tokens_1), list[PointMapPrediction]()
        for i in range(batch):
            one, two = tokens_1[i : i + 1], tokens_2[i : i + 1]
            for side, view in enumerate(self._views(one, two, size_1, size_2, descriptors)):
                if i == 0:
                    together.append(view if batch == 1 else _room_for(batch, view))
                if batch > 1:
                    _put(view, together[side], i)
                del view  # or it would be in memory while the next one is computed
        return together[0], together[1]

    def _views(
        self, tokens_1: Tensor, tokens_2: Tensor, size_1: ImageSize, size_2: ImageSize, descriptors: bool
    ) -> Iterator[PointMapPrediction]:
        """Prediction of image 1, then of image 2."""
        outputs = self.decoder_outputs(tokens_1, tokens_2, size_1, size_2, self.config.levels_read)
        heads = self.downstream_head1, self.downstream_head2
        for head, levels, size in zip(heads, outputs, (size_1, size_2), strict=True):
            yield self._view(head, levels, size, descriptors)

    def _view(self, head: PointHead, levels: list[Tensor], size: ImageSize, descriptors: bool) -> PointMapPrediction:
        with self._heads():
            points = head.points(levels, size)
            described = descriptors and self.config.descriptor_width > 0
            return PointMapPrediction(*points, *(head.descriptors(levels, size) if described else (None, None)))

    @torch.inference_mode()
    def decoder_outputs(
        self, tokens_1: Tensor, tokens_2: Tensor, size_1: ImageSize, size_2: ImageSize, levels: Collection[int]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Outputs of both decoders at ascending `levels`: 0 is the encoder's tokens, l the output of decoder block l,
        normalised if it is the last."""
        width, depth = self.config.decoder.width // self.config.decoder.heads, self.config.decoder.depth
        here, there = self._rotation(_checked(size_1), width), self._rotation(_checked(size_2), width)
        tokens_1, tokens_2 = (each.to(self.device, self.stream_dtype) for each in (tokens_1, tokens_2))
        kept = [(tokens_1, tokens_2)] if 0 in levels else []
        with self._products():
            one, two = (self.decoder_embed(each).to(self.stream_dtype) for each in (tokens_1, tokens_2))
            for level, (block_1, block_2) in enumerate(zip(self.dec_blocks, self.dec_blocks2, strict=True), start=1):
                one, two = block_1(one, two, here, there), block_2(two, one, there, here)
                if level in levels and level < depth:
                    kept.append((one, two))
        if depth in levels:
            kept.append((self.dec_norm(one), self.dec_norm(two)))
        return [pair[0] for pair in kept], [pair[1] for pair in kept]

    def _products(self) -> AbstractContextManager[object]:
        return matrix_products(self.dtype, self.device, tf32=self.tf32)

    def _heads(self) -> AbstractContextManager[object]:
        return tensor_cores(self.device, allowed=self.tf32 or self.dtype != self.stream_dtype)

    def _rotation(self, size: ImageSize, head_width: int) -> RotaryEmbedding:
        """Rotary embedding, cached by image size: photo collections have few sizes."""
        key = size, head_width, self.device
        if key not in self._rotations:
            self._rotations[key] = image_rotation(size, head_width, self.config.rope_base, self.device)
        return self._rotations[key]


def _checked(size: ImageSize) -> ImageSize:
    if min(size) < PATCH_PX or size[0] % PATCH_PX or size[1] % PATCH_PX:
        raise ValueError(f"images of {size[1]} x {size[0]} px: both sides must be multiples of {PATCH_PX}")
    return size


def _room_for(batch: int, view: PointMapPrediction) -> PointMapPrediction:
    """Uninitialised predictions of a batch, with the shapes of a batch of one."""

    def room(each: Tensor) -> Tensor:
        return each.new_empty(batch, *each.shape[1:])

    desc, certainty = (None if each is None else room(each) for each in (view.desc, view.desc_conf))
    return PointMapPrediction(room(view.pts3d), room(view.conf), desc, certainty)


def _put(view: PointMapPrediction, whole: PointMapPrediction, i: int) -> None:
    for into, each in zip(whole, view, strict=True):
        if into is not None and each is not None:
            into[i] = each[0]
