"""arm_sr: any-time image super-resolution within the compute you give it.

    import arm_sr
    large = arm_sr.upscale(image, scale=4, budget="40%")
"""

from .api import Result, Upscaler, upscale
from .errors import ArmSRError, ArtefactError, BackendError, BudgetError, ImageError, ModelError, UsageError
from .models import list_models
from .scheduler import Budget, Plan

__version__ = "0.1.0"

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
