"""From predictions and costs to a plan: budget, ARM's rule, the solver and the merging of patches."""

from .budget import Budget
from .plan import Plan

__all__ = ["Budget", "Plan"]
