"""The recipe: everything that decides a training run, kept beside the checkpoint it made."""

import bisect
import dataclasses
import itertools
import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any

from ..atomic import write_bytes
from ..errors import ArtefactError
from ..json_text import parse_json
from ..models import BICUBIC
from ..supernet.sampling import Sampling
from .losses import LOSSES
from .optimisers import OPTIMISERS


@dataclass(frozen=True)
class Stage:
    """One run of the cosine, on the weights and the optimiser of the stage before."""

    steps: int
    """Optimiser steps."""
    learning_rate: float = 2e-3
    """At the start; falls to zero along a cosine."""
    sampling: Sampling = field(default_factory=Sampling)
    """Which sub-nets a step trains."""
    loss: str = "l1"
    """`l1`; `charbonnier`, nearly the same; `mse`, which is what PSNR over all pixels measures; `log_mse` and, where
    PSNRs are near 36 dB, `log_mse_36`, for the mean of PSNRs."""
    depth: int | None = None
    """Body layers that are used at most; those that a later stage adds start as the identity."""
    revive: float = 0.0
    """At its start channels begin anew that are active on less than this share of the pixels of a batch; see
    `Supernet.revive`."""
    decay_steps: int | None = None
    """Steps of the whole cosine (default: `steps`); more of them end the stage before its learning rate is zero."""

    def __post_init__(self) -> None:
        def need(name: str, fine: bool, what: str) -> None:
            if not fine:
                raise ArtefactError(f"{name} must be {what}, not {getattr(self, name)!r}")

        need("steps", _whole(self.steps, 1), "a whole number of 1 or more")
        need("learning_rate", _real(self.learning_rate) and self.learning_rate > 0, "a number above 0")
        need("sampling", isinstance(self.sampling, Sampling), "an object with rule, alpha, floor and distil")
        need("loss", self.loss in tuple(LOSSES), f"one of {', '.join(LOSSES)}")
        need("depth", self.depth is None or _whole(self.depth, 1), "a whole number of 1 or more")
        need("revive", _real(self.revive) and 0 <= self.revive <= 1, "within 0..1")
        need("decay_steps", self.decay_steps is None or _whole(self.decay_steps, self.steps), "`steps` or more")


_KINDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("name", "backbone", "precision", "optimiser"), str),
    **dict.fromkeys(("scale", "batch", "patch", "warmup", "seed", "validate_every"), int),
    **dict.fromkeys(("clip", "ema", "start_share"), (int, float)),
    "subnets": dict,
    **dict.fromkeys(("stages", "sizes"), tuple),
    "start": (str, NoneType),
    "colours": bool,
}
"""Types of the fields of a recipe; JSON has no other check."""


@dataclass(frozen=True)
class Recipe:
    """One training run. Read and written as JSON; unknown fields are errors, and missing ones without a default."""

    name: str
    """Name of the model, and of its folder in checkpoints/."""
    backbone: str
    """A registered backbone."""
    scale: int
    """Integer upscaling factor."""
    subnets: dict[str, tuple[int, int]]
    """Width and depth of every sub-net, by name."""
    stages: tuple[Stage, ...]
    """What is trained, one after the other."""
    batch: int = 16
    """Crops a step."""
    patch: int = 48
    """Side of a crop in LR pixels."""
    warmup: int = 500
    """Steps over which the learning rate of a stage rises to its value; without it the ReLUs of a plain net die."""
    optimiser: str = "muon"
    """`muon` or `adam`."""
    clip: float = 0.1
    """Largest norm of the gradient."""
    ema: float = 0.999
    """Decay of the moving average of the weights, which is what is kept."""
    precision: str = "bf16"
    """`bf16` (autocast) or `fp32`."""
    seed: int = 0
    """Decides initial weights, crops, flips and sub-nets; each step draws from (seed, step)."""
    validate_every: int = 5000
    """Steps between validation lines."""
    start: str | None = None
    """Name of a file beside the recipe with the weights to begin with: those of a supernet of the same width that may
    be less deep or of another scale (see `Supernet.start_from`). It is copied along with the recipe; `supernet` and
    `state` are taken."""
    start_share: float = 0.0
    """Share of the weights it began with in what is kept of the run at its end: the mean of two good networks that lie
    close together is often better than both (Wortsman et al., "Model soups", 2022)."""
    sizes: tuple[float, ...] = (1.0,)
    """The training pictures at these sizes, as shares of their sides; smaller ones have finer detail."""
    colours: bool = False
    """Whether crops get their channels in any order, half of them as negatives: more kinds from few pictures."""

    def __post_init__(self) -> None:
        for name, kind in _KINDS.items():
            value = getattr(self, name)
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                raise ArtefactError(f"recipe: {name} cannot be {value!r}")
        if self.seed < 0:
            raise ArtefactError(f"recipe: seed must be a whole number of 0 or more, not {self.seed!r}")
        for name in ("scale", "batch", "patch", "validate_every"):
            if getattr(self, name) < 1:
                raise ArtefactError(f"recipe: {name} must be a whole number of 1 or more, not {getattr(self, name)!r}")
        shapes = list(self.subnets.values())
        fine = all(isinstance(s, tuple) and len(s) == 2 and _whole(s[0], 1) and _whole(s[1], 0) for s in shapes)
        if not shapes or not fine or len(set(shapes)) < len(shapes):
            raise ArtefactError(f"recipe: subnets must be different pairs of width and depth, not {self.subnets!r}")
        for name in self.subnets:
            if name == BICUBIC or not re.fullmatch(r"\w[\w.-]*", name):
                raise ArtefactError(f"recipe: subnets: '{name}' cannot be the name of a sub-net and its file")
        if not self.stages or not all(isinstance(stage, Stage) for stage in self.stages):
            raise ArtefactError("recipe: there must be at least one stage")
        depths = [math.inf if stage.depth is None else stage.depth for stage in self.stages]
        if depths != sorted(depths):
            raise ArtefactError("recipe: the depth of a stage cannot be below that of the stage before")
        if not self.sizes or not all(_real(size) and 0 < size <= 1 for size in self.sizes):
            raise ArtefactError(f"recipe: sizes must be one or more numbers above 0 and up to 1, not {self.sizes!r}")
        if self.start is not None and not re.fullmatch(r"(?!supernet\.|state\.)\w[\w.-]*\.safetensors", self.start):
            raise ArtefactError(f"recipe: start must be a NAME.safetensors of its own beside it, not {self.start!r}")
        if not (self.start_share == 0 or (self.start and 0 < self.start_share < 1)):
            raise ArtefactError(f"recipe: start_share must be within 0..1, and 0 without start, not {self.start_share}")
        deepest = max(depth for _, depth in shapes)
        if any(stage.revive and stage.depth is not None and stage.depth < deepest for stage in self.stages):
            raise ArtefactError("recipe: revive needs the whole depth; what is added later must begin as the identity")
        if self.optimiser not in OPTIMISERS:
            raise ArtefactError(f"recipe: optimiser must be one of {', '.join(OPTIMISERS)}, not {self.optimiser!r}")
        if self.precision not in ("bf16", "fp32"):
            raise ArtefactError(f"recipe: precision must be 'bf16' or 'fp32', not {self.precision!r}")
        if not self.clip > 0 or self.warmup < 0 or not 0 <= self.ema < 1:
            raise ArtefactError("recipe: clip must be above 0, warmup 0 or more and ema within 0..1")

    @property
    def borders(self) -> list[int]:
        """The step at which each stage begins, and last the one at which all have ended."""
        return list(itertools.accumulate((stage.steps for stage in self.stages), initial=0))

    @property
    def steps(self) -> int:
        """Steps of all stages together."""
        return self.borders[-1]

    def at(self, step: int) -> tuple[Stage, float]:
        """The stage of the step number `step` (from 0) and its learning rate."""
        number = min(bisect.bisect_right(self.borders, step), len(self.stages)) - 1
        stage, past = self.stages[number], step - self.borders[number]
        rise = min(1.0, (past + 1) / (self.warmup + 1))
        fall = 0.5 * (1 + math.cos(math.pi * past / (stage.decay_steps or stage.steps)))
        return stage, stage.learning_rate * rise * fall

    def continues(self, other: "Recipe", step: int) -> bool:
        """Whether a run of `other` can go on with this recipe after `step` steps: only later stages differ."""
        begun = max(1, bisect.bisect_left(other.borders, step))
        mine, theirs = (dataclasses.replace(recipe, stages=recipe.stages[:begun]) for recipe in (self, other))
        return mine == theirs

    def copy_start(self, source: Path, target: Path) -> None:
        """Bring the weights to begin with, when there are some, from beside a recipe to the folder `target`."""
        if self.start:
            try:
                weights = (source / self.start).read_bytes()
            except OSError as error:
                raise ArtefactError(f"{source / self.start}: the recipe starts from it ({error})") from error
            target.mkdir(parents=True, exist_ok=True)
            write_bytes(target / self.start, weights)

    def to_json(self) -> str:
        """The recipe as JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        """The recipe that `text` describes; ArtefactError, ValueError or TypeError name the field that is wrong."""
        data = parse_json(text)
        if not isinstance(data, dict):
            raise ArtefactError("recipe: must be a JSON object")
        known = {f.name for f in dataclasses.fields(cls)}
        for name in data:
            if name not in known:
                raise ArtefactError(f"recipe: unknown field '{name}'")
        if isinstance(data.get("subnets"), dict):
            data["subnets"] = {k: tuple(v) if isinstance(v, list) else v for k, v in data["subnets"].items()}
        if isinstance(data.get("sizes"), list):
            data["sizes"] = tuple(data["sizes"])
        if isinstance(data.get("stages"), list):
            data["stages"] = tuple(_stage(*item) for item in enumerate(data["stages"]))
        return cls(**data)

    @classmethod
    def load(cls, path: Path) -> "Recipe":
        """Read a recipe; ArtefactError names the file and the field that is wrong."""
        try:
            return cls.from_json(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError, ArtefactError) as error:
            raise ArtefactError(f"{path}: {error}") from error


def _stage(number: int, values: Any) -> Stage:
    try:
        if not isinstance(values, dict):
            raise ArtefactError(f"must be an object, not {values!r}")
        if isinstance(values.get("sampling"), dict):
            values = {**values, "sampling": Sampling(**values["sampling"])}
        return Stage(**values)
    except (TypeError, ArtefactError) as error:
        raise ArtefactError(f"recipe: stages[{number}]: {error}") from error


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _real(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
