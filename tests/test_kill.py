"""Second stage: the command killed at any moment leaves whole files or none."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import skimage.data

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("part", [0.2, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99])
def test_a_killed_run_leaves_no_half_picture(tmp_path: Path, part: float) -> None:
    """SIGKILL at a share of the time that a whole run takes: the old outputs, or new whole ones."""
    PIL.Image.fromarray(skimage.data.astronaut()).save(tmp_path / "a.png")
    argv = [sys.executable, "-m", "arm_sr", "upscale", "a.png", "-b", "20%", "-q", "-o", "b.png", "--heatmap", "h.png"]
    begun = time.perf_counter()
    subprocess.run(argv, cwd=tmp_path, check=True)
    whole = time.perf_counter() - begun
    expected = {name: (tmp_path / name).read_bytes() for name in ("b.png", "h.png")}
    for name in expected:
        (tmp_path / name).write_bytes(b"old")
    run = subprocess.Popen(argv, cwd=tmp_path)
    time.sleep(part * whole)
    run.kill()
    run.wait()
    for name, data in expected.items():
        assert (tmp_path / name).read_bytes() in (b"old", data)


def test_a_large_picture_has_the_exact_size(tmp_path: Path) -> None:
    """1000x750 noise at 30% becomes 4000x3000."""
    rng = np.random.default_rng(0)
    PIL.Image.fromarray(rng.integers(0, 256, (750, 1000, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    argv = [sys.executable, "-m", "arm_sr", "upscale", "a.png", "-b", "30%", "-q", "-o", "b.png"]
    subprocess.run(argv, cwd=tmp_path, check=True)
    with PIL.Image.open(tmp_path / "b.png") as image:
        assert (4000, 3000) == image.size


def test_memory_does_not_grow_with_the_result(tmp_path: Path) -> None:
    """A result of 20,000x20,000 pixels, 1.2 GB, stays under 600 MB."""
    ramp = np.add.outer(np.arange(5000), np.arange(5000)) // 40
    PIL.Image.fromarray(np.repeat(ramp.astype(np.uint8)[..., None], 3, axis=2)).save(tmp_path / "a.png")
    code = (
        "import sys; from arm_sr.cli import main; main(sys.argv[1:])\n"
        # ru_maxrss would begin with the memory of the process that started this one.
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    argv = [sys.executable, "-c", code, "upscale", "a.png", "--width", "w16", "-q", "-o", "b.png"]
    done = subprocess.run(argv, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert int(done.stdout) < 600 * 1024
    header = (tmp_path / "b.png").read_bytes()[16:24]
    assert (20000, 20000) == (int.from_bytes(header[:4], "big"), int.from_bytes(header[4:], "big"))
