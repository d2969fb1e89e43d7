"""The shape of tile for a device that takes only one: by wasted area, or by the cost measured on the device.

Both searches run over the same pictures and tiles. The wasted area is the measure of the deployments of ESPCN on such
devices, minimised there with SciPy; the cost counts what a device really charges, a fixed part for each call included.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import optimize

from .errors import UsageError
from .fixed_tiles import tiles_along

Sides = np.ndarray | int
"""LR pixels."""
Objective = Callable[[Sides, Sides], np.ndarray]
"""What tiles are judged by, less is better: their heights and widths, broadcast together, to as many values."""
SOLVERS = ("brute force", "differential evolution", "dual annealing")


@dataclass(frozen=True)
class Found:
    """What a search ended with; a tile is its height and width in LR pixels."""

    solver: str
    tile: tuple[int, int]
    value: float
    """Of the objective."""
    evaluations: int
    """Different tiles that were judged."""
    seconds: float


@dataclass(frozen=True)
class Disagreement:
    """A size of picture whose tile of least wasted area costs more than it has to; heights and widths in LR pixels."""

    size: tuple[int, int]
    by_area: tuple[int, int]
    area_cost: float
    """What the tile `by_area` costs."""
    by_cost: tuple[int, int]
    least_cost: float
    """What the tile `by_cost` costs."""


def wasted_area(sizes: np.ndarray, overlap: int = 0) -> Objective:
    """Sum over the pictures of blank_ratio * (tiles + 1), blank_ratio = 1 - h * w / (tiles * height * width).

    Args:
        sizes: h and w of every picture in LR pixels: (pictures, 2).
        overlap: LR pixels that neighbours share at least.
    """

    def objective(heights: Sides, widths: Sides) -> np.ndarray:
        tiles = _tiles(heights, widths, sizes, overlap)
        blank = 1 - sizes.prod(axis=1) / (tiles * np.asarray(heights * widths)[..., None])
        return (blank * (tiles + 1)).sum(axis=-1)

    return objective


def inference_cost(sizes: np.ndarray, per_call: float, per_pixel: float, overlap: int = 0) -> Objective:
    """Sum over the pictures of tiles * (per_call + per_pixel * height * width): every tile is a call.

    `sizes` and `overlap` as in `wasted_area`, `per_call` and `per_pixel` as in `CostTable`.
    """
    return lambda heights, widths: (
        _tiles(heights, widths, sizes, overlap).sum(axis=-1) * (per_call + per_pixel * heights * widths)
    )


def _tiles(heights: Sides, widths: Sides, sizes: np.ndarray, overlap: int) -> np.ndarray:
    """How many tiles every picture needs: (..., pictures)."""
    down, across = (np.asarray(sides)[..., None] for sides in (heights, widths))
    return tiles_along(sizes[:, 0], down, overlap) * tiles_along(sizes[:, 1], across, overlap)


def allowed_sides(least: int, most: int, multiple: int = 1, overlap: int = 0) -> np.ndarray:
    """The multiples from `least` to `most` longer than the overlap, longest first; UsageError when there are none."""
    if min(least, multiple) < 1 or overlap < 0:
        raise UsageError(f"tiles from {least} in steps of {multiple} with overlap {overlap}: out of range")
    sides = np.arange(most // multiple * multiple, max(least, overlap + 1) - 1, -multiple)
    if not len(sides):
        raise UsageError(f"no multiple of {multiple} from {least} to {most} is longer than the overlap of {overlap}")
    return sides


def search(objective: Objective, sides: np.ndarray, solver: str = SOLVERS[0]) -> Found:
    """The tile of least `objective` with both of its sides out of `sides`; of equals, brute force takes the first.

    `solver` is one of `SOLVERS`; SciPy's two are seeded, give the same tile every time and may miss the optimum.
    """
    judged: dict[tuple[int, int], float] = {}

    def tile_at(place: np.ndarray) -> tuple[int, int]:
        row, column = np.clip(np.rint(place), 0, len(sides) - 1).astype(int)
        return int(sides[row]), int(sides[column])

    def judge(place: np.ndarray) -> float:
        tile = tile_at(place)
        if tile not in judged:
            judged[tile] = float(objective(*tile))
        return judged[tile]

    begun = time.perf_counter()
    bounds = [(-0.5, len(sides) - 0.5)] * 2
    if solver == SOLVERS[0]:
        values = np.array([objective(side, sides) for side in sides])
        place = np.array(np.unravel_index(values.argmin(), values.shape))
    elif solver == SOLVERS[1]:
        place = optimize.differential_evolution(judge, bounds, integrality=[True, True], polish=False, seed=0).x
    else:  # without the local search, which follows a slope that steps do not have
        place = optimize.dual_annealing(judge, bounds, no_local_search=True, seed=0).x
    seconds = time.perf_counter() - begun
    evaluations = len(judged) or len(sides) ** 2
    return Found(solver, tile_at(place), judge(place), evaluations, seconds)


def disagreements(sizes: Iterable[tuple[int, int]], sides: np.ndarray, per_call: float, per_pixel: float,
                  overlap: int = 0) -> Iterator[Disagreement]:  # fmt: skip
    """For every different size of picture alone: where the tile of least wasted area costs more than another."""
    for size in dict.fromkeys(sizes):
        cost = inference_cost(np.array([size]), per_call, per_pixel, overlap)
        by_area, by_cost = search(wasted_area(np.array([size]), overlap), sides), search(cost, sides)
        if (area_cost := float(cost(*by_area.tile))) > by_cost.value:
            yield Disagreement(size, by_area.tile, area_cost, by_cost.tile, by_cost.value)
