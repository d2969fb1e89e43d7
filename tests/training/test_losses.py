"""What the losses weigh."""

import numpy as np
import pytest
import torch

from arm_sr.imaging.metrics import psnr_of_mse
from arm_sr.training.losses import LOSSES, log_mse


@pytest.mark.parametrize("least_db", [30, 36])
@pytest.mark.parametrize("errors", [(0.2, 0.05), (0.3, 0.1, 0.4)])
def test_log_mse_falls_as_the_mean_psnr_of_the_crops_rises(errors: tuple[float, ...], least_db: float) -> None:
    """Ten decibels are one power of ten; crops far worse than the floor hardly feel it."""
    hr = torch.rand(len(errors), 3, 8, 8)
    sr = hr + torch.tensor(errors).view(-1, 1, 1, 1)
    psnr = np.mean([psnr_of_mse(255**2 * (error**2 + 10 ** (-least_db / 10))) for error in errors])
    assert -10 / np.log(10) * float(log_mse(sr, hr, least_db)) == pytest.approx(psnr, abs=1e-3)


def test_log_mse_has_a_gradient_where_crops_are_perfect() -> None:
    """None there, and the others keep theirs."""
    hr = torch.rand(2, 3, 8, 8)
    sr = (hr + torch.tensor([0.0, 0.1]).view(-1, 1, 1, 1)).requires_grad_()
    LOSSES["log_mse"](sr, hr).backward()
    assert sr.grad is not None and torch.isfinite(sr.grad).all()
    assert (sr.grad[0] == 0).all() and (sr.grad[1] > 0).all()


def test_charbonnier_is_the_absolute_error_with_a_gradient_that_fades_to_zero() -> None:
    """Equal to L1 for errors that can be seen; smooth where there is none."""
    hr = torch.rand(1, 3, 8, 8)
    assert float(LOSSES["charbonnier"](hr + 0.1, hr)) == pytest.approx(0.1, rel=1e-3)
    sr = (hr + torch.tensor([0.0, 1e-4, 0.1]).view(1, 3, 1, 1)).requires_grad_()
    LOSSES["charbonnier"](sr, hr).backward()
    assert sr.grad is not None
    none, little, full = (192 * sr.grad[0, channel].mean().item() for channel in range(3))
    assert none == 0 and little == pytest.approx(0.1, rel=0.01) and full == pytest.approx(1, rel=0.01)
