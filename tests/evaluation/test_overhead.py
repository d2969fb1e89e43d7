"""What is added to inference, and what more threads bring."""

import time
from pathlib import Path

import numpy as np
import pytest

from arm_sr import Upscaler
from arm_sr.backends import BACKENDS
from arm_sr.cost import CostTable
from arm_sr.evaluation.arms import Engine
from arm_sr.evaluation.overhead import inference, planning, predictions, thread_scaling


@pytest.fixture(scope="module")
def upscalers(tiny_model: Path) -> dict[str, Upscaler]:
    """Two engines."""
    return {name: Upscaler(tiny_model, backend=name) for name in ("onnxruntime", "openvino")}


@pytest.fixture
def lr(photo: np.ndarray) -> np.ndarray:
    """A small picture."""
    return np.ascontiguousarray(photo[100:140, 150:200])


def test_planning_is_measured_against_resizing(
    upscalers: dict[str, Upscaler], lr: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No sub-net runs."""
    monkeypatch.setattr(upscalers["onnxruntime"].backend, "run", None)
    row = planning(upscalers["onnxruntime"], lr, 3)
    assert {"ms", "direct_ms", "ratio"} == set(row)
    assert min(row.values()) > 0


def test_every_branch_of_every_engine_is_measured(upscalers: dict[str, Upscaler], lr: np.ndarray) -> None:
    """One of them everywhere, and once what is not inference."""
    branches, rests = inference(upscalers, lr, 3)
    expected = [(engine, branch) for engine in upscalers for branch in ("w4", "w8")]
    assert expected == [(row["engine"], row["branch"]) for row in branches]
    assert list(upscalers) == [row["engine"] for row in rests]
    for row in branches + rests:
        assert min(row["ms"], row["direct_ms"], row["ratio"]) > 0
    direct = {row["engine"]: row["direct_ms"] for row in branches if row["branch"] == "w8"}
    assert direct == {row["engine"]: row["direct_ms"] for row in rests}


def test_inference_itself_is_not_in_the_rest(upscalers: dict[str, Upscaler], lr: np.ndarray,
                                             monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """Nor can it hide: the plan of 40% computes something."""
    upscaler = upscalers["onnxruntime"]
    run = upscaler.backend.run
    spun: list[str] = []

    def slow(branch: str, batch: np.ndarray) -> np.ndarray:
        spun.append(branch)
        for _ in range(50):
            result = run(branch, batch)
        return result

    monkeypatch.setattr(upscaler.backend, "run", slow)
    branches, [rest] = inference({"slow": upscaler}, lr, 3)
    assert len(spun) > 4 * 4  # four direct calls a round
    assert rest["ratio"] < 0.5
    assert rest["direct_ms"] == branches[-1]["direct_ms"]


def test_plans_are_compared_with_what_they_take(tiny_model: Path, lr: np.ndarray,
                                                monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """An engine that takes longer than was measured is found out; the picture loses a row every time."""
    upscaler = Upscaler(tiny_model, backend="onnxruntime")
    cost = CostTable("ms", upscaler.branches, np.zeros(3), np.array([0, 1e-3, 2e-3]), "made up")
    monkeypatch.setattr(upscaler.planner, "_measured", cost)
    run = upscaler.backend.run
    monkeypatch.setattr(upscaler.backend, "run", lambda *what: (time.sleep(0.05), run(*what))[1])
    done: list[int] = []
    rows = predictions(upscaler, {"a": lr, "b": lr[:20]}, (0.5, 1.1), 3, done.append)
    expected = [("a", 0.5), ("a", 1.1), ("b", 0.5), ("b", 1.1)]
    assert expected == [(row["picture"], row["share"]) for row in rows]
    assert len(done) == 4 * 4
    assert rows[1]["planned_ms"] == pytest.approx(2e-3 * (lr.shape[0] - 2) * lr.shape[1])
    for row in rows:
        assert row["ms"] >= 50
        assert row["ratio"] == pytest.approx(row["ms"] / row["planned_ms"], rel=0.1)


@pytest.mark.parametrize("name", BACKENDS)
def test_threads_are_compared_in_one_process(tiny_model: Path, lr: np.ndarray, name: str) -> None:
    """Each against the first number, which is as fast as itself."""
    engine = Engine.of(str(tiny_model), name)
    done: list[int] = []
    rows = thread_scaling([engine], ["w4", "w8"], lr, [1, 2], 3, done.append)
    assert [("w4", 1), ("w4", 2), ("w8", 1), ("w8", 2)] == [(row["branch"], row["threads"]) for row in rows]
    assert {str(engine)} == {row["engine"] for row in rows}
    assert [1, 1] == [row["speed_up"] for row in rows if row["threads"] == 1]
    assert all(row["ms"] > 0 and row["speed_up"] > 0 for row in rows)
    assert len(done) == 4 * 4
