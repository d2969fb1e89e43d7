"""One budget for many pictures."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from arm_sr.scheduler.total import LEAST_ETA, MOST_ETA, Curve, eta_within


def curves(seed: int, pictures: int) -> list[Curve]:
    """Pictures with random choices, the dearer the better, and some that make no sense."""
    rng = np.random.default_rng(seed)
    made = []
    for count in rng.integers(1, 9, pictures):
        cost = np.sort(rng.uniform(1, 100, count))
        made.append(Curve(np.sort(rng.exponential(100, count))[::-1] * rng.choice([1, 1, 2], count), cost))
    return made


def total(some: list[Curve], eta: float) -> float:
    return math.fsum(curve.cost_at(eta) for curve in some)


@given(st.integers(0, 10**6), st.integers(1, 6), st.floats(0, 1.2))
def test_the_largest_trade_off_that_fits(seed: int, pictures: int, share: float) -> None:
    """No more than the limit, and a hair more eta would be more, unless everything fits or nothing does."""
    some = curves(seed, pictures)
    least, most = total(some, LEAST_ETA), total(some, MOST_ETA)
    limit = least + share * (most - least)
    eta = eta_within(some, limit)
    assert total(some, eta) <= limit * (1 + 1e-12)
    if most > limit:
        assert total(some, eta * 1.00001) > limit
    else:
        assert MOST_ETA == eta
    assert total(some, eta_within(some, least / 2)) == least
