"""From a plan to the picture: interpolation, sub-nets on batches of equal tiles, pasting of the cores."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from .backends import Backend
from .scheduler import Plan

BATCH_PIXELS = 1 << 20
"""LR pixels in one call at most, so that memory does not grow with the number of tiles."""


def interpolate(image: np.ndarray, scale: int) -> np.ndarray:
    """The interpolation branch: OpenCV's cubic, (H, W[, C]) to (scale * H, scale * W[, C]), same dtype."""
    height, width = image.shape[:2]
    return cv2.resize(image, (width * scale, height * scale), interpolation=cv2.INTER_CUBIC)


@dataclass(frozen=True)
class Rendered:
    """What running a plan gave and took."""

    image: np.ndarray
    """uint8 RGB, (scale * H, scale * W, 3)."""
    pixels: np.ndarray
    """LR pixels that went through each branch, halo included: (branches,)."""
    infer_ms: float
    """Time inside the engine."""


def run_plan(
    plan: Plan, image: np.ndarray, backend: Backend, progress: Callable[[int], None] | None = None
) -> Rendered:
    """Compute the picture that `plan` describes.

    Args:
        plan: for a picture of this size.
        image: uint8 RGB, (H, W, 3).
        backend: engine with the plan's model.
        progress: called with the LR pixels of each finished batch.
    """
    scale, tiles = plan.scale, plan.tiles
    pixels = np.zeros(len(plan.branches), dtype=np.int64)
    infer_ms = 0.0
    outer = tiles.outer

    def infer(branch: int, batch: np.ndarray) -> np.ndarray:
        nonlocal infer_ms
        begun = time.perf_counter()
        result = backend.run(plan.branches[branch], batch)
        infer_ms += 1e3 * (time.perf_counter() - begun)
        done = batch.shape[0] * batch.shape[1] * batch.shape[2]
        pixels[branch] += done
        if progress:
            progress(done)
        return result

    if len(tiles.box) == 1 and not plan.uses_bicubic:
        sr = infer(int(tiles.branch[0]), image[None])[0]
        return Rendered(sr, pixels, infer_ms)
    if plan.uses_bicubic:
        sr = interpolate(image, scale)
    else:
        sr = np.empty((image.shape[0] * scale, image.shape[1] * scale, 3), np.uint8)
    alike: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    for index, (branch, (top, left, bottom, right)) in enumerate(zip(tiles.branch, outer, strict=True)):
        alike[int(branch), int(bottom - top), int(right - left)].append(index)
    for (branch, height, width), members in alike.items():
        at_once = max(1, BATCH_PIXELS // (height * width))
        for first in range(0, len(members), at_once):
            chunk = members[first : first + at_once]
            results = infer(branch, np.stack([image[y0:y1, x0:x1] for y0, x0, y1, x1 in outer[chunk]]))
            for result, core, around in zip(results, tiles.box[chunk] * scale, outer[chunk] * scale, strict=True):
                paste(sr, result, core, around)
    soften_seams(sr, plan.seams())
    return Rendered(sr, pixels, infer_ms)


def paste(sr: np.ndarray, result: np.ndarray, core: np.ndarray, around: np.ndarray) -> None:
    """Put the part `core` of a tile that was computed `around` it into the picture; boxes in pixels of `sr`."""
    top, left, bottom, right = core
    inside = result[top - around[0] : bottom - around[0], left - around[1] : right - around[1]]
    sr[top:bottom, left:right] = inside


SEAM_SHARE = 5 / 32
"""How far the pixels on either side of a seam move towards each other, as a share of the step between them."""


def soften_seams(sr: np.ndarray, seams: Iterable[tuple[int, int, np.ndarray]]) -> None:
    """Reduce, in place, the step across the borders between tiles: uint8 RGB, (scale * H, scale * W, 3).

    The tiles on either side were computed by different branches or from different context. PixelShuffle leaves a
    larger step at every border of LR pixels than within them; at a seam the difference between the tiles adds to
    it and would show as a line.
    """
    for axis, after, seam in seams:
        lines = np.moveaxis(sr, axis, 0)
        pair = lines[after - 1 : after + 1, seam].astype(np.int16)
        move = np.rint((pair[1] - pair[0]) * SEAM_SHARE).astype(np.int16)
        lines[after - 1, seam] = pair[0] + move
        lines[after, seam] = pair[1] - move
