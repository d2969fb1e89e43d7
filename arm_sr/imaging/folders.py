"""Folders of pictures, and which of them are never trained on."""

from pathlib import Path

from ..errors import ImageError
from .formats import IMAGE_SUFFIXES

HOLD_OUT = 10
"""Every tenth file by sorted name is never trained on: it builds the tables."""


def list_images(folder: Path) -> list[Path]:
    """The picture files directly in `folder`, by sorted name; ImageError when there are none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ImageError(f"{folder}: no such folder of pictures")
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and f.is_file())
    if not files:
        raise ImageError(f"{folder}: no pictures in this folder ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return files


def split_hold_out(files: list[Path]) -> tuple[list[Path], list[Path]]:
    """(to train on, held out): the 10th, 20th, ... file by sorted name is held out."""
    files = sorted(files)
    held_out = files[HOLD_OUT - 1 :: HOLD_OUT]
    return [f for f in files if f not in set(held_out)], held_out
