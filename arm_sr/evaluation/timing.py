"""Times whose ratios hold: all that is compared runs in turn, and ratios are taken within a round."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")
Done = Callable[[int], object]
"""Called with 1 after every run, to show progress."""


def timed(run: Callable[[], T]) -> tuple[T, float]:
    """What `run` returns, and the milliseconds that it took."""
    begun = time.perf_counter()
    result = run()
    return result, 1e3 * (time.perf_counter() - begun)


def clocked(run: Callable[..., object], *args: object, **kwargs: object) -> Callable[[], float]:
    """A call of `run` that returns the milliseconds it took."""
    return lambda: timed(lambda: run(*args, **kwargs))[1]


def turns(runs: int, rounds: int) -> Iterator[tuple[int, int]]:
    """Round and number of the one whose turn it is; round -1 is the warm-up.

    Every other round goes backwards, so that a drift of the machine meets all alike.
    """
    for count in range(-1, rounds):
        yield from ((count, number) for number in range(runs)[:: 1 if count % 2 else -1])


def interleaved(runs: Sequence[Callable[[], float]], rounds: int, done: Done = lambda count: None) -> np.ndarray:
    """The milliseconds that each run returned in each round, in `turns` and without the warm-up: (runs, rounds)."""
    times = np.zeros((len(runs), rounds))
    for count, number in turns(len(runs), rounds):
        ms = runs[number]()
        if count >= 0:
            times[number, count] = ms
        done(1)
    return times


def ratio(times: np.ndarray, against: np.ndarray) -> float:
    """Median over the rounds of the ratio within a round; both (rounds,)."""
    return float(np.median(times / against))
