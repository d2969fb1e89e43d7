"""Training pictures: any folder of images, in memory, cropped at random."""

import csv
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from ..errors import ArtefactError
from ..evaluation.pairs import Pair, readable_pairs
from ..imaging.resample import lr_bicubic

log = logging.getLogger(__name__)


def describe_sources(folder: Path) -> list[dict[str, object]]:
    """Sources and licences of a data folder, from its `manifest.csv` (columns file, source, licence).

    Without a manifest there is one entry that says so.
    """
    manifest = Path(folder) / "manifest.csv"
    if not manifest.is_file():
        return [{"source": f"folder {Path(folder).name} without a manifest.csv", "licence": "not stated"}]
    with manifest.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    if any(row.get(column) is None for row in rows for column in ("source", "licence")):
        raise ArtefactError(f"{manifest}: every row needs a source and a licence; columns file, source, licence")
    counts = Counter((row["source"].split(":")[0], row["licence"]) for row in rows)
    return [{"source": s, "licence": c, "images_in_folder": n} for (s, c), n in sorted(counts.items())]


def _resized(pair: Pair, size: float, scale: int) -> Pair:
    height, width = (max(1, round(size * side / scale)) * scale for side in pair.hr.shape[:2])
    hr = cv2.resize(pair.hr, (width, height), interpolation=cv2.INTER_AREA)
    return Pair(pair.name, hr, lr_bicubic(hr, scale))


class CropData:
    """Pairs of LR and HR crops from a folder of pictures, all decoded into memory.

    Every picture is there at each of `sizes` (shares of its sides) that is no smaller than a crop. Pictures that
    cannot be read or are smaller than a crop themselves are named in the log and skipped.
    """

    def __init__(self, files: list[Path], scale: int, patch: int, sizes: Sequence[float] = (1.0,)) -> None:
        self.scale, self.patch = scale, patch
        self.pairs: list[Pair] = []
        for pair in readable_pairs(files, scale):
            if min(pair.lr.shape[:2]) < patch:
                log.warning("skipped %s: %dx%d is smaller than a crop", pair.name, pair.hr.shape[1], pair.hr.shape[0])
                continue
            resized = (pair if size == 1 else _resized(pair, size, scale) for size in sizes)
            fitting = [one for one in resized if min(one.lr.shape[:2]) >= patch]
            if not fitting:
                log.warning("skipped %s: smaller than a crop at every size", pair.name)
            self.pairs += fitting
        if not self.pairs:
            raise ArtefactError(f"none of {len(files)} pictures can be trained on")

    def batch(self, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """`size` random crops, flipped and rotated: LR (N, p, p, 3) and HR (N, s*p, s*p, 3), uint8."""
        p, s = self.patch, self.scale
        lr_crops = np.empty((size, p, p, 3), np.uint8)
        hr_crops = np.empty((size, s * p, s * p, 3), np.uint8)
        for i in range(size):
            pair = self.pairs[rng.integers(len(self.pairs))]
            lr, hr = pair.lr, pair.hr
            top, left = rng.integers(lr.shape[0] - p + 1), rng.integers(lr.shape[1] - p + 1)
            turns, mirror = rng.integers(4), rng.integers(2)
            crops = lr[top : top + p, left : left + p], hr[s * top : s * (top + p), s * left : s * (left + p)]
            for target, crop in zip((lr_crops, hr_crops), crops, strict=True):
                turned = np.rot90(crop, int(turns))
                target[i] = turned[:, ::-1] if mirror else turned
        return lr_crops, hr_crops
