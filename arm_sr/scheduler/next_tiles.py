"""What to compute next on a picture that is complete already, when time may run out after any tile."""

import numpy as np

from ..cost import CostTable
from ..patches import Grid
from .solver import or_everywhere, rank_upgrades, solve
from .tiles import Tiles, halves, merge, merged_cost


def next_tiles(error: np.ndarray, branch_map: np.ndarray, grid: Grid, halo: int, table: CostTable, left: float,
               longest: float, largest: int) -> Tiles:  # fmt: skip
    """The tiles that improve a picture most for `left`, the one with most gain for its cost first.

    Args:
        error: of every patch under every branch, smaller is better: (patches, branches).
        branch_map: branch that every patch shows now: (rows, cols).
        grid: the patches.
        halo: LR pixels around a tile.
        table: what a tile costs.
        left: what all tiles together may cost, before long ones are cut.
        longest: what one tile may cost, unless it is a single patch.
        largest: LR pixels that one tile may have with its halo, likewise.
    """
    shown = branch_map.ravel()
    now = error[np.arange(len(shown)), shown]
    better = np.where(np.arange(error.shape[1]) > shown[:, None], error, now[:, None])
    per_pixel = table.per_pixel.copy()
    per_pixel[0] = 0  # the interpolated picture is there
    upgrades = rank_upgrades(better, np.outer(grid.areas, per_pixel))

    def fits(choices: np.ndarray) -> np.ndarray:
        return merged_cost(choices.reshape(-1, *grid.shape), grid, halo, table) <= left

    numbers = np.arange(1, error.shape[1])[:, None]
    uniform = np.where(shown < numbers, numbers, 0)
    chosen = or_everywhere(better, solve(upgrades, len(shown), fits), uniform[fits(uniform)])
    whole = merge(chosen.reshape(grid.shape), grid, halo, table)
    pieces = []
    for branch, part in zip(whole.branch, -(-whole.box // grid.patch), strict=True):

        def short(box: np.ndarray, branch: int = branch) -> bool:
            tile = tiles_of(np.array([branch]), box[None], grid, halo)
            return tile.cost(table) <= longest and tile.computed_pixels[0] <= largest

        pieces += [(branch, box) for box in halves(part, short)]
    boxes = np.array([box for _, box in pieces], dtype=np.int64).reshape(-1, 4)
    tiles = tiles_of(np.array([branch for branch, _ in pieces], dtype=np.int64), boxes, grid, halo)
    gain = np.zeros((grid.shape[0] + 1, grid.shape[1] + 1))
    gain[1:, 1:] = (now - better[np.arange(len(shown)), chosen]).reshape(grid.shape).cumsum(axis=0).cumsum(axis=1)
    top, left_side, bottom, right = boxes.T
    gained = gain[bottom, right] - gain[top, right] - gain[bottom, left_side] + gain[top, left_side]
    order = np.argsort(-gained / np.maximum(tiles.costs(table), 1e-12), kind="stable")
    order = order[gained[order] > 0]  # part of one sub-net everywhere may be no better
    return tiles_of(tiles.branch[order], boxes[order], grid, halo)


def tiles_of(branch: np.ndarray, boxes: np.ndarray, grid: Grid, halo: int) -> Tiles:
    """Tiles from boxes in patches."""
    top, left, bottom, right = boxes.T
    rows, cols = grid.row_edges, grid.col_edges
    box = np.stack([rows[top], cols[left], rows[bottom], cols[right]], axis=1)
    return Tiles(branch, box, halo, (grid.height, grid.width))
