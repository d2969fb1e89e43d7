"""From measured times to costs."""

import numpy as np
import pytest

from arm_sr.calibration import BATCHES, fit_cost


@pytest.mark.parametrize(("call", "pixel"), [(0.5, 0.002), (0.0, 0.002), (0.5, 0.0)])
def test_exact_costs_are_found_again(call, pixel):
    """Times that are a sum of calls and pixels give those back."""
    ms = [count * (call + pixel * height * width) for count, height, width in BATCHES]
    assert (call, pixel) == pytest.approx(fit_cost(BATCHES, ms), abs=1e-9)


def test_no_cost_is_negative():
    """Though small tiles ran faster for each pixel."""
    ms = [0.002 * (count * height * width) ** 1.2 for count, height, width in BATCHES]
    call, pixel = fit_cost(BATCHES, ms)
    assert call == 0
    assert pixel > 0


def test_small_tiles_count_like_large_ones():
    """The fit is to relative errors: with 5% noise every time is met within 20%."""
    noise = np.random.default_rng(0).normal(1, 0.05, len(BATCHES))
    ms = [count * (0.5 + 0.002 * height * width) * n for (count, height, width), n in zip(BATCHES, noise, strict=True)]
    call, pixel = fit_cost(BATCHES, ms)
    for (count, height, width), took in zip(BATCHES, ms, strict=True):
        assert count * (call + pixel * height * width) == pytest.approx(took, rel=0.2)
