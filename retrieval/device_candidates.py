"""The visual words that may be nearest, by products on a torch device. Needs no faiss."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unposed.optim.arrays import Array32

DEVIATIONS = 5.0
"""By how many standard deviations of its error a rough score is thought to be wrong at most."""
FLOAT_ERROR, TENSOR_ERROR = 2.0**-22, 2.0**-10
"""Relative error of a factor: of float32, with what summing adds to it; of the tensor cores of a GPU."""
DEVICE_SCORES = 1 << 28
"""Scores that are written out at a time."""


class Candidates(NamedTuple):
    """The best words of each row by a score that is (row . word - word . word / 2) but for an error."""

    words: NDArray[np.intp]
    score: Array32
    """(n, m) each, in no order."""
    error: Array32
    """(n,) what a score of the row is thought to be wrong by at most."""


CandidateSearch = Callable[[Array32, int], Candidates]
"""Rows, already moved by the codebook's centre, and how many words of each are wanted."""


def search_on_device(moved: Array32, device: str) -> CandidateSearch:
    """Search the words (words, d), moved by the codebook's centre, which stay on the device."""
    import torch  # costs a second and 250 MB: only where a device asks for it

    words = torch.from_numpy(moved).to(device)
    half = 0.5 * (words * words).sum(dim=1)
    longest = float(half.max().mul(2.0).sqrt())

    def look(rows: Array32, count: int) -> Candidates:
        step = max(1, DEVICE_SCORES // len(moved))
        parts = []
        for start in range(0, len(rows), step):
            best = (torch.from_numpy(rows[start : start + step]).to(device) @ words.T - half).topk(count, dim=1)
            parts.append((best.indices.cpu().numpy(), best.values.cpu().numpy()))
        length = row_lengths(rows)
        error = DEVIATIONS * longest * (TENSOR_ERROR / np.sqrt(rows.shape[1]) * length + FLOAT_ERROR * longest)
        words_found, score = (np.concatenate(part) for part in zip(*parts, strict=True))
        return Candidates(words_found, score, error.astype(np.float32))

    return look


def row_lengths(rows: Array32) -> Array32:
    """(n,) Euclidean lengths."""
    lengths: Array32 = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return lengths
