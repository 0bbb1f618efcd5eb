"""Encoder tokens of DUSt3R."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from unposed.pipeline.weights.files import WeightFile

from .mast3r import Mast3rTokens


@dataclass(frozen=True)
class Dust3rTokens(Mast3rTokens):
    """Encodes every photo once, as features.mast3r does, for matching all its pairs by DUSt3R.

    Needs published weights (non-commercial), and better a GPU.
    """

    weights: Annotated[Path | None, WeightFile("DUSt3R_ViTLarge_BaseDecoder_512_dpt.pth")] = None
    """File of the parameters, the same as for matching, where it is not found by its name."""
