"""Ground truth and its low-resolution picture, by the protocol."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import ImageError
from ..imaging.io import read_image
from ..imaging.resample import crop_to_multiple, lr_bicubic

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pair:
    """One ground-truth picture and its LR picture."""

    name: str
    """File name."""
    hr: np.ndarray
    """uint8 RGB (scale * h, scale * w, 3)."""
    lr: np.ndarray
    """uint8 RGB (h, w, 3)."""


def read_pairs(files: Iterable[Path], scale: int) -> Iterator[Pair]:
    """Pairs one by one; HR is cropped to multiples of `scale`. ImageError for files that cannot be read."""
    for file in files:
        hr = crop_to_multiple(read_image(file).rgb8(), scale)
        if not hr.size:
            raise ImageError(f"{file}: smaller than the scale {scale}; leave it out")
        yield Pair(file.name, hr, lr_bicubic(hr, scale))


def readable_pairs(files: Iterable[Path], scale: int) -> Iterator[Pair]:
    """As `read_pairs`, but files that cannot be read are named in the log and skipped."""
    for file in files:
        try:
            yield from read_pairs([file], scale)
        except ImageError as error:
            log.warning("skipped %s", error)
