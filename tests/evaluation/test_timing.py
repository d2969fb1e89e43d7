"""Times that are taken in turn."""

import time

import numpy as np

from arm_sr.evaluation.timing import clocked, interleaved, ratio, turns


def test_every_round_has_every_run() -> None:
    """In alternating order, after a warm-up."""
    assert list(turns(3, 2)) == [(-1, 0), (-1, 1), (-1, 2), (0, 2), (0, 1), (0, 0), (1, 0), (1, 1), (1, 2)]


def test_times_are_those_that_the_runs_tell() -> None:
    """Without the first; the median of ratios is not the ratio of medians."""
    first, second = iter([100.0, 1.0, 2.0, 9.0]), iter([100.0, 2.0, 1.0, 3.0])
    done: list[int] = []
    times = interleaved([lambda: next(first), lambda: next(second)], 3, done.append)
    assert np.array_equal([[1, 2, 9], [2, 1, 3]], times)
    assert [1] * 8 == done
    assert ratio(times[0], times[1]) == 2


def test_a_call_is_clocked() -> None:
    """In milliseconds, whatever it is given."""
    short, long = clocked(time.sleep, 0), clocked(time.sleep, 0.02)
    assert short() < 20 <= long()
    seen = []
    assert clocked(lambda *args, **kwargs: seen.append((args, kwargs)), 1, key=2)() >= 0
    assert [((1,), {"key": 2})] == seen
