"""The recipe: everything that decides a training run, kept beside the checkpoint it made."""

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ArtefactError
from ..supernet.sampling import Sampling


@dataclass(frozen=True)
class Polish:
    """A second, shorter run of the cosine after the first one, on the same weights and optimiser."""

    steps: int
    """Optimiser steps."""
    learning_rate: float
    """At its start; falls to zero along a cosine."""
    sampling: Sampling = field(default_factory=Sampling)
    """Which sub-nets a step trains."""
    loss: str = "mse"
    """`mse`, which is what PSNR measures, or `l1`."""

    def __post_init__(self) -> None:
        if not isinstance(self.steps, int) or self.steps < 1 or not self.learning_rate > 0:
            raise ArtefactError("recipe: polish needs steps of 1 or more and a learning_rate above 0")
        if self.loss not in ("l1", "mse") or not isinstance(self.sampling, Sampling):
            raise ArtefactError(f"recipe: polish.loss must be 'l1' or 'mse', not {self.loss!r}")


_KINDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("name", "backbone", "precision"), str),
    **dict.fromkeys(("scale", "steps", "batch", "patch", "warmup", "seed", "validate_every"), int),
    **dict.fromkeys(("learning_rate", "clip", "ema"), (int, float)),
    "widths": tuple,
    "sampling": Sampling,
    "backbone_options": dict,
    "polish": (Polish, type(None)),
}
"""Types of the fields of a recipe; JSON has no other check."""


@dataclass(frozen=True)
class Recipe:
    """One training run. Read and written as JSON; unknown or missing fields are errors."""

    name: str
    """Name of the model, and of its folder in checkpoints/."""
    backbone: str
    """A registered backbone."""
    scale: int
    """Integer upscaling factor."""
    widths: tuple[int, ...]
    """Widths of the sub-nets."""
    steps: int
    """Optimiser steps."""
    sampling: Sampling = field(default_factory=Sampling)
    """Which sub-nets a step trains."""
    backbone_options: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the backbone."""
    batch: int = 16
    """Crops a step."""
    patch: int = 48
    """Side of a crop in LR pixels."""
    learning_rate: float = 2e-3
    """Of Adam at the start; falls to zero along a cosine."""
    warmup: int = 500
    """Steps over which the learning rate rises to its value; without it the ReLUs of a plain net die."""
    clip: float = 0.1
    """Largest norm of the gradient."""
    ema: float = 0.999
    """Decay of the moving average of the weights, which is what is kept."""
    precision: str = "bf16"
    """`bf16` (autocast) or `fp32`."""
    seed: int = 0
    """Decides initial weights, crops, flips and widths; each step draws from (seed, step)."""
    validate_every: int = 5000
    """Steps between validation lines."""
    polish: Polish | None = None
    """What follows the first `steps`, whose loss is L1."""

    def __post_init__(self) -> None:
        for name, kind in _KINDS.items():
            value = getattr(self, name)
            if not isinstance(value, kind) or isinstance(value, bool):
                raise ArtefactError(f"recipe: {name} cannot be {value!r}")
        for name in ("scale", "steps", "batch", "patch", "validate_every"):
            value = getattr(self, name)
            if value < 1:
                raise ArtefactError(f"recipe: {name} must be a whole number of 1 or more, not {value!r}")
        whole = all(isinstance(w, int) and not isinstance(w, bool) and w >= 1 for w in self.widths)
        if not self.widths or not whole or len(set(self.widths)) < len(self.widths):
            raise ArtefactError(f"recipe: widths must be different whole numbers of 1 or more, not {self.widths!r}")
        if self.precision not in ("bf16", "fp32"):
            raise ArtefactError(f"recipe: precision must be 'bf16' or 'fp32', not {self.precision!r}")
        if not self.clip > 0 or self.warmup < 0:
            raise ArtefactError("recipe: clip must be above 0 and warmup 0 or more")
        if not self.learning_rate > 0 or not 0 <= self.ema < 1:
            raise ArtefactError("recipe: learning_rate must be above 0 and ema within 0..1")

    @property
    def total_steps(self) -> int:
        """Steps with the polish."""
        return self.steps + (self.polish.steps if self.polish else 0)

    def phase(self, step: int) -> tuple[Sampling, str, float]:
        """Sampling, loss and learning rate of the step number `step`."""
        if self.polish and step >= self.steps:
            past = (step - self.steps) / self.polish.steps
            return self.polish.sampling, self.polish.loss, self.polish.learning_rate * _cosine(past)
        rise = min(1.0, (step + 1) / (self.warmup + 1))
        return self.sampling, "l1", self.learning_rate * rise * _cosine(step / self.steps)

    def to_json(self) -> str:
        """The recipe as JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def load(cls, path: Path) -> "Recipe":
        """Read a recipe; ArtefactError names the file and the field that is wrong."""
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            if not isinstance(data, dict):
                raise ArtefactError("recipe: must be a JSON object")
            known = {f.name for f in dataclasses.fields(cls)}
            for name in data:
                if name not in known:
                    raise ArtefactError(f"recipe: unknown field '{name}'")
            if isinstance(data.get("sampling"), dict):
                data["sampling"] = Sampling(**data["sampling"])
            polish = data.get("polish")
            if isinstance(polish, dict):
                data["polish"] = Polish(**{**polish, "sampling": Sampling(**polish.get("sampling", {}))})
            if isinstance(data.get("widths"), list):
                data["widths"] = tuple(data["widths"])
            return cls(**data)
        except (OSError, ValueError, TypeError, ArtefactError) as error:
            raise ArtefactError(f"{path}: {error}") from error


def _cosine(past: float) -> float:
    """Half a cosine from 1 to 0 over `past` from 0 to 1."""
    return 0.5 * (1 + math.cos(math.pi * past))
