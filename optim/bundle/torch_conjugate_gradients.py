"""Conjugate gradients on a torch device, for systems that are known by their products with vectors.

Vectors are several tensors (n, d), one for each kind of unknown, with a block of d unknowns in each row.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Blocks = tuple[Tensor, ...]

TORCH_CG_TOLERANCE = 1e-2
"""Relative residual, in the norm of the preconditioner, at which conjugate gradients stop."""

TORCH_CG_MAX_ITERATIONS = 300

ITERATIONS_PER_CHECK = 4
"""Iterations between two tests for convergence: a test waits for the device, which could go on meanwhile."""


def conjugate_gradients(multiply: Callable[[Blocks], Blocks], inverse: Blocks, right: Blocks) -> Blocks:
    """Solve for x with `multiply` (x) = `right`, preconditioned by blocks (n, d, d) of `inverse`."""
    x, residual = tuple(torch.zeros_like(each) for each in right), right
    z = block_products(inverse, residual)
    direction, energy = z, _dot(residual, z)
    target = TORCH_CG_TOLERANCE**2 * energy
    going = energy > target
    for iteration in range(TORCH_CG_MAX_ITERATIONS):
        if iteration % ITERATIONS_PER_CHECK == 0 and not bool(going):
            break
        product = multiply(direction)
        curvature = _dot(direction, product)
        going = going & (curvature > 0.0)
        length = torch.where(going, energy / curvature, 0.0)  # iterations after convergence change nothing
        x, residual = _plus(x, length, direction), _plus(residual, -length, product)
        z = block_products(inverse, residual)
        before, energy = energy, _dot(residual, z)
        direction = _plus(z, torch.where(going, energy / before, 0.0), direction)
        going = going & (energy > target)
    return x


def block_products(blocks: Blocks, x: Blocks) -> Blocks:
    """`row_products` of each kind of unknown."""
    return tuple(row_products(b, v) for b, v in zip(blocks, x, strict=True))


def row_products(blocks: Tensor, rows: Tensor) -> Tensor:
    """(n, d) blocks (n, d, d) times rows (n, d)."""
    return (blocks * rows[:, None, :]).sum(2)


def inverse_or_zero(blocks: Tensor) -> Tensor:
    """Inverses of (n, d, d), zero where there is none: such unknowns stay where they are. `torch.linalg.inv` would wait
    for the device to learn whether there are."""
    inverse, problem = torch.linalg.inv_ex(blocks)
    return torch.where((problem == 0)[:, None, None], inverse, 0.0)


def _dot(a: Blocks, b: Blocks) -> Tensor:
    """Stays on the device: to convert it to a number is to wait for all work before."""
    return torch.stack([(x * y).sum() for x, y in zip(a, b, strict=True)]).sum()


def _plus(a: Blocks, factor: Tensor, b: Blocks) -> Blocks:
    return tuple(x + factor * y for x, y in zip(a, b, strict=True))
