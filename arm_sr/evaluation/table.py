"""Building an edge-to-PSNR table from pictures that the model never saw."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import scipy.stats

from ..backends import Backend
from ..edges import window_scores, window_sums
from ..errors import ArtefactError
from ..lut import EdgeTable
from ..models import INTERPOLATOR, ModelCard
from ..stitch import interpolate
from .pairs import Pair

log = logging.getLogger(__name__)

PSNR_CAP = 80.0
"""dB given to a patch without any error, as in ARM's code."""
LEAST_IN_BIN = 100
"""Patches in a bin of equal counts at least."""


@dataclass(frozen=True)
class Samples:
    """Patches with their scores and what every branch made of them."""

    scores: dict[str, np.ndarray]
    """By name of the score: (patches,)."""
    mse: np.ndarray
    """Mean squared error over the patch, all channels: (patches, branches)."""
    pictures: int
    """How many pictures they come from."""

    @property
    def psnr(self) -> np.ndarray:
        """PSNR in dB, at most `PSNR_CAP`: (patches, branches)."""
        least = 255**2 / 10 ** (PSNR_CAP / 10)
        return 10 * np.log10(255**2 / np.maximum(self.mse, least))


def measure_patches(card: ModelCard, backend: Backend, pairs: Iterable[Pair], patch: int, stride: int,
                    scores: Iterable[str]) -> Samples:  # fmt: skip
    """Run every branch over whole pictures and cut patches at a dense stride.

    Args:
        card: the model.
        backend: engine with it.
        pairs: pictures; those smaller than a patch give none, which the log says.
        patch: side in LR pixels.
        stride: LR pixels from one patch to the next.
        scores: names from `edges.SCORES`.
    """
    found: dict[str, list[np.ndarray]] = {name: [] for name in scores}
    errors: list[np.ndarray] = []
    pictures = 0
    for pair in pairs:
        if min(pair.lr.shape[:2]) < patch:
            log.warning("skipped %s: smaller than a patch of %d LR pixels", pair.name, patch)
            continue
        pictures += 1
        starts = [np.arange(0, side - patch + 1, stride) for side in pair.lr.shape[:2]]
        rows, cols = ((start, start + patch) for start in starts)
        for name, kept in found.items():
            kept.append(window_scores(pair.lr, rows, cols, name).ravel())
        large_rows, large_cols = ((a * card.scale, b * card.scale) for a, b in (rows, cols))
        columns = []
        for branch in card.branches:
            sr = one_pass(card, backend, branch, pair.lr)
            squared = np.square(sr.astype(np.float32) - pair.hr).mean(axis=2)
            sums = window_sums(cv2.integral(squared, sdepth=cv2.CV_64F), large_rows, large_cols)
            columns.append(sums.ravel() / (patch * card.scale) ** 2)
        errors.append(np.stack(columns, axis=1))
    if not errors:
        raise ArtefactError(f"none of the pictures holds a patch of {patch} LR pixels")
    return Samples({n: np.concatenate(v) for n, v in found.items()}, np.concatenate(errors), pictures)


def one_pass(card: ModelCard, backend: Backend, branch: str, lr: np.ndarray) -> np.ndarray:
    """One branch over a whole LR picture, uint8 RGB (H, W, 3)."""
    if branch == card.branches[0]:
        return interpolate(lr, card.scale)
    return backend.run(branch, lr[None])[0]


def build_table(card: ModelCard, samples: Samples, *, score: str, patch: int, bins: int, equal_width: bool,
                data: str) -> EdgeTable:  # fmt: skip
    """The table of `samples`.

    Args:
        score: which of the scores decides the bin.
        patch: side in LR pixels, for the record.
        bins: number of bins; fewer when `LEAST_IN_BIN` asks for it and bins hold equal counts.
        equal_width: ARM's bins, equally wide from the least to the greatest score; empty ones are
            interpolated from their neighbours and keep the count 0.
        data: name of the data set, for the record.
    """
    scores = samples.scores[score]
    if equal_width:
        edges = np.linspace(scores.min(), scores.max(), bins + 1)
    else:
        count = max(1, min(bins, len(scores) // LEAST_IN_BIN))
        edges = np.quantile(scores, np.linspace(0, 1, count + 1))
        while len(edges) > 2:  # equal scores leave short bins
            counts = _members(edges, scores)[1]
            if counts.min() >= LEAST_IN_BIN:
                break
            edges = np.delete(edges, max(1, int(counts.argmin())))
    member, counts = _members(edges, scores)
    psnr = samples.psnr
    return EdgeTable(
        model=card.name,
        model_sha256=card.sha256,
        patch=patch,
        score=score,
        interpolator=INTERPOLATOR,
        branches=card.branches,
        edges=edges,
        counts=counts,
        psnr=_bin_means(member, counts, psnr),
        mse=_bin_means(member, counts, samples.mse),
        rank_correlation={
            name: round(float(np.nan_to_num(scipy.stats.spearmanr(scores, psnr[:, j]).statistic)), 4)
            for j, name in enumerate(card.branches)
        },
        data={"name": data, "pictures": samples.pictures, "patches": len(scores)},
    )


def _members(edges: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bin of every score, and how many scores each bin has."""
    member = np.searchsorted(edges[1:-1], scores, side="right")
    return member, np.bincount(member, minlength=len(edges) - 1)


def _bin_means(member: np.ndarray, counts: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean of values (patches, branches) in each bin; empty bins between their neighbours."""
    sums = np.stack([np.bincount(member, column, minlength=len(counts)) for column in values.T], axis=1)
    filled = np.flatnonzero(counts)
    means = sums[filled] / counts[filled, None]
    return np.stack([np.interp(np.arange(len(counts)), filled, column) for column in means.T], axis=1)
