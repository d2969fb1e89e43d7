"""What a step makes small: losses between upscaled and true crops, (N, C, H, W) in 0..1."""

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor


def log_mse(sr: Tensor, hr: Tensor, least_db: float) -> Tensor:
    """Mean over the crops of the logarithm of their squared error: a crop counts by what it loses relative to its
    error, as pictures do in a mean of PSNRs. The squared error of `least_db` is added to each, so that flat crops do
    not decide everything."""
    return (F.mse_loss(sr, hr, reduction="none").mean(dim=(1, 2, 3)) + 10 ** (-least_db / 10)).log().mean()


def charbonnier(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean absolute error whose gradient goes to zero below a quarter of an 8-bit level (Charbonnier et al., 1994; the
    1e-3 of Lai et al., "Deep Laplacian pyramid networks", 2017)."""
    return ((sr - hr).square() + 1e-3**2).sqrt().mean()


Loss = Callable[[Tensor, Tensor], Tensor]
LOSSES: dict[str, Loss] = {
    "l1": F.l1_loss,
    "charbonnier": charbonnier,
    "mse": F.mse_loss,
    "log_mse": partial(log_mse, least_db=30),  # about the mean PSNR at x4
    "log_mse_36": partial(log_mse, least_db=36),  # and at x2
}
"""By the name that a stage of a recipe gives."""
