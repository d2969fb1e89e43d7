"""Edge scores: how much detail a patch of the LR picture holds."""

from collections.abc import Callable

import cv2
import numpy as np

from .patches import Grid


def edge_map(image: np.ndarray) -> np.ndarray:
    """ARM's absolute Laplacian (Chen et al., ECCV 2022), by [[2, 0, 2], [0, -8, 0], [2, 0, 2]], saturated at 255.

    From an LR picture, uint8 (H, W, 3) RGB or (H, W) grey: uint8 (H, W).
    """
    return _laplacian(image, 3)


def edge_energy(image: np.ndarray) -> np.ndarray:
    """The square of the Laplacian by [[0, 1, 0], [1, -4, 1], [0, 1, 0]], its absolute value saturated at 255.

    From a picture as in `edge_map`: uint16 (H, W).
    """
    edges = _laplacian(image, 1)
    return np.multiply(edges, edges, dtype=np.uint16)


def _laplacian(image: np.ndarray, aperture: int) -> np.ndarray:
    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return cv2.convertScaleAbs(cv2.Laplacian(grey, cv2.CV_16S, ksize=aperture))


SCORES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"laplacian-mean": edge_map, "laplacian4-energy": edge_energy}
"""By name what a score is the mean of over the patch: from an LR picture, uint8 (H, W[, 3]), to values of its pixels,
(H, W). `laplacian-mean` is ARM's; `laplacian4-energy` tells better how much a patch gains (lut/README.md)."""


def window_scores(image: np.ndarray, rows: tuple[np.ndarray, np.ndarray], cols: tuple[np.ndarray, np.ndarray],
                  score: str) -> np.ndarray:  # fmt: skip
    """Score of every window of an LR picture.

    Args:
        image: uint8, (H, W[, 3]).
        rows: first row and end row (exclusive) of each row of windows.
        cols: the same for columns.
        score: one of `SCORES`.

    Returns:
        float64, (len(rows[0]), len(cols[0])).
    """
    total = cv2.integral(SCORES[score](image).astype(np.float64), sdepth=cv2.CV_64F)
    return window_sums(total, rows, cols) / np.outer(rows[1] - rows[0], cols[1] - cols[0])


def window_sums(integral: np.ndarray, rows: tuple[np.ndarray, np.ndarray],
                cols: tuple[np.ndarray, np.ndarray]) -> np.ndarray:  # fmt: skip
    """Sums over windows from an integral image (H + 1, W + 1); windows as in `window_scores`."""
    strips = integral[rows[1]] - integral[rows[0]]
    return strips[:, cols[1]] - strips[:, cols[0]]


def patch_scores(image: np.ndarray, grid: Grid, score: str) -> np.ndarray:
    """Score of every patch of an LR picture (H, W[, 3]), uint8: float64 (rows, cols).

    The same as `window_scores` gives for these windows, without the large arrays of an integral image.
    """
    return grid.means(SCORES[score](image))
