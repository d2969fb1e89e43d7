"""Against the clock: a picture that is complete from the start and gets better until time is up.

After interpolation the upgrades that the remaining time pays for are planned as for a budget in milliseconds, cut
into tiles short enough to stop between them, and run by predicted gain for cost. Every tile is held against the
clock: on a machine that is slower than its costs say, or whose costs were never measured, the rest is planned anew.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np

from .backends import Backend
from .cost import CostTable
from .patches import Grid
from .scheduler.next_tiles import next_tiles
from .scheduler.tiles import Box, area, box_cost, halved, seams, with_halo
from .stitch import LARGEST, keep_flat_borders, paste, soften_seams

SHARE = 1 / 2
"""A tile takes at most this share of the time that remains,"""
ALWAYS_MS = 20.0
"""or so long: of so little much would be lost by cutting it. Where the machine has become much slower since the last
call, the first tile of a short deadline is late by about as much;"""
STEP_MS = 50.0
"""and where the picture is shown on the way at most this long, so that it is seen to improve. A patch is never cut."""
SAFETY = 1.15
"""A tile is begun when the time that remains is this many times what it should take."""
FIRST_MS = 5.0
"""Without measured costs the first tile, a single patch in the cheapest sub-net, is begun when so much time remains."""
SHORT_MS = 10.0
"""A tile of this length moves the pace half of the way to its own, shorter ones less: they are mostly noise;"""
FASTER = 0.3
"""but where it was faster it moves the pace no more than so far."""
SLOWER = 1.25
"""Plan anew when tiles take this many times what they took when the plan was made."""


class Anytime:
    """One picture on its way from interpolation to the best that its table predicts.

    Args:
        rgb: uint8 LR picture, (H, W, 3).
        sr: the interpolated picture, uint8 (scale * H, scale * W, 3); improved in place.
        grid: its patches.
        error: predicted error of every patch under every branch, smaller is better and none larger than that of the
            branch before; a branch that may not run has that: (patches, branches).
        table: cost of every branch, in milliseconds or, when those were never measured, in MACs.
        backend: engine with the sub-nets.
        branches: their names, interpolation first.
        halo: LR pixels around a tile.
        pace: milliseconds that the machine took of late for a unit of cost; None where that is not known.
        step_ms: what a tile may take at most, unless it is a single patch.
        progress: called with the LR pixels of each finished tile, context not counted.
    """

    def __init__(self, rgb: np.ndarray, sr: np.ndarray, grid: Grid, error: np.ndarray, table: CostTable,
                 backend: Backend, branches: tuple[str, ...], halo: int, pace: float | None,
                 step_ms: float = math.inf, progress: Callable[[int], None] | None = None) -> None:  # fmt: skip
        self._progress = progress
        self._rgb, self._sr, self._error, self._table, self._halo = rgb, sr, error, table, halo
        self._backend, self._branches, self._scale = backend, branches, sr.shape[0] // rgb.shape[0]
        self.pace = pace
        """Milliseconds for each unit of cost, None as long as they are not known."""
        self._step_ms = step_ms
        self._planning = 0.0  # seconds that the last plan took to make
        self._owner = np.zeros(grid.shape, dtype=np.int64)  # number of the tile that a patch shows
        self.grid = grid
        """The patches."""
        self.branch_map = np.zeros(grid.shape, dtype=np.int64)
        """Branch that every patch shows: (rows, cols)."""
        self.pixels = np.zeros(len(branches), dtype=np.int64)
        """LR pixels that went through each branch, halo included: (branches,)."""
        self.infer_ms = 0.0
        """Time inside the engine."""

    def run(self, until: float) -> Iterator[None]:
        """Improve the picture tile by tile, as long as another ends before `until` (seconds of `perf_counter`, or
        infinity); yields after each. Tiles that have become too long for the time that remains are cut."""
        while True:
            planned, begun = self.pace, False
            started = time.perf_counter()
            if started + 2 * self._planning >= until:
                return
            tiles = deque(self._next(until))
            self._planning = time.perf_counter() - started
            while tiles:
                branch, box = tiles.popleft()
                left = 1e3 * (until - time.perf_counter())
                if not self._may_begin(branch, box, left):
                    patch = (*box[:2], box[0] + 1, box[1] + 1)
                    if area(box) > 1 and self._may_begin(branch, patch, left):
                        tiles.extendleft((branch, half) for half in reversed(halved(box)))
                    continue  # with a part of it, or with a later one that may be shorter
                self._run(branch, box)
                begun = True
                yield
                if planned is None or self.pace is None or self.pace > SLOWER * planned:
                    break
            if not begun:
                return

    def _next(self, until: float) -> list[tuple[int, Box]]:
        """What to run in the time that remains, the most worthwhile tile first: branches and boxes in patches."""
        if self.pace is None:  # the cheapest sub-net on the patch that gains most from it
            gain = self._error[:, :1] - self._error
            branch = int((gain > 0).any(axis=0).argmax())
            row, col = divmod(int(gain[:, branch].argmax()), self.grid.shape[1])
            return [(branch, (row, col, row + 1, col + 1))] if branch else []
        left = max(0.0, 1e3 * (until - time.perf_counter()))
        longest = min(_longest(left) / SAFETY, self._step_ms)
        limits = (left / SAFETY / self.pace, longest / self.pace)  # what is planned can also be begun
        return next_tiles(self._error, self.branch_map, self.grid, self._halo, self._table, *limits, LARGEST)

    def _may_begin(self, branch: int, box: Box, left: float) -> bool:
        """Whether a tile, a box in patches, may be begun when `left` milliseconds remain."""
        if self.pace is None:
            return left >= FIRST_MS
        ms = self.pace * box_cost(branch, box, self.grid, self._halo, self._table)
        return SAFETY * ms <= left and (area(box) == 1 or ms <= _longest(left))

    def _run(self, branch: int, box: Box) -> None:
        core, outer = with_halo(box, self.grid, 0), with_halo(box, self.grid, self._halo)
        cost = self._table.one_pass(branch, area(outer))
        begun = time.perf_counter()
        batch = np.ascontiguousarray(self._rgb[None, outer[0] : outer[2], outer[1] : outer[3]])
        result = self._backend.run(self._branches[branch], batch)[0]
        took = 1e3 * (time.perf_counter() - begun)
        paste(self._sr, result, core, outer, self._scale)
        pace = took / cost if cost else self.pace or 0.0
        if self.pace is None:
            self.pace = pace or None
        else:  # a long tile that was slower is believed at once, but one hiccup does not stop the rest
            trust = took / (took + SHORT_MS)
            self.pace += (trust if pace > self.pace else min(trust, FASTER)) * (min(pace, 2 * self.pace) - self.pace)
        self.infer_ms += took
        self.pixels[branch] += area(outer)
        if self._progress:
            self._progress(area(core))
        top, left, bottom, right = box
        self.branch_map[top:bottom, left:right] = branch
        self._owner[top:bottom, left:right] = self._owner.max() + 1

    def picture(self, copy: bool = True) -> np.ndarray:
        """The picture so far with flat borders and softened seams, uint8 (scale * H, scale * W, 3).

        Without `copy` they are softened in the picture itself, which no further tile may change then.
        """
        sr = self._sr.copy() if copy else self._sr
        keep_flat_borders(sr, self._rgb, self._scale)
        soften_seams(sr, seams(self._owner, self.grid, self._scale))
        return sr


def _longest(left: float) -> float:
    """Milliseconds that a tile may take, unless it is a single patch, when `left` remain."""
    return max(ALWAYS_MS, SHARE * left)


def next_pace(before: float | None, after: float | None, unit: str, ran: bool) -> float | None:
    """The pace to begin another picture with, from that before and after a picture.

    Where nothing `ran`, nothing was learned: then a pace of costs in milliseconds goes back towards 1, so that more is
    ventured by and by, and others are forgotten.
    """
    if ran:
        return after
    return math.sqrt(before) if unit == "ms" and before is not None else None
