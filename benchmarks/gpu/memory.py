"""Part f: what happens when memory runs out: batches halve, and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unposed.gpu_check import SMALL_NETWORK, made_up_network
from unposed.networks.mast3r.network import Mast3rNetwork
from unposed.pipeline.executor import Argument, Item, Job, Local, Piece
from unposed.pipeline.stage import Resources

from .setting import Case, Finding, Setting, release

PAIRS, FEW_PAIRS = 24, 12
"""As many as would be one batch; fewer in small runs, where each takes as long as it does alone."""

FITS = 3
"""Pairs that memory is left for; on a CPU, where it does not run out, batches of more raise the same error."""


def cases(setting: Setting) -> Iterator[Case]:
    """One case: the executor over pairs that do not fit."""
    yield "a batch of pairs that does not fit", partial(_halved, setting)


@dataclass(frozen=True)
class _Decode:
    """A stage over pairs of tokens: confidences of the first image."""

    network: Mast3rNetwork
    size: tuple[int, int]
    most: int
    """Pairs of a batch above which memory runs out; 0: whenever the device says so."""
    done: list[int] = field(default_factory=list)
    """Sizes of the batches that were finished."""
    item_bytes: int = 1

    def __call__(self, tokens: Tensor, resources: Resources) -> Any:
        return self.batch([(tokens,)], resources)[0]

    def batch(self, items: Sequence[tuple[Tensor]], resources: Resources) -> list[Any]:
        """Decode all pairs at once."""
        if 0 < self.most < len(items):
            raise MemoryError("as many do not fit")
        one, two = (torch.stack([tokens[side] for (tokens,) in items]) for side in (0, 1))
        view, _ = self.network.decode(one, two, self.size, self.size)
        out = list(view.conf.cpu().numpy())
        self.done.append(len(items))
        return out


def _halved(setting: Setting) -> Finding:
    size, pairs = ((48, 64), FEW_PAIRS) if setting.small else ((384, 512), PAIRS)
    network = made_up_network(SMALL_NETWORK, setting.device, "float32")
    random = torch.Generator().manual_seed(0)
    tokens = torch.randn(pairs, 2, size[0] * size[1] // 256, network.config.encoder.width, generator=random)
    alone = _Decode(network, size, 0)
    resources = Resources(str(setting.device), 1, 1 << 40, 1 << 40)
    wanted = [alone(each, resources) for each in tokens]
    stage = _Decode(network, size, 0 if setting.on_gpu else FITS)
    with _limited(setting, partial(alone, tokens[0], resources)):
        found, errors = _run(stage, tokens, resources)
    change = max(float(np.abs(found[i] / wanted[i] - 1.0).max()) for i in found) if found else np.inf
    figures = {"pairs": pairs, "finished": len(found), "largest batch": max(stage.done, default=0), "change": change}
    whole = len(found) == pairs and not errors and max(stage.done) < pairs
    return Finding(figures, {"finished": pairs, "change": 1e-3}, whole and change < 1e-3)


def _run(stage: _Decode, tokens: Tensor, resources: Resources) -> tuple[dict[int, Any], list[Exception]]:
    found: dict[int, Any] = {}

    def read(item: Item) -> dict[str, Argument]:
        return {"tokens": Argument(Piece(str(item), partial(tokens.__getitem__, item[0])))}

    def save(item: Item, value: Any) -> None:
        found[item[0]] = value

    job = Job(stage, [(number,) for number in range(len(tokens))], read, save, frozenset({"resources"}))
    return found, [error for _, error in Local().run(job, resources) if error is not None]


class _limited:
    """Leave the memory of a few pairs on the device; on a CPU nothing is changed."""

    def __init__(self, setting: Setting, one_pair: Any) -> None:
        self._device, self._one_pair = setting.device, one_pair

    def __enter__(self) -> None:
        if self._device.type == "cpu":
            return
        release()
        torch.cuda.reset_peak_memory_stats(self._device)
        before = torch.cuda.memory_allocated(self._device)
        self._one_pair()
        needed = before + FITS * (torch.cuda.max_memory_allocated(self._device) - before)
        release()
        whole = torch.cuda.get_device_properties(self._device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, needed / whole), self._device)

    def __exit__(self, *error: object) -> None:
        if self._device.type == "cuda":
            torch.cuda.set_per_process_memory_fraction(1.0, self._device)
            release()
