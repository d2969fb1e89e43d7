"""`lr_bicubic`: how low-resolution pictures are made for training and evaluation.

Antialiased bicubic interpolation with a = -0.5 and symmetric padding, the convention of the
super-resolution literature (Keys, "Cubic convolution interpolation", 1981, widened by the scale when
shrinking). It is not the interpolation branch, which is OpenCV's cubic.
"""

from functools import lru_cache

import numpy as np
import scipy.sparse


def cubic_kernel(x: np.ndarray, a: float = -0.5) -> np.ndarray:
    """Keys' cubic convolution kernel at distances `x` (any shape)."""
    x = np.abs(x)
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


@lru_cache(maxsize=64)
def _weights(size: int, scale: int) -> scipy.sparse.csr_matrix:
    """Matrix (size // scale, size) that shrinks one axis; rows sum to one."""
    out = size // scale
    centre = (np.arange(out) + 0.5) * scale - 0.5
    taps = 4 * scale + 2
    index = np.floor(centre - 2 * scale).astype(int)[:, None] + np.arange(taps)
    weight = cubic_kernel((centre[:, None] - index) / scale)
    weight /= weight.sum(axis=1, keepdims=True)
    period = np.mod(index, 2 * size)
    mirrored = np.where(period < size, period, 2 * size - 1 - period)
    rows = np.repeat(np.arange(out), taps)
    matrix = scipy.sparse.coo_matrix((weight.ravel(), (rows, mirrored.ravel())), shape=(out, size))
    return matrix.tocsr().astype(np.float32)


def crop_to_multiple(image: np.ndarray, scale: int) -> np.ndarray:
    """The top left part of `image` (H, W[, C]) whose sides are multiples of `scale`."""
    height, width = (side - side % scale for side in image.shape[:2])
    return image[:height, :width]


def shrink(image: np.ndarray, scale: int) -> np.ndarray:
    """A picture of any levels made smaller as `lr_bicubic` does, neither rounded nor clipped: float32.

    Raises ValueError when a side is not a multiple of `scale`.
    """
    height, width = image.shape[:2]
    if height % scale or width % scale or not height or not width:
        raise ValueError(f"lr_bicubic needs sides that are multiples of {scale}, got {width}x{height}")
    rows = _weights(height, scale) @ image.reshape(height, -1).astype(np.float32)
    rows = rows.reshape(height // scale, width, -1).transpose(1, 0, 2)
    both = _weights(width, scale) @ np.ascontiguousarray(rows).reshape(width, -1)
    both = both.reshape(width // scale, height // scale, -1).transpose(1, 0, 2)
    return np.ascontiguousarray(both).reshape(height // scale, width // scale, *image.shape[2:])


def lr_bicubic(hr: np.ndarray, scale: int) -> np.ndarray:
    """Shrink a picture by an integer factor with antialiased bicubic interpolation.

    Args:
        hr: uint8, (H, W) or (H, W, C), both sides multiples of `scale` (see `crop_to_multiple`).
        scale: integer factor, at least 1.

    Returns:
        uint8, (H / scale, W / scale[, C]), rounded once at the end.

    Raises:
        ValueError: a side is not a multiple of `scale`.
    """
    return np.clip(np.floor(shrink(hr, scale) + 0.5), 0, 255).astype(np.uint8)
