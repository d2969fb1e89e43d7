"""One budget for many pictures: the trade-off that spends it, the same for all of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MOST_ETA = 1e9
"""A larger eta counts as this, which weighs no cost any more."""
LEAST_ETA = 1e-9
"""A smaller one weighs no error."""


@dataclass(frozen=True)
class Curve:
    """What one picture can be had for: its choices of branches, as `trade_off` tries them."""

    error: np.ndarray
    """Worth of the error at an eta of 1, in units of cost: (choices,)."""
    cost: np.ndarray
    """Of the whole picture, interpolation included: (choices,)."""

    def cost_at(self, eta: float) -> float:
        """What the choice costs that the trade-off `eta` makes."""
        return float(self.cost[np.argmin(eta * self.error + self.cost)])


def eta_within(curves: Sequence[Curve], limit: float) -> float:
    """The largest eta whose choices cost at most `limit` together, or the least one when none does.

    By bisection of its logarithm. Costs of a picture never fall where eta grows, so that there is one place where they
    pass the limit: the Lagrange multiplier of all pictures. It ends a little below that place, because right at it
    rounding decides what is chosen.
    """

    def fits(exponent: float) -> bool:
        return math.fsum(curve.cost_at(math.exp(exponent)) for curve in curves) <= limit

    low, high = math.log(LEAST_ETA), math.log(MOST_ETA)
    if fits(high):
        return MOST_ETA
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return math.exp(low - 1e-6)
