"""Tiles: neighbouring patches of one branch merged into rectangles, so that halo is paid once."""

from collections.abc import Callable, Iterator
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


def seams(owner: np.ndarray, grid: Grid, scale: int) -> Iterator[tuple[int, int, slice]]:
    """Where pixels of the upscaled picture belong to different tiles than their neighbours.

    `owner` has the number of the tile of every patch: (rows, cols). For every unbroken piece of a seam there is the
    axis that it crosses (0: rows), the first pixel after it along that axis, and from which pixel to which it goes.
    """
    if (owner == owner[0, 0]).all():
        return
    for axis, (across, along) in enumerate(((grid.row_edges, grid.col_edges), (grid.col_edges, grid.row_edges))):
        owners = np.moveaxis(owner, axis, 0)
        changes = np.diff(owners[1:] != owners[:-1], prepend=False, append=False, axis=1)
        line, end = changes.nonzero()
        pieces = zip(scale * across[line[::2] + 1], scale * along[end[::2]], scale * along[end[1::2]], strict=True)
        yield from ((axis, int(after), slice(int(first), int(last))) for after, first, last in pieces)


Box = tuple[int, int, int, int]
"""top, left, bottom, right, end exclusive; in patches or in LR pixels."""


def area(box: Box) -> int:
    """How many patches, or LR pixels, are in a box."""
    top, left, bottom, right = box
    return (bottom - top) * (right - left)


def with_halo(box: Box, grid: Grid, halo: int) -> Box:
    """A box in patches with its halo, as far as the picture goes: a box in LR pixels."""
    top, left, bottom, right = box
    patch = grid.patch
    return (
        max(top * patch - halo, 0),
        max(left * patch - halo, 0),
        min(bottom * patch + halo, grid.height),
        min(right * patch + halo, grid.width),
    )


def box_cost(branch: int, box: Box, grid: Grid, halo: int, table: CostTable) -> float:
    """What a tile of a box in patches costs, halo included."""
    return table.one_pass(branch, area(with_halo(box, grid, halo)))


def halved(box: Box) -> tuple[Box, Box]:
    """The halves of a box of more than one patch or pixel, cut across its longer side."""
    top, left, bottom, right = box
    if bottom - top >= right - left:
        middle = (top + bottom) // 2
        return (top, left, middle, right), (middle, left, bottom, right)
    middle = (left + right) // 2
    return (top, left, bottom, middle), (top, middle, bottom, right)


def halves(box: Box, fits: Callable[[Box], bool]) -> Iterator[Box]:
    """A box halved, and so on, until a part fits or is one patch or pixel."""
    if area(box) == 1 or fits(box):
        yield box
    else:
        for half in halved(box):
            yield from halves(half, fits)


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
    if (everywhere := branch_map[0, 0]) and (branch_map == everywhere).all():
        return Tiles(np.array([everywhere]), np.array([[0, 0, *size]]), halo, size)
    by_rows, (r0, c0, r1, c1) = _rectangles(branch_map)
    by_cols, (left, top, right, bottom) = _rectangles(branch_map.T)
    ways = [
        Tiles(by_rows, np.array([rows[r0], cols[c0], rows[r1], cols[c1]]).T, halo, size),
        Tiles(by_cols, np.array([rows[top], cols[left], rows[bottom], cols[right]]).T, halo, size),
    ]
    return min(ways, key=lambda tiles: tiles.cost(table))


def merged_cost(branch_maps: np.ndarray, grid: Grid, halo: int, table: CostTable) -> np.ndarray:
    """What `merge` of each of several maps costs: (maps, rows, cols) to (maps,)."""
    rows, cols = grid.row_edges, grid.col_edges
    return np.minimum(
        _cost_by_rows(branch_maps, rows, cols, halo, table),
        _cost_by_rows(branch_maps.transpose(0, 2, 1), cols, rows, halo, table),
    )


def affordable(grid: Grid, halo: int, table: CostTable, left: float) -> Callable[[np.ndarray], np.ndarray]:
    """Says of several choices of branches (choices, patches) for which of them all tiles together cost at most `left`:
    (choices,) of bool."""
    areas = grid.areas.ravel()
    # Merging costs at least the patches without halo and at most a tile for each patch; only between the two
    # bounds must it be done to know. The slack keeps rounding from deciding.
    alone = np.outer(np.diff(grid.row_edges) + 2 * halo, np.diff(grid.col_edges) + 2 * halo).ravel()
    per_call, per_pixel = table.added

    def fits(choices: np.ndarray) -> np.ndarray:
        pixel = per_pixel[choices]
        result = per_call[choices].sum(axis=1) + pixel @ alone <= left * (1 - 1e-9)
        unknown = (~result & (pixel @ areas <= left * (1 + 1e-9))).nonzero()[0]
        if len(unknown):
            result[unknown] = merged_cost(choices[unknown].reshape(-1, *grid.shape), grid, halo, table) <= left
        return result

    return fits


def _cost_by_rows(maps: np.ndarray, rows: np.ndarray, cols: np.ndarray, halo: int, table: CostTable) -> np.ndarray:
    """Cost of the rectangles that joining runs along rows downwards makes of each map, without making them.

    A rectangle costs its width times the difference of its last and first row, so its top and bottom runs are
    added up without knowing which belong together.
    """
    labels, first, length = _runs(maps)
    label = labels.ravel()[first]
    code = np.zeros(labels.shape, dtype=np.int64)  # of a run where it begins: equal for runs that can be joined
    code.ravel()[first] = label * (len(cols) + 1) + length
    joined = np.zeros((labels.shape[0], labels.shape[1] + 1, labels.shape[2]), dtype=bool)
    np.equal(code[:, 1:], code[:, :-1], out=joined[:, 1:-1])
    row, col = np.divmod(first, labels.shape[2])
    which, row = np.divmod(row, labels.shape[1])
    width = np.minimum(cols[col + length] + halo, cols[-1]) - np.maximum(cols[col] - halo, 0)
    opens, closes = ~joined[which, row, col], ~joined[which, row + 1, col]
    height = closes * np.minimum(rows[row + 1] + halo, rows[-1]) - opens * np.maximum(rows[row] - halo, 0)
    each = table.per_call[label] * opens + table.per_pixel[label] * (width * height)
    return np.bincount(which, weights=each, minlength=len(maps))


def _runs(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Runs of one label along the last axis; label 0 is left out.

    Returns the labels in one piece of memory, and for every run the flat index of its first label and its length.
    """
    labels = np.ascontiguousarray(labels)
    begins = np.ones(labels.shape, dtype=bool)
    np.not_equal(labels[..., 1:], labels[..., :-1], out=begins[..., 1:])
    first = begins.ravel().nonzero()[0]
    length = np.append(first[1:], labels.size) - first
    keep = labels.ravel()[first] > 0
    return labels, first[keep], length[keep]


def _rectangles(
    branch_map: np.ndarray,
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Runs of one branch along rows, equal runs in consecutive rows joined; branch 0 is left out.

    Returns the branches and (first row, first column, end row, end column) of the rectangles.
    """
    labels, first, length = _runs(branch_map)
    row, start = np.divmod(first, labels.shape[1])
    order = np.argsort(start * len(labels) + row)  # same first column together, from top to bottom
    row, start, end, label = row[order], start[order], (start + length)[order], labels.ravel()[first][order]
    opens = np.ones(len(row), dtype=bool)
    opens[1:] = (
        (start[1:] != start[:-1]) | (end[1:] != end[:-1]) | (label[1:] != label[:-1]) | (row[1:] != row[:-1] + 1)
    )
    top = np.flatnonzero(opens)
    bottom = np.append(top[1:], len(row))[: len(top)] - 1
    return label[top], (row[top], start[top], row[bottom] + 1, end[top])
