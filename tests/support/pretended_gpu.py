"""A GPU that is none: tensors say that they are there. An operation that finds some of its tensors there and others
here is refused, and nothing that is there can be read from here, as on a GPU; which would take an index from here, and
wait for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map_only

GPU = torch.device("meta")
BETWEEN = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
"""What may take values from one device to another."""


class There(Tensor):
    """A tensor that says it is on the GPU."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> There:
        with torch.inference_mode(False):  # PyTorch takes no views of tensors like this that are made in that mode
            made: There = Tensor._make_wrapper_subclass(
                cls, here.shape, here.stride(), here.storage_offset(), dtype=here.dtype, device=GPU
            )
        made.here = here
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return _computed(func, args, kwargs or {})


class PretendedGpu(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees to what begins here and shall be there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


class Literals(TorchFunctionMode):
    """Sees to numbers that are written out and shall be there, of which the other mode hears nothing."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.tensor and torch.device(kwargs.get("device") or "cpu") == GPU:
            return func(*args, **{**kwargs, "device": "cpu"}).to(GPU)
        if func is Tensor.new_tensor and isinstance(args[0], There):
            return torch.tensor(args[1], dtype=args[0].dtype).to(GPU)
        return func(*args, **kwargs)


def _computed(func: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    given = [each for each in tree_iter((args, kwargs)) if isinstance(each, Tensor)]
    there = [each for each in given if isinstance(each, There)]
    elsewhere = [each for each in given if each.ndim and not isinstance(each, There)]  # numbers may come from anywhere
    if there and elsewhere and func not in BETWEEN:
        raise RuntimeError(f"{func}: expected all tensors to be on the same device")
    asked = kwargs.get("device", next((each for each in args if isinstance(each, torch.device)), None))
    stays = bool(there) if asked is None else torch.device(asked) == GPU
    if func is torch.ops.aten.copy_.default:
        stays = isinstance(args[0], There)
    if asked is not None and stays:
        args, kwargs = tree_map_only(torch.device, lambda _: torch.device("cpu"), (args, kwargs))
        kwargs = kwargs | ({"device": torch.device("cpu")} if "device" in kwargs else {})
    out = func(*tree_map_only(There, lambda each: each.here, args), **tree_map_only(There, lambda e: e.here, kwargs))
    if not stays:
        return out
    known = {id(each.here): each for each in there}
    return tree_map_only(Tensor, lambda each: known[id(each)] if id(each) in known else There(each), out)


def on_both(work: Callable[[str], Any]) -> tuple[Any, Any]:
    """What comes of it here, and what there."""
    here = work("cpu")
    with PretendedGpu(), Literals():  # type: ignore[no-untyped-call]
        return here, work(str(GPU))
