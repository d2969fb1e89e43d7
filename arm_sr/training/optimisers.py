"""How a step changes the weights: Adam, or Muon, momentum with orthogonalised updates (Jordan et al., "Muon: an
optimizer for hidden layers in neural networks", 2024)."""

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

STEPS = 5
"""Iterations of `orthogonalised`."""


class Muon(torch.optim.Optimizer):
    """Every update of a layer has the same step along all directions that its gradients had of late, however small.

    A kernel counts as a matrix with a row for each of its first channels, a bias as a matrix of one row; Jordan leaves
    biases, the first and the last layer to Adam. Updates have about the size of Adam's at the same learning rate
    (Liu et al., "Muon is scalable for LLM training", 2025).

    Args:
        params: kernels and biases.
        lr: learning rate.
        momentum: decay of the average of the gradients, within 0..1.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float = 1e-3, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take a step; parameters without a gradient stay as they are. A `closure` is not called."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                ahead = p.grad.lerp(state["momentum"], group["momentum"])  # Nesterov's
                matrix = ahead.reshape(len(p) if p.ndim > 1 else 1, -1)
                step = 0.2 * math.sqrt(max(matrix.shape)) * orthogonalised(matrix)
                p.sub_(group["lr"] * step.reshape(p.shape))


def orthogonalised(matrix: Tensor) -> Tensor:
    """`matrix`, (rows, columns), with all its singular values brought near 1; zeros stay zeros.

    By a Newton-Schulz iteration (Bernstein and Newhouse, "Old optimizer, new norm", 2024), with Jordan's coefficients.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonalised(matrix.T).T
    x = matrix / (matrix.norm() + 1e-12)
    for _ in range(STEPS):
        square = x @ x.T
        x = 3.4445 * x + (2.0315 * square @ square - 4.7750 * square) @ x
    return x


OPTIMISERS: dict[str, Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]] = {
    "adam": partial(torch.optim.Adam, betas=(0.9, 0.99)),
    "muon": Muon,
}
"""By the name that a recipe gives."""
