"""The solver against a slow hull, brute force and the Lagrangian bound."""

import itertools
import math
from fractions import Fraction
from unittest import mock

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import cost_tables, few, grids, make_cost

from arm_sr.patches import Grid
from arm_sr.scheduler import solver
from arm_sr.scheduler.solver import PROBED, PROBES, join_isolated, rank_upgrades, solve, trade_off
from arm_sr.scheduler.tiles import merge

FEW_AT_ONCE = st.sampled_from([1, PROBED])
"""For small pictures too the search narrows down, or it is over at once."""

# Whole numbers, so that costs and errors add up exactly and ties are ties.


@st.composite
def problems(draw, patches=12, branches=4):
    """Error and rising cost of every patch under every branch: two arrays (patches, branches)."""
    count = draw(st.integers(1, patches))
    levels = st.lists(st.integers(0, 60), min_size=branches, max_size=branches)
    error = draw(st.lists(levels, min_size=count, max_size=count))
    steps = draw(st.lists(st.integers(1, 12), min_size=branches - 1, max_size=branches - 1))
    areas = draw(st.lists(st.integers(1, 5), min_size=count, max_size=count))
    return np.array(error, float), np.outer(areas, [0.0, *np.cumsum(steps)])


def slow_hull(error, cost):
    """Branches after 0 on the lower convex hull of one patch, ends of its straight parts only, in exact fractions."""
    hull = [0]
    while True:
        at = hull[-1]
        slopes = {
            branch: Fraction(int(error[at] - error[branch]), int(cost[branch] - cost[at]))
            for branch in range(at + 1, len(error))
            if error[branch] < error[at]
        }
        if not slopes:
            return hull[1:]
        steepest = max(slopes.values())
        hull.append(max(branch for branch, slope in slopes.items() if slope == steepest))


def total(table, branches):
    """Sum over the patches of what `table` says of their branches."""
    return table[np.arange(len(branches)), branches].sum()


def each(fits):
    """The question `solve` asks about several choices, from the answer for one."""
    return lambda choices: np.array([fits(branches) for branches in choices], dtype=bool)


def within(cost, limit):
    """Whether choices are within the limit, for costs that add up."""
    return each(lambda branches: total(cost, branches) <= limit)


def lagrangian_bound(error, cost, limit):
    """Least error at `limit` when the last upgrade may be taken in part; no whole choice is below it.

    Returns the bound and the gain of the upgrade that is cut.
    """
    upgrades = rank_upgrades(error, cost)
    left, value = limit, error[:, 0].sum()
    for gain, price in zip(upgrades.gain, upgrades.cost, strict=True):
        if price > left:
            return value - gain * left / price, gain
        left, value = left - price, value - gain
    return value, 0.0


# The list of upgrades


@few
@given(problems())
def test_upgrades_gain_and_their_ratios_fall(problem):
    """The most worthwhile first; none costs nothing."""
    upgrades = rank_upgrades(*problem)
    assert np.all(upgrades.gain > 0)
    assert np.all(upgrades.cost > 0)
    assert np.all(np.diff(upgrades.gain / upgrades.cost) <= 0)


@few
@given(problems())
def test_the_steps_of_a_patch_follow_its_convex_hull(problem):
    """In order, and without the points on straight parts."""
    error, cost = problem
    upgrades = rank_upgrades(error, cost)
    for patch in range(len(error)):
        assert slow_hull(error[patch], cost[patch]) == upgrades.branch[upgrades.patch == patch].tolist()


@few
@given(problems())
def test_costs_and_gains_add_up_along_the_list(problem):
    """After every step the sums are those of the branches reached."""
    error, cost = problem
    upgrades = rank_upgrades(error, cost)
    branches = np.zeros(len(error), dtype=int)
    for step, (patch, branch) in enumerate(zip(upgrades.patch, upgrades.branch, strict=True), start=1):
        branches[patch] = branch
        assert total(cost, branches) - cost[:, 0].sum() == upgrades.cost[:step].sum()
        assert error[:, 0].sum() - total(error, branches) == upgrades.gain[:step].sum()


def test_nothing_better_means_no_upgrades():
    """Dearer branches that are no better are never taken."""
    upgrades = rank_upgrades(np.array([[1.0, 1, 2], [0, 0, 0]]), np.array([[0.0, 1, 2], [0, 1, 2]]))
    assert [0, 0, 0, 0] == [len(part) for part in (upgrades.patch, upgrades.branch, upgrades.gain, upgrades.cost)]
    assert [0, 0] == solve(upgrades, 2, each(lambda branches: True)).tolist()


def test_one_branch_means_no_upgrades():
    """A model whose only branch is interpolation has nothing to decide."""
    assert 0 == len(rank_upgrades(np.ones((3, 1)), np.zeros((3, 1))).patch)


def test_a_branch_that_is_dearer_and_worse_than_the_next_is_skipped():
    """Measured costs need not rise with the width."""
    upgrades = rank_upgrades(np.array([[10.0, 5.0, 4.0]]), np.array([[0.0, 100.0, 50.0]]))
    assert ([2], [6.0], [50.0]) == (upgrades.branch.tolist(), upgrades.gain.tolist(), upgrades.cost.tolist())


def test_free_branches_come_first():
    """Where a better branch costs the same the best of them is taken at once."""
    upgrades = rank_upgrades(np.array([[9.0, 8.0, 5.0, 4.0], [9.0, 0, 0, 0]]), np.array([[0.0, 0, 0, 7], [0, 1, 2, 3]]))
    assert [(0, 2), (1, 1), (0, 3)] == list(zip(upgrades.patch.tolist(), upgrades.branch.tolist(), strict=True))


def test_rounding_does_not_turn_the_steps_of_a_straight_hull_around():
    """Points on a line up to the last digit of a table: the ratios of the steps differ by rounding only."""
    cost = np.array([0.0, 0.264, 0.357, 0.477]) * 544
    error = np.array([0.242459, 0.139235, 0.102872, 0.055952]) * 544
    slopes = np.round(np.random.default_rng(0).random((5000, 1)), 3)
    straight = np.round(slopes - slopes * cost / cost[-1], 6)
    many = np.tile(cost, (5000, 1))
    for errors, prices in ((error[None], cost[None]), (np.tile(error, (5000, 1)), many), (straight * 64, many)):
        upgrades = rank_upgrades(errors, prices)
        order = np.argsort(upgrades.patch, kind="stable")
        patch, branch = upgrades.patch[order], upgrades.branch[order]
        assert np.all((np.diff(branch) > 0) | (np.diff(patch) > 0))
        best = solve(upgrades, len(errors), each(lambda branches: True))
        assert errors.min(axis=1).sum() == pytest.approx(total(errors, best))


# Costs that add up


@few
@given(problems(), st.floats(0, 1.1))
def test_the_error_is_within_one_upgrade_of_the_lagrangian_bound(problem, share):
    """And the cost is within the limit."""
    error, cost = problem
    limit = share * cost[:, -1].sum()
    chosen = solve(rank_upgrades(error, cost), len(error), within(cost, limit))
    bound, gain = lagrangian_bound(error, cost, limit)
    assert total(cost, chosen) <= limit
    assert total(error, chosen) <= bound + gain + 1e-9
    assert total(error, chosen) >= bound - 1e-9


@few
@given(problems(patches=5, branches=3), st.floats(0, 1.1))
def test_the_error_is_within_one_upgrade_of_the_best_choice(problem, share):
    """All choices of tiny pictures tried."""
    error, cost = problem
    limit = share * cost[:, -1].sum()
    upgrades = rank_upgrades(error, cost)
    chosen = solve(upgrades, len(error), within(cost, limit))
    choices = [np.array(choice) for choice in itertools.product(range(3), repeat=len(error))]
    best = min(total(error, choice) for choice in choices if total(cost, choice) <= limit)
    assert total(cost, chosen) <= limit
    assert best <= total(error, chosen) <= best + max(upgrades.gain, default=0)


@few
@given(problems())
def test_without_a_limit_every_patch_gets_its_least_error(problem):
    """The cheapest branch that reaches it."""
    error, cost = problem
    chosen = solve(rank_upgrades(error, cost), len(error), each(lambda branches: True))
    assert np.argmin(error, axis=1).tolist() == chosen.tolist()


@few
@given(problems())
def test_when_nothing_fits_every_patch_stays_on_branch_0(problem):
    """Branch 0 is taken to fit."""
    error, cost = problem
    chosen = solve(rank_upgrades(error, cost), len(error), each(lambda branches: False))
    assert [0] * len(error) == chosen.tolist()


def test_what_is_left_goes_to_a_cheaper_upgrade():
    """The best upgrade that does not fit does not block the small one after it."""
    error, cost = np.array([[100.0, 0.0], [50.0, 0.0], [3.0, 0.0]]), np.array([[0.0, 10], [0, 8], [0, 2]])
    chosen = solve(rank_upgrades(error, cost), 3, within(cost, 13))
    assert [1, 0, 1] == chosen.tolist()


def test_the_patch_whose_upgrade_does_not_fit_waits():
    """It does not jump over that upgrade, also where merging makes the dearer branch fit: larger limits rest on it."""
    upgrades = rank_upgrades(np.array([[10.0, 5.0, 4.0], [4.0, 1.0, 0.5]]), np.array([[0.0, 1, 2], [0, 1, 2]]))
    fits = each(lambda branches: branches[0] == 0 or branches.tolist() == [2, 0])
    assert [0, 1] == solve(upgrades, 2, fits).tolist()


def test_equal_patches_get_equal_shares():
    """Half the budget upgrades half of the patches."""
    error, cost = np.tile([4.0, 1.0], (10, 1)), np.tile([0.0, 2.0], (10, 1))
    assert 5 == solve(rank_upgrades(error, cost), 10, within(cost, 10)).sum()


@few
@given(problems(), st.floats(0, 1), FEW_AT_ONCE)
def test_fits_is_asked_a_few_times(problem, share, probed):
    """Two searches, however many upgrades there are; no question is empty."""
    error, cost = problem
    limit, calls = share * cost[:, -1].sum(), []

    def fits(choices):
        calls.append(len(choices))
        return within(cost, limit)(choices)

    upgrades = rank_upgrades(error, cost)
    with mock.patch.object(solver, "PROBED", probed):
        solve(upgrades, len(error), fits)
    most = max(PROBES, probed // len(error))
    assert len(calls) <= 2 * math.log(len(upgrades.patch) + 1, most) + 2
    assert all(1 <= count <= most for count in calls)


def test_a_large_picture_asks_a_few_times_too():
    """Ten thousand patches."""
    rng = np.random.default_rng(5)
    error = np.sort(rng.random((10_000, 4)), axis=1)[:, ::-1]
    cost = np.tile([0.0, 1, 3, 9], (10_000, 1))
    calls = []

    def fits(choices):
        calls.append(1)
        return within(cost, 30_000)(choices)

    solve(rank_upgrades(error, cost), 10_000, fits)
    assert len(calls) <= 12


# Costs of tiles with halo, which do not add up


class Picture:
    """A grid with errors and costs, asked as `Upscaler` asks."""

    def __init__(self, grid, halo, error, table):
        self.grid, self.halo, self.error, self.table = grid, halo, error, table
        self.areas = grid.areas.ravel()
        self.upgrades = rank_upgrades(error, np.outer(self.areas, table.per_pixel))

    def spent(self, branches):
        """Cost of the tiles."""
        return merge(branches.reshape(self.grid.shape), self.grid, self.halo, self.table).cost(self.table)

    def cost(self, branches):
        """Cost of the tiles, and of interpolation where there is any."""
        interpolation = self.table.one_pass(0, int(self.areas.sum())) if (branches == 0).any() else 0.0
        return self.spent(branches) + interpolation

    def solve(self, limit):
        """Branches within `limit`."""
        return solve(self.upgrades, len(self.areas), each(lambda branches: self.cost(branches) <= limit))


@st.composite
def pictures(draw):
    """Whole errors for each patch, as from a table of a few bins; they need not fall with the width."""
    grid, table = draw(grids(most=6)), draw(cost_tables())
    row = st.lists(st.integers(0, 300), min_size=4, max_size=4)
    bins = np.array(draw(st.lists(row, min_size=1, max_size=5)), float)
    if draw(st.booleans()):
        bins = np.sort(bins, axis=1)[:, ::-1]
    seed = draw(st.integers(0, 99))
    rows = np.random.default_rng(seed).integers(0, len(bins), grid.areas.size)
    return Picture(grid, draw(st.integers(0, 5)), bins[rows] * grid.areas.reshape(-1, 1), table)


@few
@given(pictures(), st.lists(st.floats(0, 2), min_size=2, max_size=12), FEW_AT_ONCE)
def test_a_larger_limit_never_gives_a_larger_error(picture, shares, probed):
    """Halo and calls included: any two limits, over and under one pass of the largest sub-net."""
    largest = picture.table.one_pass(-1, int(picture.areas.sum()))
    with mock.patch.object(solver, "PROBED", probed):
        errors = [total(picture.error, picture.solve(share * largest)) for share in sorted(shares)]
    assert sorted(errors, reverse=True) == errors


@few
@given(pictures())
def test_limits_beside_every_jump_never_give_a_larger_error(picture):
    """The limits at which a prefix of the list just fits, where a wrong answer would show."""
    branches, costs = np.zeros(len(picture.areas), int), []
    for patch, branch in list(zip(picture.upgrades.patch, picture.upgrades.branch, strict=True))[:12]:
        branches[patch] = branch
        costs.append(picture.cost(branches))
    limits = sorted({cost + beside for cost in costs for beside in (-0.5, 0)})
    errors = [total(picture.error, picture.solve(limit)) for limit in limits]
    assert sorted(errors, reverse=True) == errors


@few
@given(pictures(), st.floats(0, 2))
@example(Picture(Grid(1, 1, 1), 0, np.array([[3.0, 2, 1, 0]]), make_cost([1, 1, 1, 1], [0, 1, 2, 3])), 0.1)
def test_no_choice_is_over_the_limit(picture, share):
    """Except interpolation everywhere, when that alone is too much."""
    limit = share * picture.table.one_pass(-1, int(picture.areas.sum()))
    chosen = picture.solve(limit)
    assert not chosen.any() or picture.cost(chosen) <= limit


@few
@given(pictures(), st.floats(0, 2))
def test_no_choice_is_worse_than_interpolation(picture, share):
    """A table in which a sub-net loses does not make the picture worse."""
    limit = share * picture.table.one_pass(-1, int(picture.areas.sum()))
    assert total(picture.error, picture.solve(limit)) <= picture.error[:, 0].sum()


# Patches that would stand alone


def choice(upgrades, count, patches):
    """Branches after the first `count` upgrades."""
    branches = np.zeros(patches, int)
    for patch, branch in zip(upgrades.patch[:count], upgrades.branch[:count], strict=True):
        branches[patch] = max(branches[patch], branch)
    return branches


def alone(branch_map, where):
    """Levels of the four neighbours of a patch, from the lowest; beyond a border its own."""
    row, col = where
    around = np.pad(branch_map, 1, mode="edge")
    return sorted([around[row, col + 1], around[row + 2, col + 1], around[row + 1, col], around[row + 1, col + 2]])


@st.composite
def maps(draw):
    """Falling whole errors over a grid, their costs, rows and columns of patches."""
    shape = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    seed = draw(st.integers(0, 999))
    error = np.sort(np.random.default_rng(seed).integers(0, 50, (shape[0] * shape[1], 4)), axis=1)[:, ::-1]
    return error.astype(float), np.tile([0.0, 1, 3, 9], (len(error), 1)), shape


KEEP = np.arange(4)
"""Going up is never cheaper."""
UP_FROM = st.sampled_from([KEEP, *map(np.array, ([0, 1, 1, 2], [0, 0, 1, 1], [0, 1, 1, 1], [0, 0, 0, 0]))])


@few
@given(maps(), st.floats(0, 1), UP_FROM)
def test_patches_join_their_neighbours(problem, share, up_from):
    """The same as lowering those above three of their neighbours in the choice that the list makes, wherever it is cut,
    and then raising those below three of them as far as that is cheaper."""
    error, cost, shape = problem
    upgrades = rank_upgrades(error, cost)
    count = int(share * len(upgrades.patch))
    before = choice(upgrades, count, len(error)).reshape(shape)
    lowered, expected = np.zeros(shape, int), []
    for where in np.ndindex(*shape):
        lowered[where] = min(before[where], alone(before, where)[2])
    for where in np.ndindex(*shape):
        own, three = lowered[where], alone(lowered, where)[1]
        expected.append(max(b for b in range(4) if b <= own or (b <= three and up_from[b] <= own)))
    joined = join_isolated(upgrades, error, cost, shape, up_from)
    choices = [choice(joined, taken, len(error)).tolist() for taken in range(len(joined.patch) + 1)]
    gained = [total(error, np.array(branches)) for branches in choices]
    assert total(error, np.array(expected)) in gained
    assert all(np.diff(gained) < 0)


def test_a_hole_goes_up_only_from_the_branch_from_which_that_is_cheaper():
    """Eight patches on branch 2 around one that the table would leave on 1, or on 0."""
    cost, up_from = np.tile([0.0, 1, 2], (9, 1)), np.array([0, 1, 1])
    for middle, waits in (([59.0, 19, 18], False), ([0.3, 0.2, 0.1], True)):
        error = np.tile([90.0, 60, 20], (9, 1))
        error[4] = middle
        upgrades = rank_upgrades(error, cost)
        joined = join_isolated(upgrades, error, cost, (3, 3), up_from)
        assert 4 == upgrades.patch[-1]
        assert waits == (4 == joined.patch[-1])


@few
@given(maps(), UP_FROM)
def test_the_steps_of_joined_patches_follow_each_other(problem, up_from):
    """Each begins where the one before it ended, and gains."""
    error, cost, shape = problem
    joined = join_isolated(rank_upgrades(error, cost), error, cost, shape, up_from)
    assert np.all(joined.gain > 0)
    at = np.zeros(len(error), int)
    for patch, branch, gain in zip(joined.patch, joined.branch, joined.gain, strict=True):
        assert branch > at[patch]
        assert gain == error[patch, at[patch]] - error[patch, branch]
        at[patch] = branch


@few
@given(pictures(), st.lists(st.floats(0, 2), min_size=2, max_size=8), UP_FROM)
def test_joined_patches_keep_to_limits_that_larger_ones_never_lose(picture, shares, up_from):
    """As without joining: within every limit, and never a larger error for a larger one."""
    picture.error = np.minimum.accumulate(picture.error, axis=1)
    cost = np.outer(picture.areas, picture.table.per_pixel)
    upgrades = rank_upgrades(picture.error, cost)
    picture.upgrades = join_isolated(upgrades, picture.error, cost, picture.grid.shape, up_from)
    limits = [share * picture.table.one_pass(-1, int(picture.areas.sum())) for share in sorted(shares)]
    chosen = [picture.solve(limit) for limit in limits]
    errors = [total(picture.error, branches) for branches in chosen]
    assert sorted(errors, reverse=True) == errors
    for branches, limit in zip(chosen, limits, strict=True):
        assert not branches.any() or picture.cost(branches) <= limit


# Error against cost at a fixed rate


@few
@given(problems(), st.integers(1, 60))
def test_a_trade_off_of_costs_that_add_up_is_the_least_of_all_choices(problem, rate):
    """Of patches that cost the same beside each other as alone, each has its own best."""
    error, cost = rate * problem[0], problem[1]
    chosen = trade_off(rank_upgrades(error, cost), error, lambda choices: np.array([total(cost, c) for c in choices]))
    assert (error + cost).min(axis=1).sum() == total(error + cost, chosen)


@few
@given(pictures(), st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=6), UP_FROM)
def test_trade_offs_are_no_worse_than_one_branch_and_rise_with_the_rate(picture, rates, up_from):
    """Whatever tiles cost: a larger rate never costs less and never has a larger error."""
    picture.error = np.minimum.accumulate(picture.error, axis=1)
    table, areas = picture.table, picture.areas
    everywhere = [0.0, *(table.one_pass(branch, int(areas.sum())) for branch in range(1, len(table.per_pixel)))]
    cost = np.outer(areas, [0.0, *table.per_pixel[1:]])
    costs, errors = [], []
    for rate in sorted(rates):
        error = rate * picture.error
        upgrades = join_isolated(rank_upgrades(error, cost), error, cost, picture.grid.shape, up_from)
        chosen = trade_off(upgrades, error, lambda choices: np.array([picture.spent(c) for c in choices]))
        costs.append(picture.spent(chosen))
        errors.append(total(picture.error, chosen))
        assert rate * errors[-1] + costs[-1] <= (error.sum(axis=0) + everywhere).min() * (1 + 1e-12)
    assert np.all(np.diff(errors) <= 1e-9 * np.max(errors))
    assert np.all(np.diff(costs) >= -1e-9 * np.max(costs))
