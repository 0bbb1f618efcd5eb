"""Catalogue of published weights: file name, address and licence.

No weights come with this package. Files are kept under their published names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..config import did_you_mean
from ..errors import ConfigError


@dataclass(frozen=True)
class Weights:
    """One published file."""

    name: str
    """What users call it."""
    file: str
    about: str
    urls: tuple[str, ...]
    """Addresses, in the order in which they are tried."""
    licence: str
    licence_url: str
    notice: str = ""
    """Conditions beyond the licence's name."""
    sha256: str | None = None
    """Of the file, where it is known for certain; else that of the first download is remembered."""
    most_bytes: int = 512 << 20
    """More than the file has; what a server sends beyond is refused."""

    @property
    def terms(self) -> str:
        """Licence and conditions, to be read before fetching the file."""
        notice = f"\n{self.notice}" if self.notice else ""
        return f"{self.file}: {self.about}\nlicence: {self.licence}, {self.licence_url}{notice}"


_ATTRIBUTION = "Keep the authors' copyright notice where you pass it on."
_NAVER = "https://download.europe.naverlabs.com/ComputerVision"
_NON_COMMERCIAL = (
    "Copyright Naver Corporation. Non-commercial use only; what you derive and share is under the same licence. "
    "The data it was trained on add terms of their own: see CHECKPOINTS_NOTICE in the same repository."
)
_BY_NC_SA = "CC BY-NC-SA 4.0"


def _kornia(repository: str, file: str) -> str:
    return f"https://huggingface.co/kornia/{repository}/resolve/main/{file}"


def _aliked(model: str, about: str) -> Weights:
    return Weights(
        name=model,
        file=f"{model}.pth",
        about=about,
        urls=(
            _kornia("aliked", f"{model}.pth"),
            f"https://github.com/Shiaoming/ALIKED/raw/main/models/{model}.pth",
        ),
        licence="BSD-3-Clause",
        licence_url="https://github.com/Shiaoming/ALIKED/blob/main/LICENSE",
        notice=f"Copyright 2022 Zhao Xiaoming. {_ATTRIBUTION}",
    )


def _lightglue(features: str) -> Weights:
    file = f"{features}_lightglue.pth"
    return Weights(
        name=f"{features}-lightglue",
        file=file,
        about=f"LightGlue, matching {features.upper()} features",
        urls=(
            _kornia("lightglue", file),
            f"https://github.com/cvg/LightGlue/releases/download/v0.1_arxiv/{file}",
        ),
        licence="Apache-2.0",
        licence_url="https://github.com/cvg/LightGlue/blob/main/LICENSE",
        notice=_ATTRIBUTION,
    )


def _loftr(scenes: str, file: str) -> Weights:
    return Weights(
        name=f"loftr-{scenes}",
        file=file,
        about=f"LoFTR, matching without key points, trained {scenes}s",
        urls=(_kornia("loftr", file), f"https://cmp.felk.cvut.cz/~mishkdmy/models/{file}"),
        licence="Apache-2.0",
        licence_url="https://github.com/zju3dv/LoFTR/blob/master/LICENSE",
        notice=_ATTRIBUTION,
    )


def _naver(name: str, model: str, file: str, about: str) -> Weights:
    return Weights(
        name=name,
        file=file,
        about=about,
        urls=(f"{_NAVER}/{model}/{file}",),
        licence=_BY_NC_SA,
        most_bytes=4 << 30,
        licence_url=f"https://github.com/naver/{model.lower()}/blob/main/LICENSE",
        notice=_NON_COMMERCIAL,
    )


def _many_views(
    name: str, url: str, licence: str, licence_url: str, about: str, notice: str, gigabytes: int
) -> Weights:
    """Networks for many views, whose files all have the same name where they are published."""
    return Weights(
        name=name,
        file=f"{name}{url[url.rindex('.') :]}",
        about=about,
        urls=(f"https://huggingface.co/{url}",),
        licence=licence,
        licence_url=licence_url,
        notice=notice,
        most_bytes=gigabytes << 30,
    )


def _da3(name: str, repository: str, licence: str, about: str, notice: str, gigabytes: int) -> Weights:
    return _many_views(
        name,
        f"depth-anything/{repository}/resolve/main/model.safetensors",
        licence,
        f"https://huggingface.co/depth-anything/{repository}",
        f"Depth Anything 3, {about}",
        notice,
        gigabytes,
    )


_BY_NC = "CC BY-NC 4.0"
_NO_MONEY = "Non-commercial use only; name the authors where you share it."
_VGGT_NOTICE = (
    "Copyright Meta Platforms. The original weights are for non-commercial use only; those of VGGT-1B-Commercial, "
    "which are given on request, load from the same option."
)

_MAST3R = "MASt3R_ViTLarge_BaseDecoder_512_catmlpdpt_metric"

CATALOGUE: tuple[Weights, ...] = (
    _aliked("aliked-n16", "ALIKED key points and descriptors"),
    _aliked("aliked-n16rot", "ALIKED key points and descriptors, trained with rotated images"),
    _aliked("aliked-n32", "ALIKED key points and descriptors, with twice the samples per descriptor"),
    _lightglue("aliked"),
    _lightglue("disk"),
    Weights(
        name="disk",
        file="depth-save.pth",
        about="DISK key points and descriptors",
        urls=(
            _kornia("disk", "depth-save.pth"),
            "https://raw.githubusercontent.com/cvlab-epfl/disk/master/depth-save.pth",
        ),
        licence="Apache-2.0",
        licence_url="https://github.com/cvlab-epfl/disk/blob/master/LICENSE",
        notice=_ATTRIBUTION,
    ),
    _loftr("indoor", "loftr_indoor_ds_new.ckpt"),
    _loftr("outdoor", "loftr_outdoor.ckpt"),
    Weights(
        name="xfeat",
        file="xfeat.pt",
        about="XFeat key points and descriptors",
        urls=("https://github.com/verlab/accelerated_features/raw/main/weights/xfeat.pt",),
        licence="Apache-2.0",
        licence_url="https://github.com/verlab/accelerated_features/blob/main/LICENSE",
        notice=_ATTRIBUTION,
    ),
    Weights(
        name="xfeat-lighterglue",
        file="xfeat-lighterglue.pt",
        about="LighterGlue, matching XFeat features",
        urls=(
            _kornia("lightglue", "xfeat-lighterglue.pt"),
            "https://github.com/verlab/accelerated_features/raw/main/weights/xfeat-lighterglue.pt",
        ),
        licence="Apache-2.0",
        licence_url="https://github.com/verlab/accelerated_features/blob/main/LICENSE",
        notice=_ATTRIBUTION,
    ),
    _naver("mast3r", "MASt3R", f"{_MAST3R}.pth", "MASt3R, 512 pixels, metric; about 2.8 GB"),
    _naver(
        "mast3r-retrieval",
        "MASt3R",
        f"{_MAST3R}_retrieval_trainingfree.pth",
        "retrieval head on MASt3R's encoder",
    ),
    _naver(
        "mast3r-codebook",
        "MASt3R",
        f"{_MAST3R}_retrieval_codebook.pkl",
        "codebook of the retrieval head; about 260 MB",
    ),
    _naver("dust3r", "DUSt3R", "DUSt3R_ViTLarge_BaseDecoder_512_dpt.pth", "DUSt3R, 512 pixels, DPT head; about 2.3 GB"),
    _da3("da3-small", "DA3-SMALL", "Apache-2.0", "many views, small; about 140 MB", _ATTRIBUTION, 1),
    _da3("da3-base", "DA3-BASE", "Apache-2.0", "many views, base; about 540 MB", _ATTRIBUTION, 2),
    _da3("da3-large", "DA3-LARGE-1.1", _BY_NC, "many views, large; about 1.6 GB", _NO_MONEY, 4),
    _da3("da3-giant", "DA3-GIANT-1.1", _BY_NC, "many views, giant; about 5.4 GB", _NO_MONEY, 8),
    _da3("da3-metric", "DA3METRIC-LARGE", "Apache-2.0", "depth of single views in metres", _ATTRIBUTION, 4),
    _da3("da3-mono", "DA3MONO-LARGE", "Apache-2.0", "depth of single views", _ATTRIBUTION, 4),
    _many_views(
        "vggt",
        "facebook/VGGT-1B/resolve/main/model.safetensors",
        "VGGT licence",
        "https://github.com/facebookresearch/vggt/blob/main/LICENSE.txt",
        "VGGT-1B, many views; about 5 GB",
        _VGGT_NOTICE,
        8,
    ),
    _many_views(
        "pi3",
        "yyfz233/Pi3/resolve/main/model.safetensors",
        _BY_NC,
        "https://huggingface.co/yyfz233/Pi3",
        "Pi3, many views; about 3.8 GB",
        _NO_MONEY,
        8,
    ),
)


def entry(name: str) -> Weights:
    """The entry of this name; ConfigError lists near names."""
    for each in CATALOGUE:
        if name in (each.name, each.file):
            return each
    raise ConfigError(f"{name}: no such weights{did_you_mean(name, (each.name for each in CATALOGUE))}")


def published(files: Iterable[str]) -> Weights | None:
    """The first entry with one of these file names."""
    names = list(files)
    return next((each for file in names for each in CATALOGUE if each.file == file), None)
