"""Second stage: memory does not grow with the variety of shapes."""

import subprocess
import sys

import pytest

from arm_sr.backends import BACKENDS, PRECISIONS

pytestmark = pytest.mark.slow

PROGRAM = """
import sys
from itertools import product
from pathlib import Path
import numpy as np
from arm_sr.backends import open_backend
from arm_sr.models import load_model

def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) / 1024

backend = open_backend(sys.argv[1], load_model("plain-x4"), sys.argv[2])
grown = []
for sides in (range(16, 32), range(32, 48)):
    begun = resident()
    for height, width in product(range(16, 32), sides):
        backend.run("w16", np.zeros((1, height, width, 3), np.uint8))
    grown.append(resident() - begun)
print(*grown)
"""


@pytest.mark.parametrize(("name", "precision"), [(n, p) for n in BACKENDS for p in PRECISIONS[n]])
def test_five_hundred_shapes_do_not_fill_memory(name: str, precision: str) -> None:
    """Prepared layers of the first 256 are dropped for those of the next: it grows by less than 50 MiB more."""
    argv = [sys.executable, "-c", PROGRAM, name, precision]
    run = subprocess.run(argv, check=False, capture_output=True, text=True)
    if precision == "bf16" and "no bf16 units" in run.stderr:
        pytest.skip("this processor has no bf16 units")
    assert 0 == run.returncode, run.stderr
    assert float(run.stdout.split()[1]) < 50
