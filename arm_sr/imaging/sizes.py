"""How large a result is to be: a factor, a width and height, or the length of a side."""

import math
import re
from dataclasses import dataclass

from ..errors import UsageError

MOST = 999_999_999
"""Pixels of a side, and factor; no format holds as many."""


@dataclass(frozen=True)
class Size:
    """What is asked of a result; one of the first three, or of `width` and `height` at least one."""

    scale: float | None = None
    """Factor of both sides, at least 1."""
    short_side: int | None = None
    """Pixels of the shorter side,"""
    long_side: int | None = None
    """or of the longer one."""
    width: int | None = None
    """Pixels; without a height that follows from the picture's shape,"""
    height: int | None = None
    """and the other way round."""

    def __post_init__(self) -> None:
        if self.scale is not None and not 1 <= self.scale <= MOST:
            raise UsageError(f"scale {self.scale:g} must be a number from 1 to {MOST:,}, like 2 or 2.5")
        for name in ("short_side", "long_side", "width", "height"):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= MOST:
                raise UsageError(f"the {name.replace('_', ' ')} must be from 1 to {MOST:,} pixels, not {value}")

    @classmethod
    def parse(cls, text: str) -> "Size":
        """Read `1920x1080`, `1920x` or `x1080`; UsageError when it is none of these."""
        match = re.fullmatch(r"(\d{1,9})?x(\d{1,9})?", text.strip(), re.ASCII | re.IGNORECASE)
        if not match or match[1] is match[2] is None:
            raise UsageError(f"size '{text}' cannot be read; use 1920x1080, or 1920x or x1080 in its own shape")
        width, height = (None if digits is None else int(digits) for digits in match.groups())
        return cls(width=width, height=height)

    @property
    def tag(self) -> str:
        """For the name of a result."""
        if self.scale is not None:
            return f"x{self.scale:g}"
        if self.short_side or self.long_side:
            return f"short{self.short_side}" if self.short_side else f"long{self.long_side}"
        return f"{self.width or ''}x{self.height or ''}"

    def factor(self, height: int, width: int) -> float:
        """By how much a picture of this size is enlarged, the more enlarged side where they differ."""
        if self.scale is not None:
            return self.scale
        if self.short_side:
            return self.short_side / min(height, width)
        if self.long_side:
            return self.long_side / max(height, width)
        return max((self.width or 0) / width, (self.height or 0) / height)

    def of(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the result of a picture of this size, each at least 1."""
        factor = self.factor(height, width)
        rows, columns = (max(1, math.floor(side * factor + 0.5)) for side in (height, width))
        return self.height or rows, self.width or columns
