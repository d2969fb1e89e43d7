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
        PIL.Image.fromarray(photo[96 * top :, 96 * left :][:240, :208]).save(out / f"{number:02}.png")
    return out


@pytest.mark.slow
def test_every_score_is_held_against_the_oracle(folder: Path) -> None:
    """Those of the package and the candidates; none of them knows better than the oracle by more than its greed."""
    argv = [sys.executable, TOOL, "--train", folder, "--data", folder]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    table = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    names = [*SCORES, "laplacian-energy", "gradient-energy", "self-similarity", "w16-residual"]
    titles = ["within a share of each picture", "by a trade-off", "rank correlation"]
    assert [name for title in titles for name in (title, *names)] == [row[0] for row in table]
    each = len(names) + 1
    for row in table[1:each] + table[each + 1 : 2 * each]:
        lost = [float(cell.removesuffix("%")) for cell in row[1:]]
        assert len(lost) == 8
        assert min(lost) > -0.5
    assert all(-1 <= float(cell) <= 1 for row in table[2 * each + 1 :] for cell in row[1:])
    assert re.search(r"12 pictures of photos, 48 patches", done.stdout)
