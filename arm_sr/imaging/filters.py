"""Sharpening of finished pictures: one convolution each, on every colour alike.

- `edge-enhance`: the 3x3 kernel of Pillow's `ImageFilter.EDGE_ENHANCE`, 10 in the centre and -1 around it, over 2.
  Pillow leaves the outermost pixels as they are; here they are filtered too.
- `unsharp`: a light unsharp mask, `picture + 0.5 * (picture - blurred)`, blurred by a Gaussian of sigma 1 (7x7): a
  radius of 1 pixel, 50 percent and a threshold of 0 in the words of Pillow's `ImageFilter.UnsharpMask`.
"""

import cv2
import numpy as np


def _unsharp(sigma: float, amount: float, side: int) -> np.ndarray:
    line = cv2.getGaussianKernel(side, sigma)
    kernel = -amount * line @ line.T
    kernel[side // 2, side // 2] += 1 + amount
    return kernel


KERNELS = {
    "edge-enhance": np.array([[-1, -1, -1], [-1, 10, -1], [-1, -1, -1]]) / 2,
    "unsharp": _unsharp(sigma=1, amount=0.5, side=7),
}
"""By name; each sums to 1, so that flat parts keep their level."""


def sharpen(image: np.ndarray, name: str) -> np.ndarray:
    """A sharper copy of a picture.

    Args:
        image: uint8 or uint16, grey (H, W), grey and alpha (H, W, 2), RGB (H, W, 3) or RGBA (H, W, 4). Alpha stays as
            it is; beyond the border the last pixel is repeated; the result is rounded and clipped.
        name: one of `KERNELS`.
    """
    sharp = np.empty_like(image, order="C")
    cv2.filter2D(np.ascontiguousarray(image), -1, KERNELS[name], dst=sharp, borderType=cv2.BORDER_REPLICATE)
    if image.ndim == 3 and image.shape[2] in (2, 4):
        sharp[..., -1] = image[..., -1]
    return sharp


class StripSharpener:
    """`sharpen` for a picture that comes from top to bottom: the same pixels, some rows later.

    Args:
        name: one of `KERNELS`.
    """

    def __init__(self, name: str) -> None:
        self._name, self._reach = name, len(KERNELS[name]) // 2
        self._rows: np.ndarray | None = None
        self._above = 0  # of these rows are finished, and there for those below

    def add(self, rows: np.ndarray, last: bool = False) -> np.ndarray:
        """The rows that are finished with the next ones, of the whole picture with the `last` ones; maybe none."""
        known = rows if self._rows is None else np.concatenate([self._rows, rows])
        above, end = self._above, len(known) if last else max(self._above, len(known) - self._reach)
        from_here = max(0, end - self._reach)
        self._rows, self._above = known[from_here:].copy(), end - from_here
        return sharpen(known, self._name)[above:end]
