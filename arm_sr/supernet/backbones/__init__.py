"""Backbones by name. A new one is a module here with a `Supernet` subclass under `@register("name")`."""

from . import plain as plain  # registers itself
from .base import BACKBONES, Shape, Supernet, build, register

__all__ = ["BACKBONES", "Shape", "Supernet", "build", "register"]
