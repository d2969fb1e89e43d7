"""The upgrades of a picture's patches: what plans, trade-offs and deadlines choose among."""

import numpy as np

from ..cost import CostTable
from ..patches import Grid
from .solver import Upgrades, join_isolated, rank_upgrades


def apart(grid: Grid, table: CostTable) -> np.ndarray:
    """What the pixels of every patch cost under every branch, halo and calls left out: (patches, branches)."""
    per_pixel = table.per_pixel.copy()
    per_pixel[0] = 0  # the interpolation is there anyway
    return np.outer(grid.areas, per_pixel)


def joined_upgrades(error: np.ndarray, grid: Grid, halo: int, table: CostTable) -> Upgrades:
    """The steps in which patches get dearer branches, hardly one of them alone.

    Args:
        error: of every patch under every branch, none larger than that of the branch before: (patches, branches).
        grid: the patches.
        halo: LR pixels around a tile.
        table: what a tile costs.
    """
    each = apart(grid, table)
    up_from = _up_from(table, grid.patch**2, (grid.patch + 2 * halo) ** 2)
    return join_isolated(rank_upgrades(error, each), error, each, grid.shape, up_from)


def _up_from(table: CostTable, patch: int, tile: int) -> np.ndarray:
    """For every branch the lowest from which a patch in its midst goes up to it for less than a tile of its own costs:
    (branches,). `patch` and `tile` are LR pixels without and with halo."""
    alone, along = table.per_call + table.per_pixel * tile, table.per_pixel * patch
    alone[0] = 0  # the interpolation is there anyway
    lowest = [np.append(alone[:branch] >= price, True).argmax() for branch, price in enumerate(along)]
    return np.maximum.accumulate(lowest)
