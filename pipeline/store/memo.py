"""What stages over the collection keep for later runs beside their results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..environment import result_environment
from .keys import digest
from .store import Store


@dataclass(frozen=True)
class StoredMemo:
    """The Memo of one plugin, in the store: pruned, checked and listed as its results are."""

    store: Store
    plugin: str

    def recall(self, name: str) -> list[NDArray[Any]] | None:
        """See Memo."""
        arrays = self.store.get(self._key(name), list)
        fits = isinstance(arrays, list) and all(isinstance(array, np.ndarray) for array in arrays)
        return arrays if fits else None

    def remember(self, name: str, arrays: list[NDArray[Any]]) -> None:
        """See Memo."""
        self.store.put(self._key(name), arrays, stage=self.plugin)

    def _key(self, name: str) -> str:
        return digest("memo", self.plugin, name, result_environment())
