"""The plan: which branch computes which part of one picture. Plain data, printable and replayable."""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..atomic import write_bytes
from ..errors import ArtefactError
from ..imaging.metrics import psnr_of_mse
from ..json_text import parse_json
from ..patches import Grid
from .tiles import Tiles, seams

SCHEMA = 1


@dataclass(frozen=True)
class Plan:
    """Branch of every patch of one picture, and the tiles that compute them."""

    model: str
    """Name of the model."""
    model_sha256: str
    """`ModelCard.sha256` of the model."""
    scale: int
    """Upscaling factor."""
    branches: tuple[str, ...]
    """Branch names; numbers elsewhere index them."""
    grid: Grid
    """The patches."""
    branch_map: np.ndarray
    """Branch number of every patch: (rows, cols)."""
    tiles: Tiles
    """What goes through the sub-nets."""
    kind: str
    """What was asked for: `share`, `macs`, `ms`, `max`, `eta`, `width` or `deadline`."""
    requested: str
    """The budget, eta, branch or time that was asked for, in words."""
    objective: str
    """`mse` or `psnr`."""
    cost: float
    """Predicted cost in `unit`; in milliseconds everything beside inference is included."""
    cost_largest: float
    """The same of one pass of the largest sub-net, without halo; what a share is of."""
    unit: str
    """`MAC` or `ms`."""
    macs: float
    """Multiply-accumulates of the tiles, halo included."""
    macs_largest: float
    """Multiply-accumulates of one pass of the largest sub-net without halo."""
    predicted_mse: float | None
    """Predicted mean squared error over all pixels; None when no table was asked."""
    note: str = ""
    """What the user should know, such as a budget that cannot be met."""

    @property
    def predicted_psnr(self) -> float | None:
        """PSNR in dB of the predicted mean squared error."""
        return None if self.predicted_mse is None else psnr_of_mse(self.predicted_mse)

    @property
    def counts(self) -> dict[str, int]:
        """Patches of each branch, in the order of `branches`."""
        numbers = np.bincount(self.branch_map.ravel(), minlength=len(self.branches))
        return dict(zip(self.branches, numbers.tolist(), strict=True))

    def seams(self) -> Iterator[tuple[int, int, slice]]:
        """Where pixels belong to different tiles than their neighbours, as `tiles.seams` gives it."""
        owner = np.zeros(self.grid.shape, dtype=np.int64)
        for number, (top, left, bottom, right) in enumerate(-(-self.tiles.box // self.grid.patch), start=1):
            owner[top:bottom, left:right] = number
        return seams(owner, self.grid, self.scale)

    def __str__(self) -> str:
        total = self.branch_map.size
        shares = ", ".join(f"{name} {100 * n / total:.0f}%" for name, n in self.counts.items() if n)
        psnr = "" if self.predicted_psnr is None else f"; predicted {self.predicted_psnr:.2f} dB"
        cost = "" if self.unit == "MAC" else f", {self.cost:.1f} {self.unit}"
        share = 100 * self.macs / self.macs_largest
        macs = f"{self.macs / 1e9:.2f} of {self.macs_largest / 1e9:.2f} GMAC ({share:.1f}%)"
        tiles = Counter(self.branches[b] for b in self.tiles.branch)
        return (
            f"{self.grid.width}x{self.grid.height} x{self.scale} with {self.model}: {macs}{cost}{psnr}\n"
            f"{total} patches: {shares}; {sum(tiles.values())} tiles with a halo of {self.tiles.halo}"
            + (f"\n{self.note}" if self.note else "")
        )

    def save(self, path: Path) -> None:
        """Write the plan as JSON in one step."""
        data = {
            "schema": SCHEMA,
            **{name: getattr(self, name) for name in _PLAIN},
            "grid": dataclasses.asdict(self.grid),
            "branch_map": self.branch_map.tolist(),
            "halo": self.tiles.halo,
            "tiles": [[int(b), *box] for b, box in zip(self.tiles.branch, self.tiles.box.tolist(), strict=True)],
        }
        write_bytes(path, (json.dumps(data) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> "Plan":
        """Read a plan; ArtefactError names the file and what is wrong."""
        try:
            data = parse_json(Path(path).read_text(encoding="utf-8"))
            if data["schema"] != SCHEMA:
                raise ValueError(f"schema {data['schema']}, this version reads {SCHEMA}")
            grid = Grid(**data["grid"])
            branch_map = np.array(data["branch_map"], dtype=np.int64)
            rows = np.array(data["tiles"], dtype=np.int64).reshape(-1, 5)
            tiles = Tiles(rows[:, 0], rows[:, 1:], int(data["halo"]), (grid.height, grid.width))
            plain = {name: data[name] for name in _PLAIN}
            for name, value in plain.items():
                if not isinstance(value, _PLAIN[name]) or isinstance(value, bool):
                    raise ValueError(f"{name} cannot be {value!r}")
            plan = cls(**{**plain, "branches": tuple(data["branches"])}, grid=grid, branch_map=branch_map, tiles=tiles)
            plan.check()
            return plan
        except OSError as error:
            raise ArtefactError(f"{path}: {error.strerror or error}") from error
        except KeyError as error:
            raise ArtefactError(f"{path}: field {error} is missing") from error
        except (ValueError, TypeError, AttributeError, IndexError, OverflowError) as error:
            raise ArtefactError(f"{path}: not a plan ({error})") from error

    def check(self) -> None:
        """ValueError unless the tiles cover exactly the patches of their branches, each pixel once."""
        numbers = np.concatenate([self.branch_map.ravel(), self.tiles.branch])
        if self.branch_map.shape != self.grid.shape or np.any((numbers < 0) | (numbers >= len(self.branches))):
            raise ValueError("branch_map does not fit the grid and the branches")
        wanted = np.repeat(self.branch_map, np.diff(self.grid.row_edges), axis=0)
        wanted = np.repeat(wanted, np.diff(self.grid.col_edges), axis=1)
        covered = np.zeros_like(wanted)
        for branch, (top, left, bottom, right) in zip(self.tiles.branch, self.tiles.box, strict=True):
            if not (0 <= top < bottom <= self.grid.height and 0 <= left < right <= self.grid.width):
                raise ValueError(f"a tile lies outside the picture: {top}, {left}, {bottom}, {right}")
            if branch == 0 or covered[top:bottom, left:right].any():
                raise ValueError(f"a tile is interpolated or overlaps another: {top}, {left}, {bottom}, {right}")
            covered[top:bottom, left:right] = branch
        edges = self.grid.row_edges, self.grid.col_edges
        if not all(np.isin(self.tiles.box[:, side], edges[side % 2]).all() for side in range(4)):
            raise ValueError("a tile ends within a patch")
        if self.tiles.halo < 0 or not np.array_equal(wanted, covered):
            raise ValueError("the tiles do not cover the patches of their branches")


_NUMBER = (int, float)
_PLAIN: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("model", "model_sha256", "kind", "requested", "objective", "unit", "note"), str),
    **dict.fromkeys(("cost", "cost_largest", "macs", "macs_largest"), _NUMBER),
    "scale": int,
    "branches": (list, tuple),
    "predicted_mse": (*_NUMBER, type(None)),
}
"""Fields of a plan that JSON holds as they are, and their types."""
