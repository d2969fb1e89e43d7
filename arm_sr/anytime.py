"""Against the clock: a picture that is complete from the start and gets better until time is up.

After interpolation the upgrades that the remaining time pays for are planned as for a budget in milliseconds, cut
into tiles short enough to stop between them, and run by predicted gain for cost. Every tile is held against the
clock: on a machine that is slower than its costs say, or whose costs were never measured, the rest is planned anew.
"""

import math
import time
from collections.abc import Callable, Iterator

import numpy as np

from .backends import Backend
from .cost import CostTable
from .patches import Grid
from .scheduler.next_tiles import next_tiles, tiles_of
from .scheduler.tiles import Tiles, halves, seams
from .stitch import LARGEST, keep_flat_borders, paste, soften_seams

SHARE = 1 / 2
"""A tile takes at most this share of the time that remained when it was planned,"""
STEP_MS = 50.0
"""and where the picture is shown on the way at most this long, so that it is seen to improve."""
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
        error: predicted error of every patch under every branch, smaller is better; a branch that may not run has that
            of interpolation: (patches, branches).
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
        infinity); yields after each."""
        while True:
            planned, begun = self.pace, False
            started = time.perf_counter()
            if started + 2 * self._planning >= until:
                return
            tiles = self._next(until)
            self._planning = time.perf_counter() - started
            for branch, box in zip(tiles.branch.tolist(), -(-tiles.box // self.grid.patch), strict=True):
                left = 1e3 * (until - time.perf_counter())
                tile = self._what_fits(branch, box, left)
                if tile is None:
                    continue  # a later one may be shorter
                self._run(tile)
                begun = True
                yield
                if planned is None or self.pace is None or self.pace > SLOWER * planned:
                    break
            if not begun:
                return

    def _next(self, until: float) -> Tiles:
        """What to run in the time that remains, the most worthwhile tile first."""
        if self.pace is None:  # the cheapest sub-net on the patch that gains most from it
            gain = self._error[:, :1] - self._error
            branch = int((gain > 0).any(axis=0).argmax())
            row, col = divmod(int(gain[:, branch].argmax()), self.grid.shape[1])
            box = np.array([[row, col, row + 1, col + 1]])[: 1 if branch else 0]
            return tiles_of(np.full(len(box), branch), box, self.grid, self._halo)
        left = max(0.0, 1e3 * (until - time.perf_counter()))
        longest = min(SHARE * left, self._step_ms)
        limits = (left / SAFETY / self.pace, longest / self.pace)  # what is planned can also be begun
        return next_tiles(self._error, self.branch_map, self.grid, self._halo, self._table, *limits, LARGEST)

    def _what_fits(self, branch: int, box: np.ndarray, left: float) -> Tiles | None:
        """The tile `box`, in patches, or the part of it that ends within `left` milliseconds, or None."""

        def tile(part: np.ndarray) -> Tiles:
            return tiles_of(np.array([branch]), part[None], self.grid, self._halo)

        def fits(part: np.ndarray) -> bool:
            if self.pace is None:
                return left >= FIRST_MS
            return SAFETY * self.pace * tile(part).cost(self._table) <= left

        part = next(halves(box, fits))
        return tile(part) if fits(part) else None

    def _run(self, tile: Tiles) -> None:
        branch, box, around = int(tile.branch[0]), tile.box[0], tile.outer[0]
        cost = tile.cost(self._table)
        begun = time.perf_counter()
        batch = np.ascontiguousarray(self._rgb[None, around[0] : around[2], around[1] : around[3]])
        result = self._backend.run(self._branches[branch], batch)[0]
        took = 1e3 * (time.perf_counter() - begun)
        paste(self._sr, result, box * self._scale, around * self._scale)
        pace = took / cost if cost else self.pace or 0.0
        if self.pace is None:
            self.pace = pace or None
        else:  # a long tile that was slower is believed at once, but one hiccup does not stop the rest
            trust = took / (took + SHORT_MS)
            self.pace += (trust if pace > self.pace else min(trust, FASTER)) * (min(pace, 2 * self.pace) - self.pace)
        self.infer_ms += took
        self.pixels[branch] += batch.shape[1] * batch.shape[2]
        if self._progress:
            self._progress(int(np.prod(box[2:] - box[:2])))
        top, left, bottom, right = -(-box // self.grid.patch)
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


def next_pace(before: float | None, after: float | None, unit: str, ran: bool) -> float | None:
    """The pace to begin another picture with, from that before and after a picture.

    Where nothing `ran`, nothing was learned: then a pace of costs in milliseconds goes back towards 1, so that more is
    ventured by and by, and others are forgotten.
    """
    if ran:
        return after
    return math.sqrt(before) if unit == "ms" and before is not None else None
