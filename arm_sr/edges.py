"""Edge scores: how much detail a patch of the LR picture holds.

From ARM (Chen et al., ECCV 2022): the Laplacian of the grey picture with the 3x3 kernel
[[2, 0, 2], [0, -8, 0], [2, 0, 2]], its absolute value saturated at 255.
"""

import cv2
import numpy as np

from .patches import Grid

SCORES = ("laplacian-mean", "laplacian-energy")
"""`laplacian-mean`: ARM's, the mean over the patch; `laplacian-energy`: the mean square."""

def edge_map(image: np.ndarray) -> np.ndarray:
    """Absolute Laplacian of an LR picture, uint8 (H, W, 3) RGB or (H, W) grey: uint8 (H, W)."""
    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return cv2.convertScaleAbs(cv2.Laplacian(grey, cv2.CV_16S, ksize=3))


def window_scores(edges: np.ndarray, rows: tuple[np.ndarray, np.ndarray], cols: tuple[np.ndarray, np.ndarray],
                  score: str) -> np.ndarray:  # fmt: skip
    """Score of every window of an edge map.

    Args:
        edges: (H, W) from `edge_map`.
        rows: first row and end row (exclusive) of each row of windows.
        cols: the same for columns.
        score: one of `SCORES`.

    Returns:
        float64, (len(rows[0]), len(cols[0])).
    """
    total, squares = cv2.integral2(edges, sdepth=cv2.CV_64F, sqdepth=cv2.CV_64F)
    table = {"laplacian-mean": total, "laplacian-energy": squares}[score]
    areas = np.outer(rows[1] - rows[0], cols[1] - cols[0])
    return window_sums(table, rows, cols) / areas


def window_sums(integral: np.ndarray, rows: tuple[np.ndarray, np.ndarray],
                cols: tuple[np.ndarray, np.ndarray]) -> np.ndarray:  # fmt: skip
    """Sums over windows from an integral image (H + 1, W + 1); windows as in `window_scores`."""
    strips = integral[rows[1]] - integral[rows[0]]
    return strips[:, cols[1]] - strips[:, cols[0]]


def patch_scores(image: np.ndarray, grid: Grid, score: str) -> np.ndarray:
    """Score of every patch of an LR picture (H, W[, 3]), uint8: float64 (rows, cols).

    The same as `window_scores` gives for these windows, without the large arrays of an integral image.
    """
    edges = edge_map(image)
    values = edges if score == "laplacian-mean" else np.multiply(edges, edges, dtype=np.uint16)
    strips = np.add.reduceat(values, grid.col_edges[:-1], axis=1, dtype=np.uint32)  # enough for sides of 66,000
    return np.add.reduceat(strips, grid.row_edges[:-1], axis=0, dtype=np.uint64) / grid.areas
