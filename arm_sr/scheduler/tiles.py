"""Tiles: neighbouring patches of one branch merged into rectangles, so that halo is paid once."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..cost import CostTable
from ..patches import Grid


@dataclass(frozen=True)
class Tiles:
    """Rectangles of LR pixels that together cover all patches of the sub-net branches, each pixel once."""

    branch: np.ndarray
    """Branch number of each tile, never 0: (tiles,)."""
    box: np.ndarray
    """top, left, bottom, right of each tile in LR pixels, end exclusive, without halo: (tiles, 4)."""
    halo: int
    """LR pixels around a tile that are computed too, as far as the picture goes."""
    size: tuple[int, int]
    """Height and width of the LR picture."""

    @cached_property
    def outer(self) -> np.ndarray:
        """The boxes with their halo, cut at the borders of the picture: (tiles, 4)."""
        grown = self.box + np.array([-self.halo, -self.halo, self.halo, self.halo])
        return np.minimum(np.maximum(grown, 0), self.size * 2)

    @property
    def computed_pixels(self) -> np.ndarray:
        """LR pixels that go through the sub-net for each tile, halo included: (tiles,)."""
        top, left, bottom, right = self.outer.T
        return (bottom - top) * (right - left)

    def cost(self, table: CostTable) -> float:
        """Sum over the tiles; interpolation is not in it."""
        return float(np.sum(table.per_call[self.branch] + table.per_pixel[self.branch] * self.computed_pixels))


def merge(branch_map: np.ndarray, grid: Grid, halo: int, table: CostTable) -> Tiles:
    """The cheaper of two ways to merge patches by the costs in `table`.

    One joins runs along rows downwards, the other runs along columns sideways.

    Args:
        branch_map: branch number of every patch, 0 is interpolation: (rows, cols).
        grid: the patches.
        halo: LR pixels around a tile.
        table: what a tile costs.
    """
    rows, cols, size = grid.row_edges, grid.col_edges, (grid.height, grid.width)
    ways = [
        Tiles(branch, np.array([rows[r0], cols[c0], rows[r1], cols[c1]]).T, halo, size)
        for _, branch, (r0, c0, r1, c1) in _two_ways(branch_map[None])
    ]
    return min(ways, key=lambda tiles: tiles.cost(table))


def merged_cost(branch_maps: np.ndarray, grid: Grid, halo: int, table: CostTable) -> np.ndarray:
    """What `merge` of each of several maps costs: (maps, rows, cols) to (maps,)."""
    (top, bottom), (left, right) = (
        (np.maximum(edges - halo, 0), np.minimum(edges + halo, edges[-1])) for edges in (grid.row_edges, grid.col_edges)
    )
    costs = []
    for which, branch, (r0, c0, r1, c1) in _two_ways(branch_maps):
        pixels = (bottom[r1] - top[r0]) * (right[c1] - left[c0])
        each = table.per_call[branch] + table.per_pixel[branch] * pixels
        costs.append(np.bincount(which, weights=each, minlength=len(branch_maps)))
    return np.minimum(*costs)


Box = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _two_ways(branch_maps: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, Box]]:
    """The rectangles of each of several maps (maps, rows, cols), once by rows and once by columns.

    Number of the map, branch, and (first row, first column, end row, end column) of every rectangle.
    """
    yield _join_runs(branch_maps)
    which, branch, (c0, r0, c1, r1) = _join_runs(branch_maps.transpose(0, 2, 1))
    yield which, branch, (r0, c0, r1, c1)


def _join_runs(branch_maps: np.ndarray) -> tuple[np.ndarray, np.ndarray, Box]:
    """Runs of one branch along rows, equal runs in consecutive rows joined; branch 0 is left out."""
    maps, rows, cols = branch_maps.shape
    # One tall map, with a row of nothing after each.
    labels = np.zeros((maps, rows + 1, cols), dtype=np.int64)
    labels[:, :rows] = branch_maps
    labels = labels.reshape(-1, cols)
    begins = np.ones(labels.shape, dtype=bool)
    np.not_equal(labels[:, 1:], labels[:, :-1], out=begins[:, 1:])
    first = begins.ravel().nonzero()[0]
    last = np.append(first[1:], labels.size)
    label = labels.ravel()[first]
    keep = label > 0
    first, last, label = first[keep], last[keep], label[keep]
    row, start = np.divmod(first, cols)
    end = start + (last - first)
    order = np.argsort(start * len(labels) + row)  # same first column together, from top to bottom
    row, start, end, label = row[order], start[order], end[order], label[order]
    opens = np.ones(len(row), dtype=bool)
    # Equal keys: the same columns, branch and the row below.
    key = ((row - np.arange(len(row))) * (cols + 1) + start) * (cols + 1) + end
    opens[1:] = (key[1:] != key[:-1]) | (label[1:] != label[:-1])
    top = opens.nonzero()[0]
    bottom = np.append(top[1:], len(row))[: len(top)] - 1
    which, first_row = np.divmod(row[top], rows + 1)
    return which, label[top], (first_row, start[top], first_row + row[bottom] - row[top] + 1, end[top])
