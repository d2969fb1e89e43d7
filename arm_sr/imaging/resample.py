"""Antialiased bicubic interpolation with a = -0.5 and symmetric padding, the convention of the
super-resolution literature (Keys, "Cubic convolution interpolation", 1981, widened by the scale when
shrinking). It is not the interpolation branch, which is OpenCV's cubic.

`lr_bicubic` makes low-resolution pictures for training and evaluation; `resize` gives results the size asked for.
"""

import math
from collections.abc import Iterable, Iterator
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
def _weights(size: int, out: int) -> scipy.sparse.csr_matrix:
    """Matrix (out, size) that resizes one axis; rows sum to one."""
    scale = size / out
    wider = max(scale, 1.0)
    centre = (np.arange(out) + 0.5) * scale - 0.5
    taps = math.ceil(4 * wider) + 2
    index = np.floor(centre - 2 * wider).astype(int)[:, None] + np.arange(taps)
    weight = cubic_kernel((centre[:, None] - index) / wider)
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
    rows = _weights(height, height // scale) @ image.reshape(height, -1).astype(np.float32)
    rows = rows.reshape(height // scale, width, -1).transpose(1, 0, 2)
    both = _weights(width, width // scale) @ np.ascontiguousarray(rows).reshape(width, -1)
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


BAND = 64
"""Rows that are resized at once, so that memory does not grow with the picture."""
INVISIBLE = 1e-3
"""Weight of a colour, in levels of alpha, where nothing is to be seen of it, so that it has one at all."""


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """A picture resized, antialiased where a side gets shorter.

    Args:
        image: uint8 or uint16, (H, W) or (H, W, 1 to 4). The last of 2 or 4 channels is alpha: colours count as much as
            they are seen, so that those of transparent pixels do not bleed.
        height, width: of the result.

    Returns:
        Same dtype and channels.
    """
    return np.concatenate(list(resize_rows([image], image.shape[:2], (height, width))))


def resize_rows(strips: Iterable[np.ndarray], size: tuple[int, int], to: tuple[int, int]) -> Iterator[np.ndarray]:
    """As `resize`, for a picture that comes in strips from top to bottom, and goes in strips.

    Args:
        strips: rows of the picture, as `resize` takes it.
        size: height and width of the whole.
        to: height and width of the result.
    """
    down, across = _weights(size[0], to[0]), _weights(size[1], to[1])
    # First and last row that each row of the result is made of, and all after and before it.
    reach = np.split(down.indices, down.indptr[1:-1])
    first = np.minimum.accumulate([part.min() for part in reach][::-1])[::-1]
    last = np.maximum.accumulate([part.max() for part in reach])
    held, begin, done = [], 0, 0
    for band in (strip[top : top + BAND] for strip in strips for top in range(0, len(strip), BAND)):
        held.append(_resized_across(band, across))
        end = begin + sum(map(len, held))
        ready = int(np.searchsorted(last, end))  # rows of the result that need none further down
        if ready > done:
            rows = np.concatenate(held)
            made = down[done:ready, begin:end] @ rows.reshape(len(rows), -1)
            yield _levels(made.reshape(-1, to[1], rows.shape[2]), band)
            done = ready
            keep = end if done == to[0] else int(first[done])
            held, begin = [rows[keep - begin :]], keep


def _resized_across(band: np.ndarray, across: scipy.sparse.csr_matrix) -> np.ndarray:
    """Rows (n, W[, C]) resized along their width, colours times their weight: float32 (n, width, C)."""
    planes = np.atleast_3d(band).astype(np.float32)
    if planes.shape[2] in (2, 4):
        planes[..., :-1] *= planes[..., -1:] + INVISIBLE
    rows, width, channels = planes.shape
    resized = across @ planes.transpose(1, 0, 2).reshape(width, -1)
    return np.ascontiguousarray(resized.reshape(-1, rows, channels).transpose(1, 0, 2))


def _levels(planes: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Weighted colours (n, W, C) as the colours of a picture, in dtype and dimensions `like` one."""
    if planes.shape[2] in (2, 4):
        planes[..., :-1] /= np.maximum(planes[..., -1:], 0) + INVISIBLE
    levels = np.clip(np.floor(planes + 0.5), 0, np.iinfo(like.dtype).max).astype(like.dtype)
    return levels if like.ndim == 3 else levels[..., 0]
