"""Which tiles come next: their order, their size and what they may cost."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import cost_tables, few, make_cost, routed_grids

from arm_sr.patches import Grid
from arm_sr.scheduler.next_tiles import next_tiles
from arm_sr.scheduler.tiles import Box, area, with_halo


def gain(branch: int, box: Box, error: np.ndarray, shown: np.ndarray, grid: Grid) -> float:
    """By how much the error falls with a tile, patch by patch."""
    patches = itertools.product(range(box[0], box[2]), range(box[1], box[3]))
    numbers = [(row * grid.shape[1] + col, shown[row, col]) for row, col in patches]
    return float(sum(error[patch, before] - error[patch, branch] for patch, before in numbers))


PIECES = st.sampled_from([0.0, 0.1, 0.5, np.inf])


@given(routed_grids(), cost_tables(), st.integers(0, 3), st.floats(0, 1), PIECES, st.integers(0, 2**32))
@few
def test_tiles_are_worth_it_and_affordable(routed, table, halo, share, piece, seed):
    """Each improves its patches and no patch is in two; uncut they cost no more than there is together, cut none costs
    more than a piece unless it is one patch; the one with most gain for its cost is first."""
    grid, shown = routed
    error = np.minimum.accumulate(np.random.default_rng(seed).random((grid.areas.size, 4)), axis=1)
    left = share * table.one_pass(3, int(grid.areas.sum()))
    piece *= left if left else 1.0

    tiles = next_tiles(error, shown, grid, halo, table, left, piece, 1 << 20)

    costs = np.array([table.one_pass(branch, area(with_halo(box, grid, halo))) for branch, box in tiles])
    gained = np.array([gain(branch, box, error, shown, grid) for branch, box in tiles])
    assert np.isfinite(piece) or costs.sum() <= left
    assert (gained > 0).all()
    ratios = gained / np.maximum(costs, 1e-12)
    assert (np.diff(ratios) <= 1e-9 * ratios[:-1]).all()
    count = np.zeros(grid.shape)
    for cost, (_, box) in zip(costs, tiles, strict=True):
        count[box[0] : box[2], box[1] : box[3]] += 1
        assert cost <= piece or area(box) == 1
    assert count.max() <= 1


def test_a_patch_that_is_good_already_is_left_alone():
    """It shows the branch with the least error; its neighbour does not."""
    error = np.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    table = make_cost([0, 0, 0], [0, 1, 2])
    tiles = next_tiles(error, np.array([[2, 1]]), Grid(4, 8, 4), 0, table, np.inf, np.inf, 1 << 20)
    assert [(2, (0, 1, 1, 2))] == tiles


def test_an_upgrade_pays_for_the_whole_patch():
    """What a cheaper sub-net has cost does not come back."""
    error = np.array([[3.0, 2.0, 1.0]])
    table = make_cost([0, 0, 0], [0, 1, 2])
    for left, branches in ((31.0, []), (32.0, [2])):
        tiles = next_tiles(error, np.array([[1]]), Grid(4, 4, 4), 0, table, left, np.inf, 1 << 20)
        assert branches == [branch for branch, _ in tiles]


@pytest.mark.parametrize("per_pixel", [[0, 2, 3], [0, 2, 2], [0, 2, 1]])
@pytest.mark.parametrize("left", [20.0, 32.0, 64.0, np.inf])
def test_a_branch_that_gains_nothing_is_not_run(per_pixel, left):
    """Such as one that is not ready, which is given the error of the one before, even where it costs less."""
    error = np.array([[3.0, 2.0, 2.0], [3.0, 2.0, 2.0]])
    tiles = next_tiles(error, np.array([[0, 0]]), Grid(4, 8, 4), 0, make_cost([0, 0, 0], per_pixel), left, np.inf, 99)
    assert {20.0: [], 32.0: [(1, (0, 0, 1, 1))]}.get(left, [(1, (0, 0, 1, 2))]) == tiles


def test_a_patch_that_stands_alone_is_run_when_there_is_nothing_else():
    """Beside others it would wait until its neighbours are worth it too."""
    error = np.full((9, 2), 2.0)
    error[4, 1] = 1.0
    for shown, expected in ((np.zeros((3, 3), int), [(1, (1, 1, 2, 2))]), (np.eye(3, dtype=int), [])):
        tiles = next_tiles(error, shown, Grid(12, 12, 4), 2, make_cost([0, 1], [0, 1]), 70, np.inf, 99)
        assert expected == tiles
