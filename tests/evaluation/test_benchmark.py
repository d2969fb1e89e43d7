"""The comparison of what takes part, ARM's own procedure, and deadlines."""

import io
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from arm_sr import Upscaler
from arm_sr.cost import CostTable
from arm_sr.evaluation.arm_procedure import starts, upscale_like_arm
from arm_sr.evaluation.arms import (
    Arm,
    Engine,
    Upscale,
    interpolation_arm,
    onnx_arm,
    procedure_arm,
    routed_arm,
    static_arms,
)
from arm_sr.evaluation.benchmark import compare, deadlines, spread_calls
from arm_sr.evaluation.benchmark_report import as_good_lines, markdown, plot
from arm_sr.evaluation.pairs import Pair
from arm_sr.imaging.metrics import psnr
from arm_sr.imaging.resample import lr_bicubic
from arm_sr.stitch import interpolate


@pytest.fixture(scope="module")
def upscaler(tiny_model: Path) -> Upscaler:
    """The random model with its table."""
    return Upscaler(tiny_model)


@pytest.fixture(scope="module")
def pairs(photo: np.ndarray) -> list[Pair]:
    """Two pictures of different sizes."""
    pictures = [np.ascontiguousarray(photo[:100, 100:220]), np.ascontiguousarray(photo[200:280, :90])]
    return [Pair(f"{n}", hr, lr_bicubic(hr, 2)) for n, hr in enumerate(pictures)]


def test_arms_are_compared_on_all_pictures(pairs: list[Pair], tiny_model: Path) -> None:
    """Figures are those of the pictures that each arm gives; the arm compared against has a ratio of one."""
    engine = Engine.of(str(tiny_model), "onnxruntime")
    table = CostTable("ms", engine.upscaler().branches, np.zeros(3), np.array([0.0, 1.0, 3.0]), "made up")
    arms = [interpolation_arm(2), *static_arms(engine), procedure_arm(engine, "1", None)]
    arms += [routed_arm(engine, "30%", table), onnx_arm(tiny_model / "w8.onnx", 2)]
    done: list[int] = []
    rows = compare(arms, pairs, 2, [arms[2]], rounds=3, done=done.append)
    assert len(done) == sum(done) == len(arms) * len(pairs) * 4
    assert [(arm.engine, arm.rule, arm.value) for arm in arms] == [(r["engine"], r["rule"], r["value"]) for r in rows]
    assert rows[2]["ratio"] == 1
    for row, arm in zip(rows, arms, strict=True):
        expected = np.mean([psnr(arm.open()(pair.lr)[0], pair.hr, 2) for pair in pairs])
        assert row["psnr_rgb"] == pytest.approx(expected)
        assert 0 < row["engine_share"] <= 1
        assert row["ms"] > 0
    assert rows[-1]["psnr_rgb_all"] == rows[2]["psnr_rgb_all"]  # the same network, once by its file


class Clock:
    """Time that passes when it is told to."""

    now = 0.0

    def perf_counter(self) -> float:
        """Seconds."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The one that times are taken from."""
    clock = Clock()
    monkeypatch.setattr("arm_sr.evaluation.timing.time", clock)
    return clock


ARMS: dict[tuple[str, str, str], tuple[float, float, int]] = {
    ("opencv", "static", "bicubic"): (1, 1, 9),
    ("one", "static", "w16"): (20, 20, 6),
    ("one", "static", "w64"): (100, 100, 3),
    ("one", "time", "50%"): (50, 40, 5),
    ("one", "trade-off", "eta 2"): (40, 30, 5),
    ("one", "arm", "eta 1"): (80, 60, 5),
    ("one", "arm", "eta 9"): (200, 50, 2),
    ("two", "static", "w16"): (10, 10, 6),
    ("two", "static", "w64"): (40, 40, 3),
    ("two", "arm", "eta 1"): (50, 40, 4),
    ("other", "onnx", "a.onnx"): (30, 30, 4),
}
"""By engine, rule and value: milliseconds in all and in the engine, and the error of every pixel."""


@pytest.fixture
def rows(clock: Clock) -> list[dict[str, Any]]:
    """Their comparison on one picture, on a machine that gets slower from call to call."""
    hr = np.full((40, 60, 3), 100, np.uint8)
    slower = iter(np.linspace(1, 1.2, 1000))

    def made(ms: float, busy: float, error: int) -> Upscale:
        def run(lr: np.ndarray) -> tuple[np.ndarray, float]:
            factor = next(slower)
            clock.now += factor * ms / 1e3
            return hr + np.uint8(error), factor * busy

        return run

    arms = [Arm(*name, partial(made, *figures)) for name, figures in ARMS.items()]
    return compare(arms, [Pair("a", hr, hr[::2, ::2])], 2, [arms[2], arms[8]], rounds=7)


def test_ratios_hold_while_the_machine_slows_down(rows: list[dict[str, Any]]) -> None:
    """To the largest sub-net of the first engine, and of its own; arms of other engines belong to the first."""
    for row, (ms, busy, error) in zip(rows, ARMS.values(), strict=True):
        assert pytest.approx(ms / 100, rel=2e-3) == row["ratio"]
        assert pytest.approx(ms / (40 if row["engine"] == "two" else 100), rel=2e-3) == row["own_ratio"]
        assert pytest.approx(busy / ms) == row["engine_share"]
        assert pytest.approx(20 * np.log10(255 / error)) == row["psnr_rgb_all"]


def test_arms_stand_beside_those_of_their_engine(rows: list[dict[str, Any]]) -> None:
    """The best single pass that takes no longer."""
    beside = [row["static"] for row in rows]
    assert [None, "bicubic", "w16", "w16", "w16", "w16", "w64", "bicubic", "w16", "w64", "w16"] == beside
    assert pytest.approx(20 * np.log10(6 / 5)) == rows[3]["gain_rgb_all"]


def test_the_procedure_stands_beside_the_fastest_that_is_as_good(rows: list[dict[str, Any]]) -> None:
    """Of its engine, with the share of its time, and of its time without what Python adds."""
    one, none, two = (row for row in rows if row["rule"] == "arm")
    assert ("trade-off eta 2", "static w64") == (one["as_good"], two["as_good"])
    assert pytest.approx([40 / 80, 40 / 60], rel=0.02) == [one["as_good_ratio"], one["as_good_engine_ratio"]]
    assert pytest.approx([40 / 50, 40 / 40], rel=0.02) == [two["as_good_ratio"], two["as_good_engine_ratio"]]
    assert [None, None, None] == [none["as_good"], none["as_good_ratio"], none["as_good_engine_ratio"]]
    lines = as_good_lines(rows).splitlines()
    assert lines[0].startswith("- one arm eta 1, 34.151 dB: trade-off eta 2 is as good in 0.5")
    assert lines[1] == "- one arm eta 9, 42.110 dB: no arm of this engine is as good"
    assert len(lines) == 3


def test_a_comparison_is_shown(rows: list[dict[str, Any]]) -> None:
    """As a table, with memory where it is known, and as a plot with a panel a run."""
    rows[1]["peak_rss_mib"] = 123.4
    rows[2]["peak_rss_mib"] = None
    table = markdown(rows, "one", "w64").splitlines()
    assert len(table) == 2 + len(ARMS)
    assert len({line.count("|") for line in table}) == 1
    assert "| one | static w16 | 0.200 | 0.200 |" in table[3] and "| 123 |" in table[3]
    one, two = (PIL.Image.open(io.BytesIO(plot([("title", rows)] * count))) for count in (1, 2))
    assert (2 * one.width, one.height) == two.size


@pytest.mark.parametrize("size", [1, 15, 16, 17, 28, 44, 45, 60, 100])
def test_patches_of_the_procedure_cover_every_pixel(size: int) -> None:
    """At most seven eighths of their side apart, the last at the border."""
    begins = starts(size, 16)
    assert begins[0] == 0
    assert begins[-1] == max(0, size - 16)
    assert all(b - a <= 14 for a, b in pairwise(begins))
    assert starts(100, 32) == [0, 28, 56, 68]


def test_the_procedure_routes_every_patch_alone(upscaler: Upscaler, photo: np.ndarray) -> None:
    """One patch is one call of the branch that the rule names; eta 0 interpolates; overlaps are averaged."""
    lr = np.ascontiguousarray(photo[:16, :16])
    sr, busy = upscale_like_arm(upscaler, lr, 1000.0)
    assert np.array_equal(upscaler.backend.run("w8", lr[None])[0], sr)
    assert busy > 0
    assert np.array_equal(interpolate(lr, 2), upscale_like_arm(upscaler, lr, 0.0)[0])
    lr = np.ascontiguousarray(photo[:16, :20])
    left, right = (upscaler.backend.run("w8", np.ascontiguousarray(lr[None, :, x : x + 16]))[0] for x in (0, 4))
    sr = upscale_like_arm(upscaler, lr, 1000.0)[0]
    assert np.array_equal(left[:, :8], sr[:, :8])
    assert np.array_equal(right[:, 24:], sr[:, 32:])
    middle = (left[:, 8:].astype(int) + right[:, :24]) / 2
    assert np.abs(sr[:, 8:32] - middle).max() <= 0.5


def test_deadline_calls_are_spread(upscaler: Upscaler, pairs: list[Pair], tmp_path: Path, monkeypatch: Any) -> None:
    """Of every picture evenly from the time of interpolation to that of the largest sub-net; each has its time."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    upscaler.load()
    calls = deadlines(upscaler, pairs, spread_calls(len(pairs), 5))
    for number, pair in enumerate(pairs):
        mine = calls[calls[:, 0] == number]
        mine = mine[np.argsort(mine[:, 1])]
        assert np.allclose([0.1, 0.3, 0.5, 0.7, 0.9], mine[:, 1])
        assert np.allclose(np.diff(mine[:, 2], 2), 0, atol=1e-6)
        largest = upscaler.planner.measured_cost.one_pass(-1, pair.lr.shape[0] * pair.lr.shape[1])
        assert mine[-1, 2] < largest < mine[-1, 2] / 0.8
        assert (mine[:, 3:] > 0).all()
    assert len(calls) == 5 * len(pairs)
