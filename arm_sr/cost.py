"""What a branch costs: a fixed part for each call and a part for each LR pixel."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import scipy.optimize

from .atomic import write_bytes
from .errors import ArtefactError
from .json_text import parse_json
from .models import BICUBIC, ModelCard

Group = tuple[tuple[int, int], ...]
"""Height and width of tiles that are counted together, in LR pixels."""
TILES: tuple[Group, ...] = (
    ((38, 38), (35, 39), (38, 35), (35, 36), (38, 41), (35, 43)),
    ((70, 70), (38, 134), (38, 102), (70, 37)),
    ((134, 101), (102, 135)),
    ((190, 300),),
)
"""By what a table is fitted, as plans run it: patches with halo, alone and merged, those of a group together, which
some engines compute at once. No two are equally wide, so that none has the shape of another with some rows less."""


def tile_sizes(taller: float = 0.0) -> list[tuple[int, float]]:
    """Of every group of `TILES` the number of tiles and of their LR pixels, each so many rows taller."""
    return [(len(group), sum((height + taller) * width for height, width in group)) for group in TILES]


@dataclass(frozen=True)
class CostTable:
    """Cost of every branch on one device.

    The interpolation branch is charged once for the whole picture, because that is how it runs. Where costs are
    measured planning and stitching are in it, so every plan is charged with it.
    """

    unit: str
    """`MAC`, or `ms` measured."""
    branches: tuple[str, ...]
    """Names, `bicubic` first, cheapest to dearest."""
    per_call: np.ndarray
    """Cost of one tile whatever its size: (branches,)."""
    per_pixel: np.ndarray
    """Cost of each LR pixel of a tile, halo included: (branches,)."""
    source: str
    """Where the numbers come from, in words."""

    def __post_init__(self) -> None:
        costs = np.array([self.per_call, self.per_pixel], dtype=np.float64)
        if costs.shape != (2, len(self.branches)) or not np.all(np.isfinite(costs)) or np.any(costs < 0):
            raise ValueError("per_call and per_pixel must be numbers of 0 or more, one for each branch")
        if self.one_pass(-1, 1) <= 0:
            raise ValueError(f"the largest sub-net, {self.branches[-1]}, must cost more than nothing")
        if self.unit not in ("MAC", "ms"):
            raise ValueError(f"unit must be 'MAC' or 'ms', not '{self.unit}'")

    @classmethod
    def of_macs(cls, card: ModelCard) -> "CostTable":
        """Multiply-accumulates by the card; interpolation counts nothing."""
        names = card.branches
        per_pixel = np.array([0.0, *(card.subnets[n].macs_per_lr_pixel for n in names[1:])])
        return cls("MAC", names, np.zeros(len(names)), per_pixel, "card")

    @cached_property
    def added(self) -> tuple[np.ndarray, np.ndarray]:
        """`per_call` and `per_pixel` of what a branch adds to the interpolated picture, which is there anyway."""
        per_call, per_pixel = self.per_call.copy(), self.per_pixel.copy()
        per_call[0] = per_pixel[0] = 0
        return per_call, per_pixel

    def one_pass(self, branch: int, pixels: int) -> float:
        """Cost of one pass of the branch number `branch` over `pixels` LR pixels."""
        return float(self.per_call[branch] + self.per_pixel[branch] * pixels)

    def save(self, path: Path) -> None:
        """Write the table as JSON in one step."""
        rows = zip(self.branches, self.per_call.tolist(), self.per_pixel.tolist(), strict=True)
        branches = {name: {"per_call": call, "per_lr_pixel": pixel} for name, call, pixel in rows}
        data = {"unit": self.unit, "source": self.source, "branches": branches}
        write_bytes(path, (json.dumps(data, indent=2) + "\n").encode())

    @classmethod
    def load(cls, path: Path, card: ModelCard) -> "CostTable":
        """Read a table for `card`; ArtefactError names the file and the field that is wrong."""
        try:
            data = parse_json(Path(path).read_text(encoding="utf-8"))
            rows = data["branches"]
            if set(rows) - {BICUBIC} != set(card.subnets):
                raise ValueError(f"it names {', '.join(rows)}, the model has {', '.join(card.branches)}")
            rows.setdefault(BICUBIC, {"per_call": 0.0, "per_lr_pixel": 0.0})
            calls = np.array([float(rows[name]["per_call"]) for name in card.branches])
            pixels = np.array([float(rows[name]["per_lr_pixel"]) for name in card.branches])
            return cls(data["unit"], card.branches, calls, pixels, data.get("source", str(path)))
        except OSError as error:
            raise ArtefactError(f"{path}: {error.strerror or error}") from error
        except KeyError as error:
            raise ArtefactError(f"{path}: field {error} is missing") from error
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            raise ArtefactError(f"{path}: not a cost table of model '{card.name}' ({error})") from error


def fit_cost(sizes: Sequence[tuple[int, float]], ms: Sequence[float]) -> tuple[float, float]:
    """Cost of a tile and of an LR pixel, both 0 or more, with the least squared relative error.

    Args:
        sizes: number of tiles and of their LR pixels.
        ms: what they took together.
    """
    per_call, per_pixel = scipy.optimize.nnls(np.array(sizes) / np.array(ms)[:, None], np.ones(len(sizes)))[0]
    return float(per_call), float(per_pixel)
