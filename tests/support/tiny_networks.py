"""Checkpoints in the layout of the published ones, with made-up parameters that a hash gives: no file need travel."""

from __future__ import annotations

import argparse
import hashlib
import math
import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_SIZES = "enc_embed_dim=32, enc_depth=3, enc_num_heads=2, dec_embed_dim=24, dec_depth=10, dec_num_heads=2"
_COMMON = "pos_embed='RoPE100', patch_embed_cls='ManyAR_PatchEmbed', img_size=(64, 64)"
_RANGES = "depth_mode=('exp', -inf, inf), conf_mode=('exp', 1, inf)"
MAST3R = (
    f"AsymmetricMASt3R({_COMMON}, head_type='catmlp+dpt', output_mode='pts3d+desc4', {_RANGES}, {_SIZES},"
    " two_confs=True, desc_conf_mode=('exp', 0, inf))"
)
DUST3R = f"AsymmetricCroCo3DStereo({_COMMON}, head_type='dpt', output_mode='pts3d', {_RANGES}, {_SIZES})"
DESCRIPTOR_HEAD = ".head_local_features."
"""Part of the names of those parameters that DUSt3R does not have."""


def counted(name: str, shape: Sequence[int]) -> NDArray[np.float64]:
    """Numbers in [-1, 1) that follow from a name: a counter run through a hash."""
    with np.errstate(over="ignore"):
        key = np.uint64(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little"))
        z = key + np.arange(1, math.prod(shape) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            z ^= z >> np.uint64(shift)
            z *= np.uint64(factor)
        z ^= z >> np.uint64(31)
    return ((z >> np.uint64(40)).astype(np.float64) / 2**23 - 1).reshape(shape)


def hashed(name: str, shape: Sequence[int], gain: float = 0.25) -> Tensor:
    """Parameter `name`: numbers of `counted`, scaled to keep the size of what passes through.

    `gain` is that of the last convolution, `...dpt.head.4.weight`.
    """
    u = counted(name, shape)
    if len(shape) > 1 and name != "mask_token":
        u *= math.sqrt(3 / math.prod(shape[1:])) * (gain if name.endswith("dpt.head.4.weight") else 1.0)
    elif name.endswith("weight"):
        u = 1 + 0.2 * u
    else:
        u *= 0.1
    return torch.from_numpy(u.astype(np.float32))


def tiny(name: str, shape: Sequence[int]) -> Tensor:
    """A parameter of the tiny networks, which float16 holds exactly. Two names of one parameter give the same."""
    own = re.sub(r"layer_rn\.(\d)\.", lambda found: f"layer{int(found[1]) + 1}_rn.", name)
    return hashed(own, shape, gain=1.0).half().float()


def write_mast3r(path: Path, shapes: Mapping[str, Sequence[int]]) -> None:
    """The tiny MASt3R."""
    _write(path, MAST3R, {name: tiny(name, shape) for name, shape in shapes.items()})


def write_dust3r(path: Path, shapes: Mapping[str, Sequence[int]]) -> None:
    """The same parameters without descriptor heads, kept in float16."""
    _write(path, DUST3R, {name: tiny(name, s).half() for name, s in shapes.items() if DESCRIPTOR_HEAD not in name})


def write_retrieval_head(path: Path, whitening: Mapping[str, NDArray[np.generic]]) -> None:
    """A retrieval head that whitens tokens and keeps the seven longest: `m` is the mean, `p` the projection."""
    settings = argparse.Namespace(
        pretrained="tiny_mast3r.pth",
        freeze_backbone=1,
        prewhiten=-1,
        hdims="",
        residual=False,
        postwhiten=None,
        featweights="l2norm",
        nfeat=7,
        imsize=512,
        nclusters=12,
    )
    state = {f"prewhiten.{part}": torch.tensor(values) for part, values in whitening.items()}
    torch.save({"args": settings, "model": state}, path)


def write_codebook(path: Path, centroids: NDArray[np.generic]) -> None:
    """A codebook of visual words."""
    content = {"type": "Codebook", "params": {"size": len(centroids)}, "state": {"centroids": np.array(centroids)}}
    path.write_bytes(pickle.dumps(content))


def _write(path: Path, model: str, state: dict[str, Tensor]) -> None:
    arguments = argparse.Namespace(model=model, img_size=64, note="tiny parity model")
    torch.save({"args": arguments, "model": state, "epoch": 3, "best_so_far": 0.5}, path)
