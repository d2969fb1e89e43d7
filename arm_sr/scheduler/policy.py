"""ARM's rule: the branch of a patch from the trade-off hyperparameter eta."""

import math

import numpy as np

from ..errors import UsageError


def parse_eta(eta: str | float) -> float:
    """A number of 0 or more, or `best`, which is infinity; UsageError for anything else."""
    try:
        value = math.inf if str(eta).strip().lower() == "best" else float(eta)
    except (ValueError, TypeError, OverflowError):
        value = math.nan
    if not value >= 0:
        raise UsageError(f"eta '{eta}' must be a number of 0 or more, or best")
    return value


def eta_rule(psnr: np.ndarray, cost: np.ndarray, eta: float) -> np.ndarray:
    """Branch of every patch: argmax over j of eta * psnr[i, j] - cost[j] (ARM, ECCV 2022, equation 4).

    Args:
        psnr: predicted PSNR in dB, (patches, branches).
        cost: of each branch in units of the largest sub-net's cost, (branches,).
        eta: trade-off; 0 takes the cheapest branch, infinity the best predicted one.

    Returns:
        Branch numbers, (patches,); the cheaper branch where two are equal.
    """
    # Divided by a large eta, so that none overflows.
    worth = psnr - cost / eta if eta > 1 else eta * psnr - cost
    return np.argmax(worth, axis=1)
