"""Backbones by name. A new one is a module here with a `Supernet` subclass under `@register("name")`."""

from . import abpn, carn, espcn, fsrcnn, plain, srresnet  # noqa: F401  register themselves
from .base import BACKBONES, Shape, Supernet, build, register

__all__ = ["BACKBONES", "Shape", "Supernet", "build", "register"]
