"""The upgrades of a picture's patches: what plans, trade-offs and deadlines choose among."""

import numpy as np

from ..cost import CostTable
from ..patches import Grid
from .solver import Upgrades, join_isolated, rank_upgrades


def pixel_costs(grid: Grid, table: CostTable) -> np.ndarray:
    """What the pixels of every patch cost under every branch, halo and calls left out: (patches, branches)."""
    return np.outer(grid.areas, table.added[1])


def joined_upgrades(error: np.ndarray, grid: Grid, halo: int, table: CostTable) -> Upgrades:
    """The steps in which patches get dearer branches, hardly one of them alone.

    Args:
        error: of every patch under every branch, none larger than that of the branch before: (patches, branches).
        grid: the patches.
        halo: LR pixels around a tile.
        table: what a tile costs.
    """
    cost = pixel_costs(grid, table)
    up_from = _up_from(table, grid.patch**2, (grid.patch + 2 * halo) ** 2)
    return join_isolated(rank_upgrades(error, cost), error, cost, grid.shape, up_from)


def _up_from(table: CostTable, patch: int, tile: int) -> np.ndarray:
    """For every branch the lowest from which a patch in its midst goes up to it for less than a tile of its own costs:
    (branches,). `patch` and `tile` are LR pixels without and with halo."""
    per_call, per_pixel = table.added
    alone, along = per_call + per_pixel * tile, per_pixel * patch
    lowest = [np.append(alone[:branch] >= price, True).argmax() for branch, price in enumerate(along)]
    return np.maximum.accumulate(lowest)
