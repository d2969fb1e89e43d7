"""The edge-to-PSNR lookup table: what each branch will reach on a patch, from its edge score."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .atomic import write_bytes
from .edges import SCORES
from .errors import ArtefactError
from .json_text import parse_json
from .models import INTERPOLATOR, ModelCard, data_folder

SCHEMA = 1


@dataclass(frozen=True)
class EdgeTable:
    """An edge-to-PSNR table (ARM, ECCV 2022, section 3.3) with squared errors beside it."""

    model: str
    """Name of the model it was measured on."""
    model_sha256: str
    """`ModelCard.sha256` of that model."""
    patch: int
    """Side of a patch in LR pixels."""
    score: str
    """One of `edges.SCORES`."""
    interpolator: str
    """What the bicubic branch is."""
    branches: tuple[str, ...]
    """Names of the columns, cheapest first."""
    edges: np.ndarray
    """Borders of the bins, ascending: (bins + 1,). Scores beyond them fall into the first and last bin."""
    counts: np.ndarray
    """Patches measured in each bin: (bins,)."""
    psnr: np.ndarray
    """Mean PSNR in dB of the patches: (bins, branches)."""
    mse: np.ndarray
    """Mean squared error, 8-bit levels squared: (bins, branches)."""
    rank_correlation: dict[str, float]
    """Spearman's, of score and PSNR, by branch."""
    data: dict[str, Any]
    """Name of the data set, number of pictures and patches."""
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        bins, columns = len(self.counts), len(self.branches)
        if self.schema != SCHEMA:
            raise ValueError(f"schema {self.schema}, this version reads {SCHEMA}")
        if self.score not in SCORES:
            raise ValueError(f"unknown score '{self.score}'; build it again with tools/build_lut.py")
        if bins < 1 or self.counts.shape != (bins,) or np.any(self.counts < 0) or not self.counts.any():
            raise ValueError("counts must be one row of numbers of 0 or more, not all 0")
        if self.edges.shape != (bins + 1,) or not np.all(np.isfinite(self.edges)) or np.any(np.diff(self.edges) < 0):
            raise ValueError("edges must ascend, one more than counts")
        for name in ("psnr", "mse"):
            values = getattr(self, name)
            if values.shape != (bins, columns) or not np.all(np.isfinite(values)):
                raise ValueError(f"{name} must be {bins} rows of {columns} finite numbers")
        if not isinstance(self.patch, int) or self.patch < 1 or np.any(self.mse < 0):
            raise ValueError("patch must be at least 1 and mse not negative")
        if not isinstance(self.model, str) or not isinstance(self.model_sha256, str):
            raise ValueError("model and model_sha256 must be text")

    def bins_of(self, scores: np.ndarray) -> np.ndarray:
        """Row of the table for each score; any shape."""
        return np.searchsorted(self.edges[1:-1], scores, side="right")

    def mean_mse(self, branch: str) -> float:
        """Mean squared error of a branch over the patches of all bins; ArtefactError when it is 0."""
        mean = float(self.mse[:, self.branches.index(branch)] @ self.counts / self.counts.sum())
        if mean == 0:
            raise ArtefactError(f"the table of model '{self.model}' has no error anywhere, so eta means nothing by it")
        return mean

    def save(self, path: Path) -> None:
        """Write the table as JSON in one step."""
        data = dataclasses.asdict(self)
        for name in ("edges", "counts", "psnr", "mse"):
            data[name] = np.round(data[name], 6).tolist()
        write_bytes(path, (json.dumps(data, indent=None, separators=(",", ":")) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> "EdgeTable":
        """Read a table; ArtefactError names the file and what is wrong."""
        try:
            data = parse_json(Path(path).read_text(encoding="utf-8"))
            for name in ("edges", "psnr", "mse"):
                data[name] = np.array(data[name], dtype=np.float64)
            data["counts"] = np.array(data["counts"], dtype=np.int64)
            data["branches"] = tuple(data["branches"])
            return cls(**data)
        except OSError as error:
            raise ArtefactError(f"{path}: {error.strerror or error}; build one with tools/build_lut.py") from error
        except KeyError as error:
            raise ArtefactError(f"{path}: field {error} is missing") from error
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            raise ArtefactError(f"{path}: not an edge-to-PSNR table ({error})") from error

    @classmethod
    def for_model(cls, card: ModelCard, path: Path | None = None) -> "EdgeTable":
        """The table at `path` (default: the one that belongs to `card`), checked against the card."""
        if path is None:
            path = table_path(card)
        table = cls.load(path)
        if table.interpolator != INTERPOLATOR:
            raise ArtefactError(f"{path} was measured with interpolation '{table.interpolator}', not '{INTERPOLATOR}'")
        if table.model_sha256 != card.sha256 or set(table.branches) != set(card.branches):
            raise ArtefactError(
                f"{path} was measured on model '{table.model}' ({table.model_sha256[:12]}), not on the one in "
                f"{card.folder} ('{card.name}', {card.sha256[:12]}); build it again with tools/build_lut.py"
            )
        return table


def table_path(card: ModelCard) -> Path:
    """Where the table of `card` is: `lut.json` beside the card, else NAME.json among the shipped tables, else where it
    should be."""
    beside, shipped = card.folder / "lut.json", data_folder("lut") / f"{card.name}.json"
    return next((path for path in (beside, shipped) if path.exists()), place_of_table(card))


def place_of_table(card: ModelCard) -> Path:
    """Where a new table of `card` belongs: among the shipped ones for a shipped model, else beside the card."""
    shipped = card.folder.parent.resolve() == data_folder("checkpoints").resolve()
    return data_folder("lut") / f"{card.name}.json" if shipped else card.folder / "lut.json"
