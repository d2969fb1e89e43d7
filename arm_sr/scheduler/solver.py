"""From a budget or a multiplier to a branch for every patch: the Lagrangian of a multiple-choice knapsack.

Every patch climbs the lower convex hull of (cost, error) over its branches. The upgrades of all patches,
sorted by gain for cost, are the solutions of the Lagrangian for every multiplier, each one upgrade after the
other; the budget decides how far to go. Upgrades of patches that would stand alone are moved in that list to where
those of their neighbours are. What a prefix of it really costs is known only after its patches are merged into
tiles, so the prefix is searched for by its merged cost. What is left is spent on cheaper upgrades further down.

A larger budget never predicts a worse picture: the search over a fixed list of nested choices ends later or
at the same place when the limit is larger, and the leftovers together never gain more than the next
upgrade of the list would.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class Upgrades:
    """Steps from one branch to a dearer and better one, in the order in which a growing budget takes them.

    The steps of a patch follow each other: each begins where the one before it ended.
    """

    patch: np.ndarray
    """Which patch: (steps,)."""
    branch: np.ndarray
    """The branch it gets: (steps,)."""
    gain: np.ndarray
    """By how much the error falls, positive: (steps,)."""
    cost: np.ndarray
    """What it adds before merging, to the branch before it where some were left out: (steps,)."""


def rank_upgrades(error: np.ndarray, cost: np.ndarray) -> Upgrades:
    """The upgrades of all patches along their convex hulls, by falling gain for cost.

    Args:
        error: of every patch under every branch, smaller is better: (patches, branches).
        cost: of every patch under every branch, rising along the branches: (patches, branches).
    """
    patches, branches = error.shape
    numbers = np.arange(branches)
    # From every branch (second axis) to every other (third axis).
    gain = error[:, :, None] - error[:, None, :]
    price = cost[:, None, :] - cost[:, :, None]
    usable = (gain > 0) & (numbers > numbers[:, None])
    ratio = np.where(usable, gain / np.maximum(price, 1e-12), -np.inf)
    # Of equal ratios the farthest, so that the hull has no points on its straight parts.
    best = branches - 1 - np.argmax(ratio[..., ::-1], axis=2)
    at = np.zeros(patches, dtype=np.int64)
    moves = np.arange(patches)
    lowest = np.full(patches, np.inf)
    steps = []
    while True:
        goal = best[moves, at]
        more = usable[moves, at, goal].nonzero()[0]
        if not len(more):
            break
        moves, at, goal, lowest = moves[more], at[more], goal[more], lowest[more]
        # On a nearly straight hull rounding can make the later step look better; it must not come first.
        lowest = np.minimum(lowest, ratio[moves, at, goal])
        steps.append((moves, goal, gain[moves, at, goal], price[moves, at, goal], lowest))
        at = goal
    if not steps:
        nothing = np.zeros(0, dtype=np.int64)
        return Upgrades(nothing, nothing, np.zeros(0), np.zeros(0))
    patch, branch, gains, prices, ratios = (np.concatenate(part) for part in zip(*steps, strict=True))
    order = np.argsort(-ratios, kind="stable")
    return Upgrades(patch[order], branch[order], gains[order], prices[order])


def join_isolated(upgrades: Upgrades, error: np.ndarray, cost: np.ndarray, shape: tuple[int, int],
                  up_from: np.ndarray) -> Upgrades:  # fmt: skip
    """The upgrades in another order, in which hardly a patch needs a tile of its own.

    Whatever prefix of the list is taken, a patch that fewer than two of its four neighbours keep company goes down to
    the second highest of them; one that three or more of them exceed goes up to those, if that is cheaper. Which of
    its neighbours comes second or third can be told from the places in the list, once for all prefixes.

    Args:
        upgrades: from `rank_upgrades`.
        error, cost: as given to it, but no error may be larger than that of the branch before: (patches, branches).
        shape: rows and columns of patches.
        up_from: for every branch the lowest one from which going up to it is cheaper than a tile, rising: (branches,).

    Returns:
        Steps of one branch each, no longer by gain for cost.
    """
    patches, branches = error.shape
    never = len(upgrades.patch)
    first = np.full((branches, patches), never)  # place in the list where a patch gets this branch
    first[upgrades.branch, upgrades.patch] = np.arange(never)
    place = np.minimum.accumulate(first[::-1], axis=0)[::-1].reshape(branches, *shape)  # this one or a higher one
    place[0] = -1
    place = np.maximum(place, _neighbours(place)[0])
    place = np.minimum(place, np.maximum(place[up_from], _neighbours(place)[1]))[1:].reshape(-1, patches)
    gain, price = -np.diff(error, axis=1).T, np.diff(cost, axis=1).T
    steps = np.flatnonzero((place < never) & (gain > 0))
    steps = steps[np.argsort(place.ravel()[steps], kind="stable")]
    branch, patch = np.divmod(steps, patches)
    return Upgrades(patch, branch + 1, gain.ravel()[steps], price.ravel()[steps])


def _neighbours(place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The second and the third smallest of the four neighbours along the last two axes; beyond a border a value is its
    own neighbour."""
    above, below = place[:, _clamped(place.shape[1], -1)], place[:, _clamped(place.shape[1], 1)]
    left, right = place[:, :, _clamped(place.shape[2], -1)], place[:, :, _clamped(place.shape[2], 1)]
    inner = np.maximum(np.minimum(above, below), np.minimum(left, right))
    outer = np.minimum(np.maximum(above, below), np.maximum(left, right))
    return np.minimum(inner, outer), np.maximum(inner, outer)


@lru_cache(maxsize=64)
def _clamped(length: int, by: int) -> np.ndarray:
    """The indices of an axis moved `by`, those beyond its ends at the ends."""
    return np.clip(np.arange(length) + by, 0, length - 1)


MIXED = 0.006
"""By what share the squared error of a picture is larger than predicted where its patches were chosen by predictions:
among branches that are nearly as good, errors of prediction choose. (Against w48 everywhere 80% of the MACs on `val`
were predicted to be 0.003 better and were 0.001 worse, 80% of the time on `val4k` 0.0045 better and 0.003 worse.)"""


def total_error(error: np.ndarray, branches: np.ndarray) -> float:
    """Sum of error (patches, branches) over the chosen branches (patches,); that of squared errors is larger by `MIXED`
    unless one sub-net runs everywhere."""
    total = float(error[np.arange(len(branches)), branches].sum())
    everywhere = branches[0] > 0 and bool((branches == branches[0]).all())
    return total if everywhere or total < 0 else (1 + MIXED) * total


def or_everywhere(error: np.ndarray, chosen: np.ndarray, everywhere: Iterable[np.ndarray]) -> np.ndarray:
    """`chosen`, or that of the choices with one sub-net `everywhere` whose predicted error is less than of `chosen`, of
    branch 0 everywhere, and least: (patches,). A sub-net needs no halo there, and is often best for a large budget."""
    nothing = error[:, 0].sum()
    better = (choice for choice in everywhere if total_error(error, choice) < nothing)
    return min((chosen, *better), key=lambda choice: total_error(error, choice))


def solve(upgrades: Upgrades, patches: int, fits: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The branch of every patch for the largest budget that `fits` allows: (patches,).

    `fits` says of several choices of branches (choices, patches) which are within the budget: (choices,) of
    bool; it is asked a few times. Branch 0 everywhere is returned when nothing else fits.
    """

    def climb(base: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, int]:
        """The longest prefix of `steps` that fits, applied to `base`, and its length."""
        probes = _at_once(patches)
        taken = _longest_prefix(len(steps), lambda counts: fits(_climbed(upgrades, base, steps, counts)), probes)
        return _climbed(upgrades, base, steps, np.array([taken]))[0], taken

    everything = np.arange(len(upgrades.patch))
    base, taken = climb(np.zeros(patches, dtype=np.int64), everything)
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
    return climb(base, fill)[0]


def trade_off(upgrades: Upgrades, error: np.ndarray, cost: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The branch of every patch for which error and cost together are least: (patches,).

    Tried are `PREFIXES` lengths of the list and every branch alone, whatever the errors count, so that where they count
    more, the choice never costs less and never has a larger error. `MIXED` is left out: it would have a picture jump
    from one sub-net to the next, where over many pictures its share of both is better.

    Args:
        upgrades: from `join_isolated`.
        error: of every patch under every branch in units of the cost: (patches, branches).
        cost: says what several choices of branches cost: (choices, patches) to (choices,).
    """
    chosen, least = np.zeros(len(error), dtype=np.int64), np.inf
    for choices in _candidates(upgrades, *error.shape):
        losses = error[np.arange(len(error)), choices].sum(axis=1) + cost(choices)
        if losses.min() < least:
            chosen, least = choices[np.argmin(losses)], losses.min()
    return chosen


def trade_off_curve(upgrades: Upgrades, error: np.ndarray, cost: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Error and cost of everything that `trade_off` chooses among, arguments as there: (choices, 2).

    What it chooses where errors count m times as much is the first with the least m * error + cost.
    """
    points = []
    for choices in _candidates(upgrades, *error.shape):
        points.append(np.stack([error[np.arange(len(error)), choices].sum(axis=1), cost(choices)], axis=1))
    return np.concatenate(points)


def _candidates(upgrades: Upgrades, patches: int, branches: int) -> Iterator[np.ndarray]:
    """What `trade_off` tries, which is the same whatever the errors count, some at once: (choices, patches)."""
    yield np.repeat(np.arange(branches)[:, None], patches, axis=1)
    steps = np.arange(len(upgrades.patch))
    counts = np.unique(np.linspace(0, len(steps), PREFIXES).astype(np.int64))
    base = np.zeros(patches, dtype=np.int64)
    for part in np.array_split(counts, -(-len(counts) // _at_once(patches))):
        yield _climbed(upgrades, base, steps, part)


def _climbed(upgrades: Upgrades, base: np.ndarray, steps: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The branches `base` after the first `counts` (choices,) of `steps`: (choices, patches)."""
    branches = np.repeat(base[None], len(counts), axis=0)
    highest = int(upgrades.branch.max(initial=0))
    place = np.full((highest + 1, len(base)), len(steps))  # of the step that gives a patch a branch
    place[upgrades.branch[steps], upgrades.patch[steps]] = np.arange(len(steps))
    for branch in range(1, highest + 1):  # a patch only climbs
        np.copyto(branches, branch, where=place[branch] < counts[:, None])
    return branches


PREFIXES = 65
"""Lengths of the list that a trade-off tries."""
PROBES = 7
"""Lengths that are tried at once; asking about many costs little more than about one,"""
PROBED = 6000
"""and for small pictures as many more as make so many patches together."""


def _at_once(patches: int) -> int:
    """How many lengths are tried at once for so many patches."""
    return max(PROBES, PROBED // patches)


def _longest_prefix(length: int, fits: Callable[[np.ndarray], np.ndarray], probes_at_once: int) -> int:
    """How many of `length` steps fit, by narrowing down between so many lengths at a time; 0 is taken to fit.

    `fits` answers for several ascending lengths. Also where it is not monotone, a more generous `fits` never
    gives a smaller number: it is always the longest of the probes that counts.
    """
    low, high = 0, length
    while low < high:
        count = min(probes_at_once, high - low)
        probes = low + np.arange(1, count + 1) * (high - low) // count
        fitting = fits(probes).nonzero()[0]
        place = fitting[-1] + 1 if len(fitting) else 0
        low = int(probes[place - 1]) if place else low
        high = int(probes[place]) - 1 if place < len(probes) else low
    return low
