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
    """`single`: one sub-net a step; `sandwich`: largest, smallest and one between."""
    alpha: float = 2.0
    """Exponent of the MACs; 0 is uniform, 2 is ARM's code."""
    floor: float = 0.2
    """Least probability of every sub-net."""
    distil: bool = False
    """With `sandwich`: the others learn from the largest one's output (in-place distillation)."""

    def __post_init__(self) -> None:
        if self.rule not in ("single", "sandwich"):
            raise ArtefactError(f"sampling.rule must be 'single' or 'sandwich', not '{self.rule}'")
        if not isinstance(self.distil, bool):
            raise ArtefactError(f"sampling.distil must be true or false, not {self.distil!r}")
        given = (self.alpha, self.floor)
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in given)
        if not numbers or self.alpha < 0 or not 0 <= self.floor <= 1:
            raise ArtefactError("sampling.alpha must be 0 or more and sampling.floor within 0..1")

    def probabilities(self, macs: Mapping[str, int]) -> dict[str, float]:
        """Probability of each sub-net, from its MACs."""
        floor = min(self.floor, 1 / len(macs))
        power = np.array([float(m) for m in macs.values()]) ** self.alpha
        share = floor + (1 - len(macs) * floor) * power / power.sum()
        return dict(zip(macs, share.tolist(), strict=True))

    def draw(self, macs: Mapping[str, int], rng: np.random.Generator) -> list[str]:
        """The sub-nets that one step trains, the largest first."""
        names = sorted(macs, key=lambda name: macs[name])
        if self.rule == "single":
            return [_choose(self.probabilities({name: macs[name] for name in names}), rng)]
        between = names[1:-1]
        drawn = [_choose(self.probabilities({name: macs[name] for name in between}), rng)] if between else []
        return list(dict.fromkeys([names[-1], *drawn, names[0]]))


def _choose(share: Mapping[str, float], rng: np.random.Generator) -> str:
    return list(share)[int(rng.choice(len(share), p=list(share.values())))]
