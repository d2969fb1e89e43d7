"""What to compute next on a picture that is complete already, when time may run out after any tile."""

from collections.abc import Iterator

import numpy as np

from ..cost import CostTable
from ..patches import Grid
from .solver import rank_upgrades, solve
from .tiles import Tiles, merge, merged_cost


def next_tiles(error: np.ndarray, branch_map: np.ndarray, grid: Grid, halo: int, table: CostTable, left: float,
               longest: float) -> Tiles:  # fmt: skip
    """The tiles that improve a picture most for `left`, the one with most gain for its cost first.

    Args:
        error: of every patch under every branch, smaller is better: (patches, branches).
        branch_map: branch that every patch shows now: (rows, cols).
        grid: the patches.
        halo: LR pixels around a tile.
        table: what a tile costs.
        left: what all tiles together may cost, before long ones are cut.
        longest: what one tile may cost, unless it is a single patch.
    """
    shown = branch_map.ravel()
    now = error[np.arange(len(shown)), shown]
    better = np.where(np.arange(error.shape[1]) > shown[:, None], error, now[:, None])
    upgrades = rank_upgrades(better, np.outer(grid.areas, table.per_pixel))

    def fits(choices: np.ndarray) -> np.ndarray:
        return merged_cost(choices.reshape(-1, *grid.shape), grid, halo, table) <= left

    chosen = solve(upgrades, len(shown), fits)
    whole = merge(chosen.reshape(grid.shape), grid, halo, table)
    pieces = [(branch, box) for branch, part in zip(whole.branch, -(-whole.box // grid.patch), strict=True)
              for box in _cut(int(branch), part, grid, halo, table, longest)]  # fmt: skip
    boxes = np.array([box for _, box in pieces], dtype=np.int64).reshape(-1, 4)
    tiles = tiles_of(np.array([branch for branch, _ in pieces], dtype=np.int64), boxes, grid, halo)
    gain = np.zeros((grid.shape[0] + 1, grid.shape[1] + 1))
    gain[1:, 1:] = (now - better[np.arange(len(shown)), chosen]).reshape(grid.shape).cumsum(axis=0).cumsum(axis=1)
    top, left_side, bottom, right = boxes.T
    gained = gain[bottom, right] - gain[top, right] - gain[bottom, left_side] + gain[top, left_side]
    order = np.argsort(-gained / np.maximum(tiles.costs(table), 1e-12), kind="stable")
    return tiles_of(tiles.branch[order], boxes[order], grid, halo)


def tiles_of(branch: np.ndarray, boxes: np.ndarray, grid: Grid, halo: int) -> Tiles:
    """Tiles from boxes in patches."""
    top, left, bottom, right = boxes.T
    rows, cols = grid.row_edges, grid.col_edges
    box = np.stack([rows[top], cols[left], rows[bottom], cols[right]], axis=1)
    return Tiles(branch, box, halo, (grid.height, grid.width))


def _cut(branch: int, box: np.ndarray, grid: Grid, halo: int, table: CostTable, longest: float) -> Iterator[np.ndarray]:
    """A box in patches, halved along its longer side until a part costs at most `longest` or is one patch."""
    top, left, bottom, right = (int(side) for side in box)
    height, width = bottom - top, right - left
    if height * width == 1 or tiles_of(np.array([branch]), box[None], grid, halo).cost(table) <= longest:
        yield box
        return
    middle = (top + bottom) // 2 if height >= width else (left + right) // 2
    parts = (
        ((top, left, middle, right), (middle, left, bottom, right))
        if height >= width
        else ((top, left, bottom, middle), (top, middle, bottom, right))
    )
    for part in parts:
        yield from _cut(branch, np.array(part), grid, halo, table, longest)
