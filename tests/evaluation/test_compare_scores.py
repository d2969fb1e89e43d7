"""The study of edge scores, as it is called."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from arm_sr.edges import SCORES

TOOL = Path(__file__).parents[2] / "tools" / "compare_scores.py"


@pytest.fixture
def folder(photo: np.ndarray, tmp_path: Path) -> Path:
    """A dozen pieces of a photo."""
    out = tmp_path / "photos"
    out.mkdir()
    for number in range(12):
        top, left = divmod(number, 4)
        PIL.Image.fromarray(photo[96 * top :, 96 * left :][:160, :144]).save(out / f"{number:02}.png")
    return out


def test_every_score_is_held_against_the_oracle(tiny_model: Path, folder: Path) -> None:
    """Those of the package and the candidates; none of them knows better than the oracle by more than its greed."""
    argv = [sys.executable, TOOL, "--train", folder, "--data", folder, "-m", tiny_model]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()[2:-1]]
    assert [*SCORES, "gradient-energy", "self-similarity", "w4-residual"] == [row[0] for row in rows]
    for row in rows:
        lost = [float(cell.removesuffix("%")) for cell in row[1:9]]
        assert min(lost) > -0.5
        assert all(-1 <= float(cell) <= 1 for cell in row[9:])
    assert re.search(r"12 pictures of photos, 108 patches", done.stdout)
