"""The command in an empty folder, and a picture for it."""

from pathlib import Path

import numpy as np
import pytest

from arm_sr.cli import main


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run `arm-sr` in an empty folder: (exit status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def call(*argv: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            status = main([str(a) for a in argv])
        except SystemExit as stop:
            status = int(stop.code or 0)
        out, err = capsys.readouterr()
        return status, out, err

    return call


@pytest.fixture
def small(photo: np.ndarray) -> np.ndarray:
    """A piece of the photo, 60x50."""
    return np.ascontiguousarray(photo[:50, 180:240])
