"""Servers of the small model."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers import Client, serving

from arm_sr import Upscaler


@pytest.fixture(scope="session")
def tiny(tiny_model: Path) -> dict[str, Upscaler]:
    """The small model x2 on one thread."""
    return {"tiny-x2": Upscaler(tiny_model)}


@pytest.fixture
def serve(tiny: dict[str, Upscaler]) -> Iterator[Callable[..., Client]]:
    """Starts servers of the small model, which end with the test."""
    with contextlib.ExitStack() as servers:
        yield lambda **how: servers.enter_context(serving(tiny, **how))


@pytest.fixture(scope="module")
def client(tiny: dict[str, Upscaler]) -> Iterator[Client]:
    """A server of the small model with the usual limits, for all tests of a module."""
    with serving(tiny) as started:
        yield started
