"""Detector-free matching by LoFTR (Sun et al. 2021)."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import cv2
import kornia.feature
import numpy as np
import torch
from kornia.feature.loftr.loftr import default_cfg
from torch import Tensor

from unposed.networks.loading import cached_network, load_parameters, read_parameters
from unposed.pipeline.artifacts import Bools, Bytes, PairMatches, Photo
from unposed.pipeline.config import Within
from unposed.pipeline.images.pixels import photo_per_px, read_mask
from unposed.pipeline.stage import Grain, Resources, Sides
from unposed.pipeline.store.keys import photo_key
from unposed.pipeline.store.recent import Recent
from unposed.pipeline.weights.files import WeightFile

from ..features.from_network import as_tensor, read_image
from ..features.sampling import visible
from ..network_errors import pipeline_errors

_SIDE_MULTIPLE_PX = 8
"""Multiple of the sides of the network's images: whole cells of its coarse grid."""
_WEIGHT_FILES = {"outdoor": "loftr_outdoor.ckpt", "indoor": "loftr_indoor_ds_new.ckpt"}
_BYTES_PER_PX = 160
"""Memory of a photo's feature maps: 128 channels at half its size, 256 at an eighth, in float32."""

_photos = Recent(1 << 29)
"""The photos prepared last: pairs are sorted, so that one photo is matched with many in a row."""


@dataclass(frozen=True)
class _PreparedPhoto:
    """Image, mask and feature maps of a photo."""

    image: Bytes
    mask: Bools | None
    maps: dict[str, Tensor]


@dataclass(frozen=True)
class Loftr:
    """Matches between positions, also in regions without corners, by kornia's network.

    Needs published weights (Apache-2.0), and better a GPU. Reads photos, and no features.
    """

    grain: ClassVar[Literal[Grain.PAIR]] = Grain.PAIR
    version: ClassVar[int] = 1

    trained: Literal["outdoor", "indoor"] = "outdoor"
    """Kind of photos that the parameters were trained on."""
    weights: Annotated[Path | None, WeightFile("{file}")] = None
    """File of the parameters, where it is not found by its name."""
    max_side_px: Annotated[int, Within("[64, 4096]")] = 832
    """Larger photos are reduced to this, the size of its training. Memory grows with its fourth power."""
    min_score: Annotated[float, Within("[0, 1)")] = 0.2
    """Of a match."""

    @property
    def file(self) -> str:
        """Published name of the file."""
        return _WEIGHT_FILES[self.trained]

    @property
    def item_bytes(self) -> int:
        """Feature maps of both photos, and copies of the similarity matrix of their coarse cells."""
        pixels = self.max_side_px**2
        return 8 * _BYTES_PER_PX * pixels + 4 * 4 * (pixels // _SIDE_MULTIPLE_PX**2) ** 2

    def __call__(self, photos: Sides[Photo], resources: Resources) -> PairMatches:
        with pipeline_errors():
            net = cached_network(_build, self.weights, resources.device, self.trained, self.min_score)
        seen = [self._seen(net, photo, resources.device) for photo in photos]
        try:
            with torch.inference_mode():
                found = net({f"features{side}": each.maps for side, each in enumerate(seen)})
        except torch.cuda.OutOfMemoryError:
            _photos.clear()  # room for the next try
            raise
        # The published parameters give positions in our convention, half a pixel from those of other networks.
        xy = [found[f"keypoints{side}"].float().cpu().numpy() for side in (0, 1)]
        shown = [visible(each.mask, each.image, at) for each, at in zip(seen, xy, strict=True) if each.mask is not None]
        kept = np.logical_and.reduce([np.ones(len(xy[0]), bool), *shown])
        factors = [photo_per_px(photo, each.image) for photo, each in zip(photos, seen, strict=True)]
        return PairMatches(
            xy_a=(xy[0][kept] * factors[0]).astype(np.float32),
            xy_b=(xy[1][kept] * factors[1]).astype(np.float32),
            weight=np.clip(found["confidence"].float().cpu().numpy()[kept], 1e-6, 1.0),
        )

    def _seen(self, net: Any, photo: Photo, device: str) -> _PreparedPhoto:
        """Prepare a photo, the same for all its pairs, or recall it."""
        assert self.weights is not None
        name = (str(self.weights), self.weights.stat().st_mtime_ns, self.max_side_px, device, photo_key(photo))
        known: _PreparedPhoto | None = _photos.get(repr(name))
        if known is None:
            image = read_image(photo, self.max_side_px, _SIDE_MULTIPLE_PX)
            grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
            with torch.inference_mode():
                maps = net.extract_features(as_tensor([grey], device))
            known = _PreparedPhoto(image, read_mask(photo), maps)
            _photos.put(repr(name), known, sum(each.nbytes for each in (image, *maps.values())))
        return known


def _build(weights: Path, trained: str, min_score: float) -> kornia.feature.LoFTR:
    config: dict[str, Any] = copy.deepcopy(default_cfg)
    config["coarse"]["temp_bug_fix"] = trained == "indoor"
    config["match_coarse"]["thr"] = min_score
    state = {name.removeprefix("matcher."): value for name, value in read_parameters(weights, "state_dict").items()}
    return load_parameters(kornia.feature.LoFTR(None, config), state, weights)
