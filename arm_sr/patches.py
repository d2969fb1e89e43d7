"""The grid of patches: squares of LR pixels that cover every pixel of a picture."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

PATCH = 32
"""Side of a patch in LR pixels where no table is asked."""


@dataclass(frozen=True)
class Grid:
    """Patches of `patch` x `patch` LR pixels; those at the right and bottom hold what is left."""

    height: int
    """LR pixels."""
    width: int
    """LR pixels."""
    patch: int
    """Side of a patch."""

    def __post_init__(self) -> None:
        if min(self.height, self.width, self.patch) < 1:
            raise ValueError(f"a grid needs sides of at least 1: {self}")

    @cached_property
    def row_edges(self) -> np.ndarray:
        """y of the patch borders: (rows + 1,), from 0 to `height`."""
        return np.minimum(np.arange(0, self.height + self.patch, self.patch), self.height)

    @cached_property
    def col_edges(self) -> np.ndarray:
        """x of the patch borders: (cols + 1,), from 0 to `width`."""
        return np.minimum(np.arange(0, self.width + self.patch, self.patch), self.width)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols) of patches."""
        return -(-self.height // self.patch), -(-self.width // self.patch)

    @cached_property
    def areas(self) -> np.ndarray:
        """LR pixels of every patch: (rows, cols)."""
        heights, widths = (edges[1:] - edges[:-1] for edges in (self.row_edges, self.col_edges))
        return heights[:, None] * widths

    def means(self, values: np.ndarray) -> np.ndarray:
        """Means over the patches of the values of LR pixels, (height, width), of at most 16 bits or real: float64
        (rows, cols)."""
        # 32 bits are enough for 16-bit values and sides of 66,000.
        along, across = (np.uint32, np.uint64) if values.dtype.kind == "u" else (np.float64, np.float64)
        strips = np.add.reduceat(values, self.col_edges[:-1], axis=1, dtype=along)
        return np.add.reduceat(strips, self.row_edges[:-1], axis=0, dtype=across) / self.areas
