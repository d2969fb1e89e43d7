"""Backbones by name. A new one is a module here with a `Supernet` subclass under `@register("name")`."""

from .base import BACKBONES, Supernet, build, register
from . import plain  # noqa: F401  registers itself

__all__ = ["BACKBONES", "Supernet", "build", "register"]
