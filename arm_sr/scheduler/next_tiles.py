"""What to compute next on a picture that is complete already, when time may run out after any tile."""

import numpy as np

from ..cost import CostTable
from ..patches import Grid
from .solver import or_everywhere, rank_upgrades, solve
from .tiles import Box, affordable, area, box_cost, halves, merge, with_halo
from .upgrades import joined_upgrades, pixel_costs


def next_tiles(error: np.ndarray, branch_map: np.ndarray, grid: Grid, halo: int, table: CostTable, left: float,
               longest: float, largest: int) -> list[tuple[int, Box]]:  # fmt: skip
    """The tiles that improve a picture most for `left`, the one with most gain for its cost first.

    Args:
        error: of every patch under every branch, none larger than that of the branch before: (patches, branches).
        branch_map: branch that every patch shows now: (rows, cols).
        grid: the patches.
        halo: LR pixels around a tile.
        table: what a tile costs.
        left: what all tiles together may cost, before long ones are cut.
        longest: what one tile may cost, unless it is a single patch.
        largest: LR pixels that one tile may have with its halo, likewise.

    Returns:
        Branch and box in patches of each.
    """
    shown = branch_map.ravel()
    now = error[np.arange(len(shown)), shown]
    better = np.where(np.arange(error.shape[1]) > shown[:, None], error, now[:, None])
    fits = affordable(grid, halo, table, left)
    useful = np.append(0, 1 + np.flatnonzero((better[:, 1:] < better[:, :-1]).any(axis=0)))  # that gain anywhere
    uniform = np.where(shown < useful[1:, None], useful[1:, None], 0)
    joined = solve(joined_upgrades(better, grid, halo, table), len(shown), fits)
    chosen = or_everywhere(better, joined, uniform[fits(uniform)])
    if not chosen.any():  # what is left are patches that stand alone, or groups that are too dear together
        alone = rank_upgrades(better[:, useful], pixel_costs(grid, table)[:, useful])
        chosen = useful[solve(alone, len(shown), lambda choices: fits(useful[choices]))]
    gain = np.zeros((grid.shape[0] + 1, grid.shape[1] + 1))
    gain[1:, 1:] = (now - better[np.arange(len(shown)), chosen]).reshape(grid.shape).cumsum(axis=0).cumsum(axis=1)

    tiles = merge(chosen.reshape(grid.shape), grid, halo, table)
    ranked = []
    for branch, box in zip(tiles.branch.tolist(), (-(-tiles.box // grid.patch)).tolist(), strict=True):

        def short(part: Box, branch: int = branch) -> bool:
            return area(with_halo(part, grid, halo)) <= largest and box_cost(branch, part, grid, halo, table) <= longest

        for part in halves(tuple(box), short):
            top, left_side, bottom, right = part
            gained = gain[bottom, right] - gain[top, right] - gain[bottom, left_side] + gain[top, left_side]
            cost = box_cost(branch, part, grid, halo, table)
            if gained > 1e-12 * gain[-1, -1]:  # part of one sub-net everywhere may be no better, but for rounding
                ranked.append((gained / max(cost, 1e-12), branch, part))
    ranked.sort(key=lambda tile: -tile[0])
    return [(branch, part) for _, branch, part in ranked]
