"""Which sub-nets a training step updates."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..errors import ArtefactError


@dataclass(frozen=True)
class Sampling:
    """Compute-aware sub-net sampling.

    ARM (Chen et al., ECCV 2022) trains one sub-net a step with probability proportional to its MACs
    squared, which starves the smallest. Here every sub-net has at least `floor`, and the rest is shared
    in proportion to MACs ** `alpha`: p = floor + (1 - n * floor) * macs^alpha / sum(macs^alpha).
    The sandwich rule (Yu and Huang, ICCV 2019) trains the widest, the narrowest and one between, drawn
    by the same probabilities.
    """

    rule: str = "single"
    """`single`: one sub-net a step; `sandwich`: widest, narrowest and one between."""
    alpha: float = 2.0
    """Exponent of the MACs; 0 is uniform, 2 is ARM's code."""
    floor: float = 0.1
    """Least probability of every sub-net."""
    distil: bool = False
    """With `sandwich`: the others learn from the widest one's output (in-place distillation)."""

    def __post_init__(self) -> None:
        if self.rule not in ("single", "sandwich"):
            raise ArtefactError(f"sampling.rule must be 'single' or 'sandwich', not '{self.rule}'")
        numbers = all(isinstance(v, int | float) and math.isfinite(v) for v in (self.alpha, self.floor))
        if not numbers or self.alpha < 0 or not 0 <= self.floor <= 1:
            raise ArtefactError("sampling.alpha must be 0 or more and sampling.floor within 0..1")

    def probabilities(self, macs: Mapping[int, int]) -> dict[int, float]:
        """Probability of each width, from its MACs."""
        floor = min(self.floor, 1 / len(macs))
        power = np.array([float(m) for m in macs.values()]) ** self.alpha
        share = floor + (1 - len(macs) * floor) * power / power.sum()
        return dict(zip(macs, share.tolist(), strict=True))

    def draw(self, macs: Mapping[int, int], rng: np.random.Generator) -> list[int]:
        """The widths that one step trains, the widest first."""
        widths = sorted(macs)
        if self.rule == "single":
            share = self.probabilities(macs)
            return [int(rng.choice(widths, p=[share[w] for w in widths]))]
        drawn = {widths[-1], widths[0]}
        between = {w: macs[w] for w in widths[1:-1]}
        if between:
            share = self.probabilities(between)
            drawn.add(int(rng.choice(list(share), p=list(share.values()))))
        return sorted(drawn, reverse=True)
