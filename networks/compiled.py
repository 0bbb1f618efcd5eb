"""Transformer blocks that torch.compile makes kernels for, at their first use with each shape of image.

A block is memory-bound between its products: norms, roundings and sums that are joined move about half of the bytes.
The blocks of one kind share one translation, batches of any size but one share it as well, and a collection has few
shapes of images, so that a minute is spent a few times. Where the compiler fails, blocks run as they are.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

MAX_SHAPES = 16
"""Shapes that are compiled for one kind of block; those that come later run plainly, since each costs a minute."""

_log = logging.getLogger(__name__)


class CompiledKind:
    """Blocks of one kind of one network."""

    def __init__(self, backend: str | Callable[..., Any]) -> None:
        self._backend = backend
        self._lock = threading.Lock()
        self.shapes: set[tuple[torch.Size, ...]] = set()
        """Of the tokens, without the size of the batch."""
        self.problem = ""
        """Why nothing is compiled any more; empty while it is."""

    def adopt(self, block: nn.Module) -> None:
        """Let a block run compiled from now on."""
        plain: Callable[..., Any] = block.forward
        compiled = torch.compile(plain, backend=self._backend, dynamic=False)

        def forward(*args: Any) -> Any:
            if not self._takes(args):
                return plain(*args)
            for each in args:
                if isinstance(each, Tensor):
                    torch._dynamo.maybe_mark_dynamic(each, 0)
            try:
                return compiled(*args)
            except torch.cuda.OutOfMemoryError:
                raise  # smaller batches may fit
            except Exception as error:  # of the compiler, or of a kernel that it made and the device refuses
                self._give_up(error)
                return plain(*args)

        block.forward = forward

    def _takes(self, args: tuple[Any, ...]) -> bool:
        if self.problem:
            return False
        shape = tuple(each.shape[1:] for each in args if isinstance(each, Tensor))
        with self._lock:
            if shape in self.shapes:
                return True
            if len(self.shapes) < MAX_SHAPES:
                self.shapes.add(shape)
                return True
        return False

    def _give_up(self, error: Exception) -> None:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        with self._lock:
            if not self.problem:
                _log.warning("torch.compile failed (%s): the network runs without it", first[:160])
            self.problem = first


def compile_blocks(
    network: nn.Module, kinds: tuple[type[nn.Module], ...], backend: str | Callable[..., Any] = "inductor"
) -> dict[type[nn.Module], CompiledKind]:
    """Let all blocks of these kinds in a network run compiled; `backend` is one of torch.compile's."""
    import torch._dynamo  # seconds, for those who compile

    # The limit counts all networks of the process: it is there to find what is compiled anew for every call.
    limit = "recompile_limit" if hasattr(torch._dynamo.config, "recompile_limit") else "cache_size_limit"  # before 2.6
    setattr(torch._dynamo.config, limit, max(getattr(torch._dynamo.config, limit), 8 * MAX_SHAPES))
    made = {kind: CompiledKind(backend) for kind in kinds}
    for block in network.modules():
        if type(block) in made:
            made[type(block)].adopt(block)
    return made
