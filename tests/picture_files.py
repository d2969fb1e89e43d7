"""Pictures written and read with Pillow, not with the code under test."""

from pathlib import Path

import numpy as np
import PIL.Image


def save(array: np.ndarray, name: str, **options: object) -> Path:
    PIL.Image.fromarray(array).save(name, **options)
    return Path(name)


def load(path: str | Path) -> np.ndarray:
    """The pixels of a file as Pillow sees them."""
    with PIL.Image.open(path) as image:
        return np.asarray(image)


def no_leftovers(allowed: set[str]) -> bool:
    """Whether the folder holds nothing but these files."""
    return {p.name for p in Path().iterdir()} - {"cache"} == allowed
