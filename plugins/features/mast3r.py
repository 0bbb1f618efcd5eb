"""Encoder tokens of MASt3R, and local features of its retrieval head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch

from unposed.networks.mast3r.config import PATCH_PX
from unposed.networks.mast3r.images import SQUARE_PX, fit_image, image_batch
from unposed.networks.mast3r.shared import load_shared_network, load_shared_retrieval_head
from unposed.networks.precision import Precision
from unposed.pipeline.artifacts import Features, Photo, Tokens
from unposed.pipeline.config import Within
from unposed.pipeline.images.pixels import photo_per_px, read_rgb
from unposed.pipeline.stage import Grain, Resources, StageError
from unposed.pipeline.store.content import content_hash
from unposed.pipeline.weights.files import WeightFile

from ..network_errors import pipeline_errors
from ..shared.threads import on_threads
from .sampling import colours

_BYTES_PER_PX = 400
"""Memory of the encoder: a patch of 256 pixels has a hundred kilobytes of activations at a time."""
_THUMBNAIL_PX = 512
_SIZE_STEP_PX = 64
"""Sides of square images are rounded to this, since three quarters of the height are kept, in whole patches."""


@dataclass(frozen=True)
class Mast3rTokens:
    """Encodes every photo once, for the matching of all its pairs and for retrieval.

    The encoders of DUSt3R and of other networks of the family can be used as well. Needs published weights
    (non-commercial), and better a GPU.
    """

    grain: ClassVar[Literal[Grain.PHOTO]] = Grain.PHOTO
    version: ClassVar[int] = 1
    cpu_batch: ClassVar[int] = 1

    weights: Annotated[Path | None, WeightFile("MASt3R_ViTLarge_BaseDecoder_512_catmlpdpt_metric.pth")] = None
    """File of the parameters, the same as for matching, where it is not found by its name."""
    size_px: Annotated[int | None, Within("[64, 2048]")] = None
    """Longer side of the network's image; by default that of its training. Images of 224 pixels are square."""
    keep: Literal["float16", "float32"] = "float16"
    """Type in which tokens are stored: 1.6 or 3.1 MB per photo of 512 x 384 pixels."""
    precision: Precision = "auto"
    """Of matrix products; auto is bfloat16 on a GPU (float16 or float32 on old ones) and float32 elsewhere."""
    compiled: bool = False
    """Let torch.compile make kernels for each shape of image, a minute each, on a GPU; see also `side_step_px`."""
    side_step_px: Literal[16, 32, 64] = 16
    """Sides of the network's images are multiples of this, cropped. With 64 photos of any proportions up to 8:1 have
    eight shapes of 512 pixels either way up; 4:3 loses nothing, 3:2 16 of 336 rows, 16:9 32 of 288."""

    def __post_init__(self) -> None:
        if self.size_px is not None and self.size_px != SQUARE_PX and self.size_px % _SIZE_STEP_PX:
            raise ValueError(f"size_px must be {SQUARE_PX} or a multiple of {_SIZE_STEP_PX}, got {self.size_px}")

    @property
    def item_bytes(self) -> int:
        """Activations of one image."""
        return _BYTES_PER_PX * (self.size_px or 512) ** 2

    def __call__(self, photos: Photo, resources: Resources) -> Tokens:
        return self.batch([(photos,)], resources)[0]

    def batch(self, items: Sequence[tuple[Photo]], resources: Resources) -> list[Tokens]:
        """Photos whose images have one size form one batch."""
        with pipeline_errors():
            net = load_shared_network(self.weights, resources.device, self.precision, compiled=self.compiled)
        assert self.weights is not None  # a network has been loaded from it
        encoder = content_hash(self.weights)
        size_px = self.size_px or net.config.image_px
        with pipeline_errors():
            images = on_threads(
                lambda item: fit_image(read_rgb(item[0]), size_px, step=self.side_step_px), items, resources.threads
            )
        found: dict[int, Tokens] = {}
        for size in sorted({frame.size for _, frame in images}):
            rows = [i for i, (_, frame) in enumerate(images) if frame.size == size]
            batch = image_batch([images[i][0] for i in rows], net.device)
            values = net.encode(batch).to(getattr(torch, self.keep)).cpu()
            for i, each in zip(rows, values, strict=True):
                grid = each.reshape(size[0] // PATCH_PX, size[1] // PATCH_PX, -1).numpy()
                frame = images[i][1]
                found[i] = Tokens(grid, PATCH_PX, frame.origin_px, frame.step_px, encoder)
        return [found[i] for i in range(len(items))]


@dataclass(frozen=True)
class Mast3rRetrievalFeatures:
    """Local features for ASMK: the whitened tokens of largest norm, by the published retrieval head of MASt3R.

    Key points are the centres of patches.
    """

    grain: ClassVar[Literal[Grain.PHOTO]] = Grain.PHOTO
    version: ClassVar[int] = 1
    item_bytes: ClassVar[int] = 1 << 26

    weights: Annotated[
        Path | None, WeightFile("MASt3R_ViTLarge_BaseDecoder_512_catmlpdpt_metric_retrieval_trainingfree.pth")
    ] = None
    """File of the retrieval head, where it is not found by its name."""
    max_keypoints: Annotated[int | None, Within("[1, 65536]")] = None
    """Tokens kept per photo, those of largest norm; by default the number in the file."""

    def __call__(self, tokens: Tokens, photos: Photo, resources: Resources) -> Features:
        with pipeline_errors():
            head = load_shared_retrieval_head(self.weights)
        rows, columns, width = tokens.values.shape
        if head.width != width:
            raise StageError(f"{self.weights}: a retrieval head for tokens of {head.width} numbers, these have {width}")
        values = torch.from_numpy(tokens.values.astype(np.float32)).reshape(rows * columns, width)
        with torch.inference_mode():
            found = head(values, self.max_keypoints)
        row, column = np.divmod(found.token.numpy(), columns)
        centres = np.stack([column, row], axis=1) * tokens.patch_px + (tokens.patch_px - 1) / 2
        xy = centres * tokens.step_px + tokens.origin_px
        image = read_rgb(photos, _THUMBNAIL_PX)
        return Features(
            xy=xy.astype(np.float32),
            scale=np.full(len(xy), tokens.patch_px / 2 * max(tokens.step_px), np.float32),
            descriptors=found.vectors.numpy(),
            rgb=colours(image, xy / photo_per_px(photos, image)),
            score=found.attention.numpy(),
        )
