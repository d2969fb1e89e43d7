"""arm_sr: any-time image super-resolution within the compute you give it.

    import arm_sr
    large = arm_sr.upscale(image, scale=4, budget="40%")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import Result, Upscaler, upscale
    from .errors import ArmSRError, ArtefactError, BackendError, BudgetError, ImageError, ModelError, UsageError
    from .models import list_models
    from .scheduler import Budget, Plan

__version__ = "0.1.0"

_HOMES = {
    "api": ("Result", "Upscaler", "upscale"),
    "errors": ("ArmSRError", "ArtefactError", "BackendError", "BudgetError", "ImageError", "ModelError", "UsageError"),
    "models": ("list_models",),
    "scheduler": ("Budget", "Plan"),
}
__all__ = [
    "ArmSRError",
    "ArtefactError",
    "BackendError",
    "Budget",
    "BudgetError",
    "ImageError",
    "ModelError",
    "Plan",
    "Result",
    "UsageError",
    "Upscaler",
    "list_models",
    "upscale",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `arm-sr --help` waits for no engine."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f".{home}", __name__), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
