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
    """The cheaper of the `partitions` by the costs in `table`."""
    return min(partitions(branch_map, grid, halo), key=lambda tiles: tiles.cost(table))


def partitions(branch_map: np.ndarray, grid: Grid, halo: int) -> Iterator[Tiles]:
    """Two ways to merge patches: runs along rows joined downwards, then runs along columns joined sideways.

    Args:
        branch_map: branch number of every patch, 0 is interpolation: (rows, cols).
        grid: the patches.
        halo: LR pixels around a tile.
    """
    size = (grid.height, grid.width)
    rows, cols = grid.row_edges, grid.col_edges
    branch, (r0, c0, r1, c1) = _join_runs(branch_map)
    yield Tiles(branch, np.array([rows[r0], cols[c0], rows[r1], cols[c1]]).T, halo, size)
    branch, (c0, r0, c1, r1) = _join_runs(branch_map.T)
    yield Tiles(branch, np.array([rows[r0], cols[c0], rows[r1], cols[c1]]).T, halo, size)


def _join_runs(labels: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Runs of one label along rows, equal runs in consecutive rows joined; label 0 is left out.

    Returns the labels and (first row, first column, end row, end column) of the rectangles.
    """
    cols = labels.shape[1]
    begins = np.ones(labels.shape, dtype=bool)
    begins[:, 1:] = labels[:, 1:] != labels[:, :-1]
    first = np.flatnonzero(begins)
    last = np.append(first[1:], labels.size)
    label = labels.ravel()[first]
    keep = label > 0
    first, last, label = first[keep], last[keep], label[keep]
    row, start = np.divmod(first, cols)
    end = start + (last - first)
    order = np.argsort(start * labels.shape[0] + row)  # same first column together, from top to bottom
    row, start, end, label = row[order], start[order], end[order], label[order]
    opens = np.ones(len(row), dtype=bool)
    opens[1:] = (
        (start[1:] != start[:-1]) | (end[1:] != end[:-1]) | (label[1:] != label[:-1]) | (row[1:] != row[:-1] + 1)
    )
    top = np.flatnonzero(opens)
    bottom = np.append(top[1:], len(row))[: len(top)] - 1
    return label[top], (row[top], start[top], row[bottom] + 1, end[top])
