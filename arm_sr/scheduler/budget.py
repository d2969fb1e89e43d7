"""Budgets: what one picture may cost."""

import math
import re
from dataclasses import dataclass

from ..errors import BudgetError

_UNITS = {
    "%": ("share", 0.01),
    "": ("share", 1.0),
    "MAC": ("macs", 1.0),
    "MMAC": ("macs", 1e6),
    "GMAC": ("macs", 1e9),
    "TMAC": ("macs", 1e12),
    "ms": ("ms", 1.0),
    "s": ("ms", 1000.0),
}
_HINT = "use a share like 40% or 0.4, MACs like 2.5GMAC, time like 150ms, or max"


@dataclass(frozen=True)
class Budget:
    """What one picture may cost."""

    kind: str
    """`share` of what the largest sub-net costs everywhere, `macs`, `ms` on this device, or `max`."""
    value: float
    """Share from 0 to 1, MACs or milliseconds; infinite for `max`."""
    text: str
    """As it was asked for."""

    @classmethod
    def parse(cls, budget: "str | float | Budget") -> "Budget":
        """Read `40%`, `0.4`, `2.5GMAC`, `150ms`, `1.5s` or `max`; BudgetError when it is none or not positive."""
        if isinstance(budget, Budget):
            return budget
        text = str(budget).strip()
        if text.lower() == "max":
            return cls("max", math.inf, "max")
        match = re.fullmatch(r"([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?)\s*([a-z%]*)", text, re.IGNORECASE)
        unit = match and next((u for u in _UNITS if u.lower() == match[2].lower()), None)
        if not match or unit is None:
            raise BudgetError(f"budget '{text}' cannot be read; {_HINT}")
        kind, factor = _UNITS[unit]
        value = float(match[1]) * factor
        if not 0 < value < math.inf:
            raise BudgetError(f"budget '{text}' must be above 0 and finite; {_HINT}")
        if unit == "" and value > 1:
            raise BudgetError(f"budget '{text}' has no unit, and a share without % is at most 1; {_HINT}")
        return cls(kind, value, text)


def parse_deadline(text: str, what: str = "deadline") -> Budget:
    """Read `80ms` or `1.5s`; BudgetError, which says what it is of, when it is no time above 0."""
    try:
        budget = Budget.parse(text)
        if budget.kind == "ms":
            return budget
    except BudgetError:
        pass
    raise BudgetError(f"{what} '{text}' must be a time above 0, like 80ms or 1.5s")
