"""Small files that claim much, at both entrances: refused or borne, quickly and in little memory."""

import gc
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bombs import bombs
from servers import Client

from arm_sr.cli import main

SECONDS, MEGABYTES = 2.0, 150.0
BOMBS = dict(bombs())
EVERY = 6
"""Of the bombs one in so many belongs to the default tests."""


def one_in_some() -> list[object]:
    """All of them, most as slow tests."""
    slow = pytest.mark.slow
    return [pytest.param(name, marks=() if n % EVERY == 0 else slow, id=name) for n, name in enumerate(BOMBS)]


@contextmanager
def bounded() -> Iterator[None]:
    """Processor time, which other programs leave alone, and memory of this process."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, begun = _memory("VmRSS"), time.process_time()
    yield
    assert SECONDS > time.process_time() - begun
    assert MEGABYTES > _memory("VmHWM") - before


def _memory(name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


def test_there_are_enough() -> None:
    """Of every kind."""
    assert len(BOMBS) >= 90
    for kind in ("png", "jpeg", "webp", "tiff", "bmp", "gif", "svg"):
        assert [name for name in BOMBS if name.startswith(kind)]


@pytest.mark.parametrize("name", one_in_some())
def test_bomb_at_the_endpoint(client: Client, name: str) -> None:
    """A picture, or 413 or 422 with one sentence; the server goes on."""
    body = BOMBS[name]()
    assert len(body) < 8 << 20
    with bounded():
        reply = client.post("/upscale", body)
    if reply.status != 200:
        assert reply.status in (413, 422)
        assert re.fullmatch(r"the picture: [^\n]+; [^\n;]+", reply.json["error"])
    assert 200 == client.ask("GET", "/models").status


@pytest.mark.parametrize("name", one_in_some())
def test_bomb_at_the_command(name: str, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file, or status 1 with one sentence."""
    (tmp_path / "bomb").write_bytes(BOMBS[name]())
    with bounded():
        argv = ["upscale", tmp_path / "bomb", "-m", tiny_model, "-o", tmp_path / "sr.png", "-q"]
        status = main([str(word) for word in argv])
    assert (status == 0) == (tmp_path / "sr.png").exists()
    if status:
        assert 1 == status
        assert re.fullmatch(r"arm-sr: error: \S+: [^\n]+; [^\n;]+\n", capsys.readouterr().err)
