"""ARM's own run-time procedure, to be compared with: overlapping patches, one call each, stitched by averaging.

As in the published code of ARM (Chen et al., ECCV 2022), which takes it from ClassSR: patches of 32 LR pixels at a
step of 28, routed by the mean Laplacian, the table of 30 equal-width bins and eta; batches of one.
"""

import time

import numpy as np

from ..api import Upscaler
from ..scheduler.policy import eta_rule
from ..stitch import interpolate

STEP = 28 / 32
"""From one patch to the next, as a share of its side."""


def starts(size: int, patch: int) -> list[int]:
    """Where patches begin along a side of `size` LR pixels; the last ends at the border."""
    return sorted({*range(0, max(size - patch, 0), max(1, int(patch * STEP))), max(size - patch, 0)})


def upscale_like_arm(upscaler: Upscaler, lr: np.ndarray, eta: float) -> tuple[np.ndarray, float]:
    """Upscale as ARM's published code does.

    Args:
        upscaler: with ARM's own table.
        lr: uint8 RGB (H, W, 3).
        eta: trade-off, in units of the cost of the largest sub-net.

    Returns:
        The picture, uint8 RGB, and the milliseconds that were spent in the engine and in interpolation.
    """
    scale, size = upscaler.scale, upscaler.planner.table.patch
    sums = np.zeros((lr.shape[0] * scale, lr.shape[1] * scale, 3), np.float32)
    counts = np.zeros((*sums.shape[:2], 1), np.float32)
    macs = upscaler.planner.macs.per_pixel
    busy = 0.0
    for top in starts(lr.shape[0], size):
        for left in starts(lr.shape[1], size):
            patch = np.ascontiguousarray(lr[top : top + size, left : left + size])
            _, psnr, _ = upscaler.planner.predict(patch)
            branch = upscaler.branches[int(eta_rule(psnr, macs / macs[-1], eta)[0])]
            begun = time.perf_counter()
            if branch == upscaler.branches[0]:
                sr = interpolate(patch, scale)
            else:
                sr = upscaler.backend.run(branch, patch[None])[0]
            busy += 1e3 * (time.perf_counter() - begun)
            place = (slice(scale * top, scale * (top + size)), slice(scale * left, scale * (left + size)))
            sums[place] += sr
            counts[place] += 1
    return np.rint(sums / counts).astype(np.uint8), busy
