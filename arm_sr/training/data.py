"""Training pictures: any folder of images, in memory, cropped at random."""

import csv
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from ..errors import ArtefactError
from ..evaluation.pairs import readable_pairs
from ..imaging.resample import lr_bicubic

log = logging.getLogger(__name__)

KERNEL = 3
"""LR pixels around one whose HR pixels `lr_bicubic` looks at, at most."""


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


def _resized(hr: np.ndarray, size: float) -> np.ndarray:
    height, width = (max(1, round(size * side)) for side in hr.shape[:2])
    return cv2.resize(hr, (width, height), interpolation=cv2.INTER_AREA)


class CropData:
    """Pairs of LR and HR crops from a folder of pictures, all decoded into memory.

    Every picture is there at each of `sizes` (shares of its sides) that is no smaller than a crop. Pictures that
    cannot be read or are smaller than a crop themselves are named in the log and skipped. With `colours` a crop has
    its channels in any order and is as often a negative as not.
    """

    def __init__(
        self, files: list[Path], scale: int, patch: int, sizes: Sequence[float] = (1.0,), colours: bool = False
    ) -> None:
        self.scale, self.patch, self.colours = scale, patch, colours
        self.pictures: list[np.ndarray] = []
        for pair in readable_pairs(files, scale):
            if min(pair.lr.shape[:2]) < patch:
                log.warning("skipped %s: %dx%d is smaller than a crop", pair.name, pair.hr.shape[1], pair.hr.shape[0])
                continue
            resized = (pair.hr if size == 1 else _resized(pair.hr, size) for size in sizes)
            fitting = [one for one in resized if min(one.shape[:2]) >= scale * patch]
            if not fitting:
                log.warning("skipped %s: smaller than a crop at every size", pair.name)
            self.pictures += fitting
        if not self.pictures:
            raise ArtefactError(f"none of {len(files)} pictures can be trained on")

    def batch(self, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """`size` random crops, flipped and rotated: LR (N, p, p, 3) and HR (N, s*p, s*p, 3), uint8."""
        p, s = self.patch, self.scale
        lr_crops = np.empty((size, p, p, 3), np.uint8)
        hr_crops = np.empty((size, s * p, s * p, 3), np.uint8)
        for i in range(size):
            crops = self._crops(rng)
            turns, mirror = rng.integers(4), rng.integers(2)
            for target, crop in zip((lr_crops, hr_crops), crops, strict=True):
                turned = np.rot90(crop, int(turns))
                target[i] = turned[:, ::-1] if mirror else turned
        return lr_crops, hr_crops

    def _crops(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A crop of LR and HR from any HR pixel on, as if the picture began a whole number of LR pixels before it."""
        p, s = self.patch, self.scale
        picture = self.pictures[rng.integers(len(self.pictures))]
        (top, above, bottom), (left, before, right) = (self._place(side, rng) for side in picture.shape[:2])
        hr = picture[top:bottom, left:right]
        if self.colours:
            hr = hr[:, :, rng.permutation(3)]
            hr = 255 - hr if rng.integers(2) else hr
        lr = lr_bicubic(hr, s)[above : above + p, before : before + p]
        return lr, hr[s * above : s * (above + p), s * before : s * (before + p)]

    def _place(self, side: int, rng: np.random.Generator) -> tuple[int, int, int]:
        """Along a side of a picture: first HR pixel of a crop with its surroundings, LR pixels before it, end."""
        p, s = self.patch, self.scale
        first = int(rng.integers(side - s * p + 1))
        before, after = min(KERNEL, first // s), min(KERNEL, (side - first) // s - p)
        return first - s * before, before, first + s * (p + after)
