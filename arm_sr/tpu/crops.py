"""Crops of pictures to calibrate and to check compiled nets on."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..edges import window_scores
from ..errors import ImageError
from ..evaluation.pairs import Pair
from ..lut import EdgeTable


@dataclass(frozen=True)
class Crops:
    """Crops of one size with their ground truth."""

    lr: np.ndarray
    """uint8 RGB, (N, H, W, 3)."""
    hr: np.ndarray
    """uint8 RGB, (N, scale * H, scale * W, 3)."""


def crops_of_all_bins(pairs: Iterable[Pair], table: EdgeTable, tile: tuple[int, int], count: int) -> Crops:
    """Crops whose edge scores are spread evenly over the bins of a table, from flat to busy.

    Args:
        pairs: pictures; those smaller than a crop give none.
        table: of the model; its score and bins.
        tile: height and width in LR pixels.
        count: how many; ImageError when the pictures have fewer places for crops side by side.
    """
    height, width = tile
    places: list[tuple[int, float, int, int]] = []
    kept: list[Pair] = []
    for pair in pairs:
        tops = np.arange(0, pair.lr.shape[0] - height + 1, height)
        lefts = np.arange(0, pair.lr.shape[1] - width + 1, width)
        if not tops.size or not lefts.size:
            continue
        scores = window_scores(pair.lr, (tops, tops + height), (lefts, lefts + width), table.score)
        kept.append(pair)
        places += [(len(kept) - 1, score, top, left)
                   for top, row in zip(tops, scores, strict=True)
                   for left, score in zip(lefts, row, strict=True)]  # fmt: skip
    if len(places) < count:
        raise ImageError(f"the pictures have room for {len(places)} crops of {height}x{width}, not {count}; give more")
    bins = table.bins_of(np.array([score for _, score, _, _ in places]))
    wanted = (np.arange(count) + 0.5) / count * len(table.counts) - 0.5
    generator = np.random.default_rng(0)
    free = np.ones(len(places), bool)
    chosen = []
    for number in wanted:
        distance = np.where(free, np.abs(bins - number), np.inf)
        nearest = generator.choice(np.flatnonzero(distance == distance.min()))
        free[nearest] = False
        chosen.append(places[nearest])
    lr = [kept[which].lr[top : top + height, left : left + width] for which, _, top, left in chosen]
    hr = []
    for which, _, top, left in chosen:
        scale = kept[which].hr.shape[0] // kept[which].lr.shape[0]
        hr.append(kept[which].hr[scale * top : scale * (top + height), scale * left : scale * (left + width)])
    return Crops(np.stack(lr), np.stack(hr))


def extreme_crops(tile: tuple[int, int]) -> np.ndarray:
    """Crops that photographs seldom have: flat, and saturated black, white and full colours side by side.

    uint8 RGB, (2, H, W, 3).
    """
    height, width = tile
    colours = np.array([[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 255], [0, 0, 255], [255, 255, 0]], np.uint8)
    y, x = np.mgrid[:height, :width]
    return np.stack([np.full((height, width, 3), 77, np.uint8), colours[(y // 8 + x // 8) % len(colours)]])
