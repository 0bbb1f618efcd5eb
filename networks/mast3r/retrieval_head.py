"""The retrieval head of MASt3R-SfM: encoder tokens to a few whitened local features for image retrieval.

Whitening, an optional MLP, and the tokens of largest norm. The file holds no encoder: the head is valid for the encoder
it was trained on.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import WeightsError
from .checkpoint import Parameters, checked_parameters, read_torch

_NORM_EPS = 1e-5
_DEFAULT_FEATURES = 300
"""Features per photo where the file does not say."""


class Whitening(NamedTuple):
    """x to (x - mean) @ projection, in float64, since the eigenvalues of covariances differ by orders of magnitude."""

    mean: Tensor
    """(1, d)."""
    projection: Tensor
    """(d, d)."""

    def __call__(self, x: Tensor) -> Tensor:
        mean, projection = self.mean.to(x.device), self.projection.to(x.device)
        return ((x.double() - mean) @ projection).to(x.dtype)


class Layer(NamedTuple):
    """A linear layer of the MLP and the norm that follows it."""

    linear: tuple[Tensor, Tensor]
    norm: tuple[Tensor, Tensor] | None


class LocalFeatures(NamedTuple):
    """Local features of one photo, best first."""

    vectors: Tensor
    """(k, d)."""
    attention: Tensor
    """(k,) norm of each feature, its importance; descending."""
    token: Tensor
    """(k,) index of the token of each feature."""


@dataclass(frozen=True, eq=False)
class RetrievalHead:
    """Parameters of the head, and the settings in its file."""

    width: int
    """Of the input tokens."""
    before: Whitening | None
    layers: tuple[Layer, ...]
    after: Whitening | None
    residual: bool
    """Whether the MLP's output is added to its input."""
    features: float
    """Number of tokens kept per photo; a negative number is a share of all tokens, -0.5 for half."""

    def all_features(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Features (n, d) and their attention (n,) of tokens (n, d)."""
        x = tokens.float() if self.before is None else self.before(tokens.float())
        deep = x
        for i, layer in enumerate(self.layers):
            deep = F.linear(deep, *layer.linear)
            if layer.norm is not None:
                deep = F.layer_norm(deep, deep.shape[-1:], *layer.norm, eps=_NORM_EPS)
            if i + 1 < len(self.layers):
                deep = F.gelu(deep)
        x = x + deep if self.residual and self.layers else deep
        attention = torch.linalg.vector_norm(x, dim=-1)
        return (x if self.after is None else self.after(x)), attention

    def __call__(self, tokens: Tensor, limit: int | None = None) -> LocalFeatures:
        """Features of one photo from tokens (n, d); `limit` overrides the number in the file."""
        vectors, attention = self.all_features(tokens)
        wanted = self.features if limit is None else limit
        count = int(wanted) if wanted >= 0 else int(-wanted * len(tokens))
        best, token = attention.topk(min(count, len(tokens)))
        return LocalFeatures(vectors[token], best, token)


def load_retrieval_head(path: Path) -> RetrievalHead:
    """Load the head from a published file; WeightsError if it cannot."""
    content = read_torch(path)
    settings = content.get("args")
    if not isinstance(settings, argparse.Namespace):
        raise WeightsError(f"{path}: holds no settings of a retrieval head")
    return build_retrieval_head(checked_parameters(content.get("model"), path), vars(settings), path)


def build_retrieval_head(state: Parameters, settings: dict[str, Any], path: Path) -> RetrievalHead:
    """Build the head from parameters and settings; WeightsError if parameters are missing or would be ignored."""
    weights = settings.get("featweights", "l2norm")
    if weights != "l2norm":
        raise WeightsError(f"{path}: weighs features by {weights!r}, where 'l2norm' is meant")
    used = [name for name in state if re.match(r"(prewhiten|postwhiten)\.[mp]$|projector\.\d+\.(weight|bias)$", name)]
    if strange := [name for name in state if name not in used]:
        raise WeightsError(f"{path}: no retrieval head: it has {', '.join(strange[:3])}")
    try:
        before, layers = _whitening(state, "prewhiten"), _layers(state)
        return RetrievalHead(
            width=len(before.projection) if before else layers[0].linear[0].shape[1],
            before=before,
            layers=layers,
            after=_whitening(state, "postwhiten"),
            residual=bool(settings.get("residual", False)),
            features=float(settings.get("nfeat", _DEFAULT_FEATURES)),
        )
    except (KeyError, IndexError) as error:
        raise WeightsError(f"{path}: no complete retrieval head: it lacks {error.args[0]}") from error


def _whitening(state: Parameters, name: str) -> Whitening | None:
    if f"{name}.m" not in state and f"{name}.p" not in state:
        return None
    return Whitening(state[f"{name}.m"].double(), state[f"{name}.p"].double())


def _layers(state: Parameters) -> tuple[Layer, ...]:
    """The layers of an MLP: matrices are linear maps, vectors belong to the norm that follows."""
    numbers = sorted({int(found[1]) for name in state if (found := re.match(r"projector\.(\d+)\.", name))})
    layers: list[Layer] = []
    for number in numbers:
        pair = state[f"projector.{number}.weight"].float(), state[f"projector.{number}.bias"].float()
        if pair[0].ndim == 2:
            layers.append(Layer(pair, None))
        else:
            layers[-1] = Layer(layers[-1].linear, pair)
    return tuple(layers)
