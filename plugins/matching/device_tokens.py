"""Encoder tokens on a device, kept there between the pairs of a photo, up to a number of bytes.

A photo of 512 x 384 pixels has 1.6 MB of tokens in 16 bits. With 20 pairs per photo they would be copied 20 times, each
time for half a millisecond from memory that is not page-locked, where a fast GPU needs 7 ms for a pair.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict

import torch
from torch import Tensor

from unposed.pipeline.artifacts import Tokens


class DeviceTokens:
    """The tokens used last, shared by the threads of a process. They are known by the object that holds them in main
    memory, and forgotten with it."""

    def __init__(self) -> None:
        self._held: OrderedDict[tuple[str, int], tuple[weakref.ref[Tokens], Tensor]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.RLock()  # what is collected meanwhile is forgotten by the same thread

    def of(self, tokens: Tokens, device: str, limit_bytes: int) -> Tensor:
        """(n, d) tokens on the device; what else is held exceeds the limit by those used last only."""
        if device == "cpu":
            return _rows(tokens)
        key = device, id(tokens)
        with self._lock:
            if key in self._held and self._held[key][0]() is tokens:
                self._held.move_to_end(key)
                return self._held[key][1]
        rows = _rows(tokens)
        if torch.device(device).type == "cuda":
            rows = rows.pin_memory()
        there = rows.to(device, non_blocking=True)
        with self._lock:
            self._forget(key)
            self._held[key] = weakref.ref(tokens, lambda _: self._forget(key)), there
            self._bytes += there.nbytes
            while self._bytes > limit_bytes and len(self._held) > 1:
                self._forget(next(iter(self._held)))
        return there

    @property
    def held_bytes(self) -> int:
        """Of all tokens on devices."""
        return self._bytes

    def _forget(self, key: tuple[str, int]) -> None:
        with self._lock:
            if key in self._held:
                self._bytes -= self._held.pop(key)[1].nbytes


def _rows(tokens: Tokens) -> Tensor:
    return torch.tensor(tokens.values).reshape(-1, tokens.values.shape[-1])


DEVICE_TOKENS = DeviceTokens()
"""Of this process."""
