"""From a budget to a branch for every patch: the Lagrangian of a multiple-choice knapsack.

Every patch climbs the lower convex hull of (cost, error) over its branches. The upgrades of all patches,
sorted by gain for cost, are the solutions of the Lagrangian for every multiplier, each one upgrade after the
other; the budget decides how far to go. What a prefix of that list really costs is known only after its
patches are merged into tiles, so the prefix is found by bisection on the merged cost. What is left is
spent on cheaper upgrades further down the list.

A larger budget never predicts a worse picture: bisection over a fixed list of nested choices stops later or
at the same place when the limit is larger, and the leftovers together never gain more than the next
upgrade of the list would.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Upgrades:
    """Steps from one branch to a dearer and better one, the most worthwhile first."""

    patch: np.ndarray
    """Which patch: (steps,)."""
    branch: np.ndarray
    """The branch it gets: (steps,)."""
    gain: np.ndarray
    """By how much the error falls, positive: (steps,)."""
    cost: np.ndarray
    """What it adds before merging: (steps,)."""


def rank_upgrades(error: np.ndarray, cost: np.ndarray) -> Upgrades:
    """The upgrades of all patches along their convex hulls, by falling gain for cost.

    Args:
        error: of every patch under every branch, smaller is better: (patches, branches).
        cost: of every patch under every branch, rising along the branches: (patches, branches).
    """
    patches, branches = error.shape
    at = np.zeros(patches, dtype=np.int64)
    rows = np.arange(patches)
    lowest = np.full(patches, np.inf)
    steps = []
    for _ in range(branches - 1):
        gain = error[rows, at][:, None] - error
        price = cost - cost[rows, at][:, None]
        usable = (np.arange(branches) > at[:, None]) & (gain > 0)
        ratio = np.where(usable, gain / np.maximum(price, 1e-12), -np.inf)
        # Of equal ratios the farthest, so that the hull has no points on its straight parts.
        target = branches - 1 - np.argmax(ratio[:, ::-1], axis=1)
        moves = np.flatnonzero(usable[rows, target])
        if not len(moves):
            break
        goal = target[moves]
        # On a nearly straight hull rounding can make the later step look better; it must not come first.
        lowest[moves] = np.minimum(lowest[moves], ratio[moves, goal])
        steps.append((moves, goal, gain[moves, goal], price[moves, goal], lowest[moves]))
        at[moves] = goal
    if not steps:
        nothing = np.zeros(0, dtype=np.int64)
        return Upgrades(nothing, nothing, np.zeros(0), np.zeros(0))
    patch, branch, gains, prices, ratios = (np.concatenate(part) for part in zip(*steps, strict=True))
    order = np.argsort(-ratios, kind="stable")
    return Upgrades(patch[order], branch[order], gains[order], prices[order])


def solve(upgrades: Upgrades, patches: int, fits: Callable[[np.ndarray], bool]) -> np.ndarray:
    """The branch of every patch for the largest budget that `fits` allows: (patches,).

    `fits` says whether branches (patches,) are within the budget; it is asked some twenty times.
    Branch 0 everywhere is returned when nothing else fits.
    """

    def apply(base: np.ndarray, steps: np.ndarray) -> np.ndarray:
        # Steps of one patch follow each other in the list, and the last assignment holds.
        branches = base.copy()
        branches[upgrades.patch[steps]] = upgrades.branch[steps]
        return branches

    start = np.zeros(patches, dtype=np.int64)
    everything = np.arange(len(upgrades.patch))
    taken = _longest_prefix(len(everything), lambda n: fits(apply(start, everything[:n])))
    base = apply(start, everything[:taken])
    if taken == len(everything):
        return base
    # Leftovers: the next step of every patch, cheapest first, as long as they gain less than the step that did
    # not fit; that step's own patch waits.
    later = everything[taken + 1 :]
    later = later[upgrades.patch[later] != upgrades.patch[taken]]
    _, first = np.unique(upgrades.patch[later], return_index=True)
    fill = later[np.sort(first)]
    fill = fill[np.argsort(upgrades.cost[fill], kind="stable")]
    fill = fill[np.cumsum(upgrades.gain[fill]) <= upgrades.gain[taken]]
    return apply(base, fill[: _longest_prefix(len(fill), lambda n: fits(apply(base, fill[:n])))])


def _longest_prefix(length: int, fits: Callable[[int], bool]) -> int:
    """Bisection for how many of `length` steps fit; 0 is taken to fit.

    Also where `fits` is not monotone, a more generous `fits` never gives a smaller number.
    """
    low, high = 0, length
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low
