"""From a plan to the picture, whole or in strips: interpolation, sub-nets on batches of tiles, pasting."""

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, pairwise

import cv2
import numpy as np

from .backends import Backend
from .scheduler import Plan
from .scheduler.tiles import Box, area, halves

LARGEST = 1 << 20
"""LR pixels in one call at most, context not counted, so that memory does not grow with the picture."""
CONTEXT = 4
"""LR pixels around a part of a picture that its interpolation depends on, and some."""
REACH = 2
"""LR pixels around one that its interpolation depends on."""
OUTSIDE = 8
"""LR pixels from the picture's border up to which it shows that sub-nets take what is outside for black."""


def interpolate(image: np.ndarray, scale: int) -> np.ndarray:
    """The interpolation branch: OpenCV's cubic, (H, W[, C]) to (scale * H, scale * W[, C]), same dtype.

    Raises MemoryError when there is not enough.
    """
    height, width = image.shape[:2]
    try:
        return cv2.resize(image, (width * scale, height * scale), interpolation=cv2.INTER_CUBIC)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError(str(error)) from error
        raise


Part = tuple[int, Box, Box]
"""Branch, box and box with context, in LR pixels, of a tile or what is computed of it at once."""


class Rendering:
    """One picture on its way through a plan, whole or from top to bottom.

    Args:
        plan: for a picture of this size.
        image: uint8 RGB, (H, W, 3).
        backend: engine with the plan's model.
        radius: LR pixels that every part of a tile needs around it to come out as in the whole tile.
        progress: called with the LR pixels of each finished tile, context not counted.
        largest: LR pixels in one call at most, context not counted; larger tiles are computed in parts.
    """

    def __init__(self, plan: Plan, image: np.ndarray, backend: Backend, radius: int,
                 progress: Callable[[int], None] | None = None, largest: int = LARGEST) -> None:  # fmt: skip
        self._plan, self._image, self._backend, self._radius = plan, image, backend, radius
        self._progress, self._largest = progress, largest
        self.pixels = np.zeros(len(plan.branches), dtype=np.int64)
        """LR pixels that went through each branch so far, context included: (branches,)."""
        self.infer_ms = 0.0
        """Time inside the engine so far."""

    def whole(self) -> np.ndarray:
        """The upscaled picture: uint8 RGB, (scale * H, scale * W, 3)."""
        sr = self._rows(0, self._plan.grid.height)
        soften_seams(sr, self._plan.seams())
        return sr

    def strips(self, height: int) -> Iterator[np.ndarray]:
        """The upscaled picture from top to bottom, in strips of about `height` LR rows; they differ from
        `whole` by rounding only, unless the engine cuts tiles itself."""
        plan, scale = self._plan, self._plan.scale
        seams = list(plan.seams())
        lying, upright = ([(after, piece) for axis, after, piece in seams if axis == across] for across in (0, 1))
        edges = plan.grid.row_edges[:: max(1, height // plan.grid.patch)]
        edges = np.unique(np.append(edges, plan.grid.height))
        held = np.zeros((0, plan.grid.width * scale, 3), np.uint8)  # the last row still meets the next strip's first
        for first, end in pairwise(edges.tolist()):
            rows = np.concatenate([held, self._rows(first, end)])
            top = scale * first - len(held)
            inside = range(top + 1, scale * end)
            soften_seams(rows, [(0, after - top, piece) for after, piece in lying if after in inside])
            keep = len(rows) if end == plan.grid.height else len(rows) - 1
            held, rows = rows[keep:].copy(), rows[:keep]
            here = [(after, max(piece.start - top, 0), min(piece.stop - top, keep)) for after, piece in upright]
            soften_seams(rows, [(1, after, slice(start, stop)) for after, start, stop in here if start < stop])
            yield rows

    def _rows(self, first: int, end: int) -> np.ndarray:
        """The LR rows from `first` to `end` upscaled, seams as they are."""
        plan, scale, image = self._plan, self._plan.scale, self._image
        width = plan.grid.width
        parts = self._parts(first, end)
        if len(parts) == 1 and parts[0][1] == (first, 0, end, width):
            [(core, around, sr)] = self._infer(parts)
            sr = sr[scale * (core[0] - around[0]) : scale * (core[2] - around[0])]
            keep_flat_borders(sr, image, scale, first)
            return sr
        if plan.branch_map[first // plan.grid.patch : -(-end // plan.grid.patch)].all():
            sr = np.empty((scale * (end - first), scale * width, 3), np.uint8)
        else:
            above = max(0, first - CONTEXT)
            sr = interpolate(image[above : end + CONTEXT], scale)[scale * (first - above) : scale * (end - above)]
        for core, around, result in self._infer(parts):
            paste(sr, result, core, around, scale, first)
        if parts:
            keep_flat_borders(sr, image, scale, first)
        return sr

    def _parts(self, first: int, end: int) -> list[Part]:
        """What must be computed for the rows from `first` to `end`."""
        tiles = self._plan.tiles
        parts = []
        boxes = zip(tiles.branch.tolist(), tiles.box.tolist(), tiles.outer.tolist(), strict=True)
        for branch, (top, left, bottom, right), outer in boxes:
            if top >= end or bottom <= first:
                continue
            inside = max(top, first), left, min(bottom, end), right
            for core in halves(inside, lambda part: area(part) <= self._largest):
                start = (max(side - self._radius, least) for side, least in zip(core[:2], outer[:2], strict=True))
                stop = (min(side + self._radius, most) for side, most in zip(core[2:], outer[2:], strict=True))
                parts.append((branch, core, (*start, *stop)))
        return parts

    def _infer(self, parts: list[Part]) -> Iterator[tuple[Box, Box, np.ndarray]]:
        """Core, box with context and result of every part, in any order."""
        areas = [area(around) for *_, around in parts]
        before = (np.cumsum(areas) - areas) // self._largest
        for _, members in groupby(zip(before, parts, strict=True), key=lambda member: member[0]):
            chunk = [part for _, part in members]
            begun = time.perf_counter()
            tiles = [(self._plan.branches[branch], self._image[y0:y1, x0:x1]) for branch, _, (y0, x0, y1, x1) in chunk]
            for number, result in self._backend.run_tiles(tiles):
                self.infer_ms += 1e3 * (time.perf_counter() - begun)
                branch, core, around = chunk[number]
                self.pixels[branch] += area(around)
                if self._progress:
                    self._progress(area(core))
                yield core, around, result
                begun = time.perf_counter()


def paste(sr: np.ndarray, result: np.ndarray, core: Box, around: Box, scale: int, first: int = 0) -> None:
    """Put the part `core` of a tile that was computed `around` it into the picture.

    Args:
        sr: rows of the upscaled picture from the LR row `first` on, uint8 RGB (scale * rows, scale * W, 3).
        result: the upscaled box `around`, uint8 RGB.
        core, around: boxes in LR pixels.
        scale: upscaling factor.
        first: LR row that `sr` begins with.
    """
    top, left, bottom, right = (scale * side for side in core)
    above, before = scale * around[0], scale * around[1]
    inside = result[top - above : bottom - above, left - before : right - before]
    sr[top - scale * first : bottom - scale * first, left:right] = inside


def keep_flat_borders(sr: np.ndarray, image: np.ndarray, scale: int, first: int = 0) -> None:
    """Give flat colours back, in place, where the picture ends.

    Sub-nets are trained with black around pictures, which shows up to `OUTSIDE` pixels from the border: a flat colour
    is off by as much as 13 levels with plain-x4, 123 with fsrcnn-x4. Where all that interpolation looks at is one
    colour, `sr` gets it.

    Args:
        sr: rows of the upscaled picture, uint8 RGB (scale * rows, scale * W, 3).
        image: the whole LR picture, uint8 RGB (H, W, 3).
        scale: upscaling factor.
        first: LR row that `sr` begins with.
    """
    (height, width), end = image.shape[:2], first + len(sr) // scale
    kernel, zero = np.ones((2 * REACH + 1, 2 * REACH + 1), np.uint8), (0, 0, 0)
    for rows, columns in (
        (slice(0, OUTSIDE), slice(0, width)),
        (slice(max(0, height - OUTSIDE), height), slice(0, width)),
        (slice(0, height), slice(0, OUTSIDE)),
        (slice(0, height), slice(max(0, width - OUTSIDE), width)),
    ):
        top, bottom = max(rows.start, first), min(rows.stop, end, height)
        if top >= bottom:
            continue
        above, left = max(0, top - REACH), max(0, columns.start - REACH)
        around = image[above : bottom + REACH, left : columns.stop + REACH]
        upright = around.shape[0] > around.shape[1]  # long rows are filtered faster
        steps = cv2.morphologyEx(cv2.transpose(around) if upright else around, cv2.MORPH_GRADIENT, kernel)
        flat = cv2.inRange(steps, zero, zero)
        flat = (cv2.transpose(flat) if upright else flat)[top - above :, columns.start - left :]
        flat = flat[: bottom - top, : columns.stop - columns.start]
        x, y, wide, tall = cv2.boundingRect(flat)
        if wide:
            size = (scale * wide, scale * tall)
            where, colours = (
                cv2.resize(part[y : y + tall, x : x + wide], size, interpolation=cv2.INTER_NEAREST)
                for part in (flat, image[top:, columns])
            )
            target = sr[scale * (top - first + y) :, scale * (columns.start + x) :][: size[1], : size[0]]
            cv2.copyTo(colours, where, target)


SEAM_SHARE = 5 / 32
"""How far the pixels on either side of a seam move towards each other, as a share of the step between them."""


def soften_seams(sr: np.ndarray, seams: Iterable[tuple[int, int, slice]]) -> None:
    """Reduce, in place, the step across the borders between tiles: uint8 RGB, (scale * H, scale * W, 3), in C order.

    The tiles on either side were computed by different branches or from different context. PixelShuffle leaves a
    larger step at every border of LR pixels than within them; at a seam the difference between the tiles adds to
    it and would show as a line.
    """
    for axis, after, piece in seams:
        beside = slice(after - 1, after + 1)
        pair = sr[beside, piece] if axis == 0 else sr[piece, beside]
        cv2.addWeighted(pair, 1 - SEAM_SHARE, cv2.flip(pair, axis), SEAM_SHARE, 0, dst=pair)
