"""`arm-sr upscale --ray`: the folder job on a Ray cluster of this machine."""

import importlib.util
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

from arm_sr.cli import build_parser, main
from arm_sr.cli.files import find_files
from arm_sr.cli.scale_out import Worker
from arm_sr.errors import BackendError, ImageError
from arm_sr.imaging.sizes import Size
from arm_sr.manifest import NAME, file_digest

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed: the extra 'ray'")
ROOT = Path(__file__).parents[2]
WORKER = b"ray::MapWorker"
"""What Ray Data calls the processes that upscale."""


@pytest.fixture
def folder(tmp_path: Path, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one but for `in`, 14 pictures of which one is damaged."""
    monkeypatch.chdir(tmp_path)
    for number in range(14):
        path = tmp_path / "in" / str(number % 3) / f"{number:02}{['.png', '.jpg', '.tif'][number % 3]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(photo[20 * number : 20 * number + 130, 9 * number : 9 * number + 160]).save(path)
    data = (tmp_path / "in/0/09.png").read_bytes()
    (tmp_path / "in/0/09.png").write_bytes(data[: len(data) // 2])
    return tmp_path


def start(folder: Path, out: str, *more: str) -> "subprocess.Popen[str]":
    """The command on `in`; end it with `finish`."""
    argv = [sys.executable, "-m", "arm_sr", "upscale", "in", "-o", out, "-r", "-b", "60%", "-q", *more]
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(argv, cwd=folder, env=environment, **pipes)


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Exit status, stdout and stderr."""
    out, err = process.communicate()
    return process.returncode, out, err


def found(folder: Path) -> dict[str, bytes]:
    """The outputs."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def noted(folder: Path) -> dict[str, str]:
    """Outputs of the manifest with their digests; a line that is being written is left out."""
    lines = (folder / NAME).read_text().splitlines(keepends=True) if (folder / NAME).exists() else []
    entries = [json.loads(line) for line in lines if line.endswith("\n")]
    return {entry["output"]: entry["output_sha256"] for entry in entries}


def workers_below(process: int) -> Iterator[int]:
    """Processes that upscale among the descendants of a process."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent, name = int(stat.read_text().rpartition(")")[2].split()[1]), stat.with_name("cmdline").read_bytes()
        except OSError:  # it ended
            continue
        if parent == process:
            child = int(stat.parent.name)
            if name.startswith(WORKER):
                yield child
            yield from workers_below(child)


def wait_for(process: "subprocess.Popen[str]", out: Path, count: int) -> None:
    """Until so many outputs are in the manifest."""
    while len(noted(out)) < count:
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.01)


@needs_ray
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for the workers in /proc")
def test_whoever_is_killed_the_files_are_those_of_a_sequential_run(folder: Path) -> None:
    """Undisturbed, with a worker killed in the middle, and with the driver killed and gone on with: the same bytes, the
    same manifest, and the damaged picture named with exit status 1."""
    assert 1 == finish(start(folder, "one"))[0]
    expected, entries = found(folder / "one"), noted(folder / "one")
    assert 13 == len(expected) == len(entries)

    status, out, err = finish(start(folder, "two", "--ray", "--workers", "2", "--json", "-"))
    assert 1 == status
    first, *others = err.splitlines()
    assert first.startswith("arm-sr: error: in/0/09.png: ")
    assert ["arm-sr: 1 of 14 pictures failed", first.replace("arm-sr: error:", " ")] == others  # and nothing of Ray's
    assert (expected, entries) == (found(folder / "two"), noted(folder / "two"))
    reports = [json.loads(line) for line in out.splitlines()]
    assert 14 == len({report["file"] for report in reports}) == len(reports)
    assert ["in/0/09.png"] == [report["file"] for report in reports if "error" in report]

    disturbed = start(folder, "three", "--ray", "--workers", "2")
    wait_for(disturbed, folder / "three", 2)
    os.kill(next(workers_below(disturbed.pid)), signal.SIGKILL)
    assert (1, "", err) == finish(disturbed)
    assert (expected, entries) == (found(folder / "three"), noted(folder / "three"))

    killed = start(folder, "four", "--ray", "--workers", "2")
    wait_for(killed, folder / "four", 3)
    killed.kill()
    finish(killed)
    before = {name: (folder / "four" / name).stat().st_ino for name in noted(folder / "four")}
    assert 3 <= len(before) < 13
    assert (1, "", err) == finish(start(folder, "four", "--ray", "--workers", "2", "--resume"))
    assert (expected, entries) == (found(folder / "four"), noted(folder / "four"))
    assert before == {name: (folder / "four" / name).stat().st_ino for name in before}


@needs_ray
@pytest.mark.slow
def test_a_picture_that_kills_its_workers_is_named_and_no_other(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that waited behind it are done all the same."""
    (tmp_path / "killing").mkdir()
    (tmp_path / "killing/sitecustomize.py").write_text(
        "import os, sys\n"
        "def die(event, args):\n"
        "    if event == 'open' and str(args[0]).endswith('04.jpg') and 'default_worker' in sys.argv[0]:\n"
        "        os._exit(1)\n"
        "sys.addaudithook(die)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "killing"))
    status, _, err = finish(start(folder, "out", "--ray", "--workers", "2"))
    assert 1 == status
    assert "in/1/04.jpg: its worker died, every time" in err
    assert 12 == len(found(folder / "out")) == len(noted(folder / "out"))


@needs_ray
@pytest.mark.slow
def test_a_cluster_of_this_machine_alone_leaves_no_token(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one in the home folder, clusters that are started later would want it."""
    (folder / "home").mkdir()
    monkeypatch.setenv("HOME", str(folder / "home"))
    assert 1 == finish(start(folder, "out", "--ray"))[0]
    assert not (folder / "home/.ray").exists()


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize("token", ["", "5e" * 32], ids=["open", "token"])
def test_a_cluster_that_runs_is_found_by_its_address(
    folder: Path, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    """The same bytes and manifest as without it; it goes on running. A wrong token is a sentence."""
    monkeypatch.setenv("HOME", str(folder))  # where the token of another cluster may be
    monkeypatch.setenv("RAY_AUTH_MODE", "token" if token else "disabled")
    monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    assert 1 == finish(start(folder, "one"))[0]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    argv = [Path(sys.executable).with_name("ray"), "start", "--head", "--block", "--port", str(port)]
    options = ["--num-cpus", "2", "--include-dashboard", "false", "--disable-usage-stats"]
    with subprocess.Popen([*argv, *options], stdout=subprocess.PIPE, text=True, start_new_session=True) as cluster:
        try:
            assert cluster.stdout
            while "Ray runtime started" not in (line := cluster.stdout.readline()):
                assert line, cluster.wait()
            assert 1 == finish(start(folder, "two", "--ray", f"127.0.0.1:{port}"))[0]
            if token:
                for mode, wrong in (("token", "00" * 32), ("token", ""), ("disabled", "")):
                    monkeypatch.setenv("RAY_AUTH_MODE", mode)
                    monkeypatch.setenv("RAY_AUTH_TOKEN", wrong)
                    ended, _, err = finish(start(folder, "three", "--ray", f"127.0.0.1:{port}"))
                    assert ended == 1 and "need the same token (RAY_AUTH_MODE=token" in err and "Traceback" not in err
            assert cluster.poll() is None
        finally:
            os.killpg(cluster.pid, signal.SIGKILL)  # to SIGTERM it takes half a minute
    assert 13 == len(found(folder / "one"))
    assert (found(folder / "one"), noted(folder / "one")) == (found(folder / "two"), noted(folder / "two"))


@needs_ray
@pytest.mark.slow
def test_more_workers_than_processors_and_no_cluster_are_errors(folder: Path) -> None:
    """One sentence each, and nothing is written but the manifest."""
    for options, status, word in (
        (("--ray", "--workers", "999"), 2, "--workers must be from 1 to"),
        (("--ray", "127.0.0.1:1"), 1, "--ray 127.0.0.1:1: no Ray cluster there (", ),
    ):  # fmt: skip
        ended, _, err = finish(start(folder, "out", *options))
        assert (status, {}) == (ended, found(folder / "out"))
        assert word in err
        assert "Traceback" not in err


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("in", "--ray", "-b", "100ms"), "milliseconds"),
        (("in", "--ray", "--deadline", "1s"), "milliseconds"),
        (("in", "--ray", "--budget-total", "9s"), "milliseconds"),
        (("in", "--ray", "--dry-run"), "--dry-run"),
        (("in", "-", "--ray"), "stdin"),
        (("in/0/00.png", "--ray"), "--ray is for folders"),
        (("in", "--ray", "--workers", "0"), "at least 1"),
        (("in", "--workers", "2"), "--workers is for --ray"),
    ],
)
def test_what_cannot_be_spread_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], word: str
) -> None:
    """As wrong usage, before anything is done."""
    assert 2 == main(["upscale", *options, "-o", "out"])
    assert word in capsys.readouterr().err
    assert not (folder / "out").exists()


def test_without_ray_the_extra_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """How to install it."""
    monkeypatch.setitem(sys.modules, "ray", None)
    assert 1 == main(["upscale", "in", "-r", "-o", "out", "--ray"])
    assert "pip install 'arm-sr[ray]'" in capsys.readouterr().err


def test_a_worker_finds_the_files_of_the_driver(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it was started; where there is no such folder, every picture says so."""
    argv = ["upscale", "in/0", "-o", "out", "--width", "bicubic", "-q", "--ray"]
    args = build_parser().parse_args(argv)
    files, _ = find_files(args, "x4")
    (folder / "elsewhere").mkdir()
    monkeypatch.setenv("ARM_SR_THREADS", "1")  # what the worker sets is undone
    threads = cv2.getNumThreads()
    for number, file in enumerate(files):
        monkeypatch.chdir(folder / "elsewhere")
        worker = Worker(args, {"width": "bicubic"}, Size(scale=4), files, 1, folder)
        finished = pickle.loads(worker({"number": number})["finished"])
        if file.name == "09.png":
            assert isinstance(finished, ImageError)
            continue
        (_, report), digests = finished
        assert (f"in/0/{file.name}", f"out/{file.name}") == (report["file"], report["output_file"])
        assert (file_digest(folder / file.source), file_digest(folder / file.target)) == digests
    cv2.setNumThreads(threads)
    args.model = "missing"
    without = pickle.loads(Worker(args, {}, Size(scale=4), files, 1, folder)({"number": 0})["finished"])
    assert isinstance(without, BackendError)
    assert "missing" in str(without)
    nowhere = Worker(args, {"width": "bicubic"}, Size(scale=4), files, 1, folder / "nowhere")
    assert f"has no folder {folder / 'nowhere'}" in str(pickle.loads(nowhere({"number": 0})["finished"]))
