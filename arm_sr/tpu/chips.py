"""What the compiler makes for which chip."""

from dataclasses import dataclass

from ..errors import UsageError


@dataclass(frozen=True)
class Chip:
    """One of the TPUs."""

    name: str
    """As the compiler has it."""
    precisions: tuple[str, ...]
    """Arithmetic that it can do, as in `--quantize`; the first is that for floats."""
    profile: str
    """File into which the compiler writes the cycles."""
    variants: tuple[str, ...]
    """What is tried for INT8, see `compiling.FLOATS`."""
    combines: bool
    """Whether nets of several widths go into one file."""

    @property
    def floats(self) -> str:
        """Arithmetic for floats: of a whole net, or of the parts of an INT8 net that are not quantised."""
        return self.precisions[0]


_TWO = ("uint8", "float tail")
CHIPS = {
    chip.name: chip
    for chip in (
        Chip("bm1684x", ("F16", "INT8", "BF16", "F32"), "compiler_profile_0.txt", _TWO, combines=True),
        Chip("bm1684", ("F32", "INT8"), "_0.dat", (*_TWO, "float ends"), combines=False),
        Chip("bm1688", ("F16", "INT8", "BF16", "F32"), "compiler_profile_0.txt", _TWO, combines=True),
    )
}
"""By name."""


def chip_of(name: str, precision: str | None = None) -> Chip:
    """The chip of that name; UsageError when there is none or it lacks the precision."""
    if name not in CHIPS:
        raise UsageError(f"unknown chip '{name}'; there are {', '.join(CHIPS)}")
    chip = CHIPS[name]
    if precision is not None and precision not in chip.precisions:
        raise UsageError(f"{name} has no precision '{precision}', only {', '.join(chip.precisions)}")
    return chip
