"""What a step makes small: losses between upscaled and true crops, (N, C, H, W) in 0..1."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

LEAST_MSE = 1e-3
"""Added to the squared error of a crop by `log_mse`: that of 30 dB, so that flat crops do not decide everything."""


def log_mse(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean over the crops of the logarithm of their squared error: a crop counts by what it loses relative to its
    error, as pictures do in a mean of PSNRs."""
    return (F.mse_loss(sr, hr, reduction="none").mean(dim=(1, 2, 3)) + LEAST_MSE).log().mean()


Loss = Callable[[Tensor, Tensor], Tensor]
LOSSES: dict[str, Loss] = {"l1": F.l1_loss, "mse": F.mse_loss, "log_mse": log_mse}
"""By the name that a stage of a recipe gives."""
