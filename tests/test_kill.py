"""Second stage: the command killed at any moment leaves whole files or none."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import skimage.data

from arm_sr import Upscaler
from arm_sr.imaging.io import read_image

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


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_ended_run_leaves_finished_files_only(tmp_path: Path, number: signal.Signals, status: int) -> None:
    """And says so."""
    (tmp_path / "in").mkdir()
    for name in range(40):
        PIL.Image.fromarray(skimage.data.astronaut()[name : 100 + name]).save(tmp_path / "in" / f"{name:02}.png")
    argv = [sys.executable, "-m", "arm_sr", "upscale", "in", "-o", "out", "-q"]
    argv = ["env", "--default-signal=INT", *argv]  # which is ignored in the background
    run = subprocess.Popen(argv, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while run.poll() is None and len(list((tmp_path / "out").glob("*.png"))) < 3:
        time.sleep(0.01)
    run.send_signal(number)
    _, stderr = run.communicate(timeout=60)
    assert (status, "arm-sr: interrupted\n") == (run.returncode, stderr)
    left = [path for path in (tmp_path / "out").iterdir() if path.name != ".arm-sr.jsonl"]
    assert 3 <= len(left) < 40
    for path in left:
        assert path.suffix == ".png" and read_image(path).pixels.shape == (400, 2048, 3)


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


def test_a_folder_of_500_killed_again_and_again(tmp_path: Path) -> None:
    """480 right and 20 named; killed at random moments and gone on with, it is the same to the byte as undisturbed, and
    what was finished is not done again."""
    photo = skimage.data.astronaut()
    suffixes = [".png", ".jpg", ".webp", ".tif", ".bmp"]
    broken = []
    for number in range(500):
        path = tmp_path / "in" / f"{number % 7}" / f"{number:03}{suffixes[number % 5]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        top, left = divmod(7 * number, 440)
        PIL.Image.fromarray(photo[8 * top : 8 * top + 16 + number % 40, left : left + 30 + number % 30]).save(path)
        if number % 25 == 3:
            data = path.read_bytes()
            path.write_bytes([b"", b"no picture", data[: len(data) // 2]][number % 3])
            broken.append(path.relative_to(tmp_path / "in").as_posix())
    assert len(broken) == 20

    def command(out: str, *more: str) -> list[str]:
        return [sys.executable, "-m", "arm_sr", "upscale", "in", "-o", out, "-r", "--width", "w16", "-q", *more]

    def found(out: str) -> dict[str, bytes]:
        paths = [path for path in (tmp_path / out).rglob("*") if path.is_file() and path.name != ".arm-sr.jsonl"]
        return {path.relative_to(tmp_path / out).as_posix(): path.read_bytes() for path in paths}

    def noted() -> dict[str, int]:
        """Where the outputs of the manifest are on the disk."""
        manifest = tmp_path / "out" / ".arm-sr.jsonl"
        lines = manifest.read_text().splitlines(keepends=True) if manifest.exists() else []
        names = [json.loads(line)["output"] for line in lines if line.endswith("\n")]
        return {name: (tmp_path / "out" / name).stat().st_ino for name in names}

    begun, argv = time.perf_counter(), command("whole", "--json", "r.json")
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begun
    assert done.returncode == 1
    reports = [json.loads(line) for line in (tmp_path / "r.json").read_text().splitlines()]
    assert sorted(f"in/{name}" for name in broken) == sorted(r["file"] for r in reports if "error" in r)
    assert "arm-sr: 20 of 500 pictures failed" in done.stderr
    whole = found("whole")
    assert len(whole) == 480 == len(reports) - 20
    upscaler = Upscaler("plain-x4")
    for name in whole:
        source = read_image(tmp_path / "in" / name).pixels
        right = upscaler.upscale(source, width="w16").image
        result = read_image(tmp_path / "whole" / name).pixels
        lossy = name.endswith(".jpg")
        assert np.array_equal(right, result) or (lossy and np.abs(right - result.astype(int)).mean() < 3)

    rng, kills = np.random.default_rng(), 0
    while True:
        before = noted()
        run = subprocess.Popen(command("out", "--resume"), cwd=tmp_path, stderr=subprocess.DEVNULL)
        if kills < 8:
            time.sleep(rng.uniform(0.05, 0.4) * seconds)
            run.kill()
            kills += 1
        status = run.wait()
        assert before.items() <= noted().items()
        part = {name: data for name, data in found("out").items() if not name.endswith(".tmp")}
        assert part.items() <= whole.items()
        if status == 1:
            break
    assert whole == found("out")
    assert len(noted()) == 480
