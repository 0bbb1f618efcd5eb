"""Adam, as Kingma and Ba define it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

BETAS, EPSILON = (0.9, 0.999), 1e-15
"""As Kerbl et al. set them for Gaussians."""


@torch.no_grad()
def adam_step(tensors: Mapping[str, Tensor], moments: dict[str, Tensor], step: int, rates: Mapping[str, float]) -> None:
    """Move tensors against their derivatives, which are taken from them; those without any stay as they are.

    moments: running means of derivatives and of their squares, as NAME.exp_avg and NAME.exp_avg_sq; changed in place.
    step: number of this step, from 1. rates: step width of each tensor.

    torch.optim does the same, but its first optimiser imports torch's compiler: 1 to 2 s, as long as 50 steps here.
    """
    for name, tensor in tensors.items():
        derivative, tensor.grad = tensor.grad, None
        if derivative is None:
            continue
        mean = moments.setdefault(f"{name}.exp_avg", torch.zeros_like(tensor))
        square = moments.setdefault(f"{name}.exp_avg_sq", torch.zeros_like(tensor))
        mean.lerp_(derivative, 1.0 - BETAS[0])
        square.mul_(BETAS[1]).addcmul_(derivative, derivative, value=1.0 - BETAS[1])
        spread = (square.sqrt() / (1.0 - BETAS[1] ** step) ** 0.5).add_(EPSILON)
        tensor.addcdiv_(mean, spread, value=-rates[name] / (1.0 - BETAS[0] ** step))
