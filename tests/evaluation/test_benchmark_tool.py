"""tools/benchmark.py: what it runs, prints and writes."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import PIL.Image
import pytest

from arm_sr.backends.threads import allowed_threads
from arm_sr.errors import ImageError, UsageError

TOOL = Path(__file__).parent.parent.parent / "tools" / "benchmark.py"
Run = Callable[..., list[str]]


@pytest.fixture
def tool() -> ModuleType:
    """The tool as a module."""
    spec = importlib.util.spec_from_file_location("benchmark_tool", TOOL)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def data(tmp_path: Path, photo: np.ndarray) -> Path:
    """A folder of two pictures."""
    folder = tmp_path / "photos"
    folder.mkdir()
    PIL.Image.fromarray(photo[:60, 100:180]).save(folder / "a.png")
    PIL.Image.fromarray(photo[100:140, 100:160]).save(folder / "b.png")
    return folder


@pytest.fixture
def run(tool: ModuleType, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The tool with the random model, in this process: the lines that it prints."""

    def run(command: str, *options: object) -> list[str]:
        argv = [command, "-m", tiny_model, "--repeats", 1, *options]
        monkeypatch.setattr(sys, "argv", ["benchmark.py", *map(str, argv)])
        tool.main()
        return capsys.readouterr().out.splitlines()

    return run


def test_a_curve_has_every_arm_of_every_engine(
    run: Run, tool: ModuleType, data: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the table, the JSON and the plot; memory is that of the largest picture."""
    sizes = []
    monkeypatch.setattr(tool, "peak_rss", lambda arm, lr: sizes.append(lr.shape) or 100.0 + len(sizes))
    others = ["--arm", tiny_model / "lut.json", "--etas", "0,1", "--onnx", tiny_model / "w4.onnx"]
    lines = run("curve", "--data", data, "--backend", "onnxruntime", "openvino", "--budgets", "40%,80%",
                "--trade-offs", "2", *others, "-o", tmp_path / "out")  # fmt: skip
    own = ["static w4", "static w8", "time 40%", "time 80%", "trade-off eta 2", "arm eta 0", "arm eta 1"]
    expected = [("opencv", "static bicubic")]
    expected += [(engine, arm) for engine in ("onnxruntime fp32", "openvino fp32") for arm in own]
    expected += [("onnxruntime fp32", "onnx w4.onnx")]
    table = [line for line in lines if line.startswith("| ")][1:]
    assert expected == [tuple(line.split(" | ")[:2]) for line in (line.removeprefix("| ") for line in table)]
    [run_] = json.loads((tmp_path / "out" / "curve.json").read_text())
    assert expected == [(row["engine"], f"{row['rule']} {row['value']}") for row in run_["rows"]]
    assert [101 + n for n in range(len(expected))] == [row["peak_rss_mib"] for row in run_["rows"]]
    assert {(30, 40, 3)} == set(sizes)
    assert (tmp_path / "out" / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert 4 == sum(" arm eta " in line and "is as good" in line for line in lines)
    assert ("tiny-x2", 2, 1) == (run_["model"], run_["pictures"], run_["repeats"])


def test_overhead_is_told_for_every_sub_net(run: Run, data: Path, tmp_path: Path) -> None:
    """As medians over the pictures, of which the JSON has each."""
    lines = run("overhead", "--data", data, "--backend", "onnxruntime", "openvino", "--json", tmp_path / "a.json")
    for engine in ("onnxruntime fp32", "openvino fp32"):
        for name in (f"{engine} w4", f"{engine} w8", engine):
            assert 1 == sum(line.startswith(f"| {name} |") for line in lines)
    [figures] = json.loads((tmp_path / "a.json").read_text())
    assert (2, 8, 4) == tuple(len(figures[name]) for name in ("planning", "one_branch", "not_inference"))
    assert {("a.png", 40, 30), ("b.png", 30, 20)} == {(row["picture"], *row["lr"]) for row in figures["one_branch"]}


def test_predictions_are_told_for_every_engine(run: Run, data: Path, tmp_path: Path) -> None:
    """A row by share and a line about the errors; the JSON has every plan."""
    lines = run("prediction", "--data", data, "--backend", "onnxruntime", "openvino", "--json", tmp_path / "a.json")
    for engine in ("onnxruntime fp32", "openvino fp32"):
        [row] = [line for line in lines if line.startswith(f"| {engine} |")]
        assert 10 == len(row.strip("| ").split(" | ")[1:])
        assert 1 == sum(line.startswith(f"- {engine}: 20 plans") for line in lines)
    [figures] = json.loads((tmp_path / "a.json").read_text())
    assert 2 * 2 * 10 == len(figures["rows"])
    assert {"a.png", "b.png"} == {row["picture"] for row in figures["rows"]}


def test_scaling_takes_a_picture_and_sub_nets(run: Run, data: Path, tmp_path: Path) -> None:
    """And the threads that are allowed."""
    lines = run("scaling", "--picture", data / "a.png", "--width", "w4", "w8", "--json", tmp_path / "a.json")
    assert "LR 80x60" in lines[0]
    [figures] = json.loads((tmp_path / "a.json").read_text())
    counts = sorted({1, allowed_threads()})
    expected = [(branch, count) for branch in ("w4", "w8") for count in counts]
    assert expected == [(row["branch"], row["threads"]) for row in figures["rows"]]
    with pytest.raises(UsageError, match=r"--width must be of w4, w8, not 'w6'"):
        run("scaling", "--width", "w6")


def test_threads_run_in_a_process_of_their_own(data: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Which may use so many processors only."""
    argv = [sys.executable, TOOL, "deadline", "--data", data, "--calls", "4", "--threads", "1",
            "-m", tiny_model, "--json", tmp_path / "a.json"]  # fmt: skip
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, check=True)
    [figures] = json.loads((tmp_path / "a.json").read_text())
    assert figures["machine"].endswith(", 1 threads")
    assert ["idle", "one core taken"] == [row["load"] for row in figures["rows"]]
    assert all(len(row["psnr"]) == 10 and 0 <= row["within_5_ms"] <= 1 for row in figures["rows"])
    assert [10, None] == [len(row["gain_over_plan"]) if row["load"] == "idle" else None for row in figures["rows"]]
    assert "onnxruntime fp32, idle: 20 calls up to" in done.stdout
    assert "against plans for 0.7 of the time:" in done.stdout


def test_what_is_not_there_is_named(run: Run, data: Path) -> None:
    """Pictures and processors."""
    with pytest.raises(ImageError, match="no picture with a side of 2000"):
        run("overhead", "--data", data, "--min-side", 2000)
    with pytest.raises(UsageError, match="--threads must be from 1 to"):
        run("curve", "--data", data, "--threads", 4096)
