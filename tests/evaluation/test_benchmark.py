"""What takes part in a comparison, and ARM's own procedure."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from arm_sr import ArtefactError, Upscaler
from arm_sr.evaluation import benchmark
from arm_sr.evaluation.arm_procedure import starts, upscale_like_arm
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


def test_arms_are_compared_on_all_pictures(upscaler: Upscaler, pairs: list[Pair], tiny_model: Path) -> None:
    """Figures are those of the pictures that each arm gives; the arm compared against has a ratio of one."""
    arms = [*benchmark.static_arms(upscaler), benchmark.procedure_arm(upscaler, "1")]
    arms += [benchmark.routed_arm(upscaler, "30%"), benchmark.onnx_arm(tiny_model / "w8.onnx", 2, 1)]
    done: list[int] = []
    rows = benchmark.compare(arms, pairs, 2, arms[2], repeats=3, done=done.append)
    assert len(done) == sum(done) == len(arms) * len(pairs) * 4
    assert [(arm.rule, arm.value) for arm in arms] == [(row["rule"], row["value"]) for row in rows]
    assert rows[2]["ratio"] == 1
    for row, arm in zip(rows, arms, strict=True):
        expected = np.mean([psnr(arm.upscale(pair.lr)[0], pair.hr, 2) for pair in pairs])
        assert row["psnr_rgb"] == pytest.approx(expected)
        assert 0 < row["engine_share"] <= 1
        assert row["ms"] > 0
    assert rows[-1]["psnr_rgb_all"] == rows[2]["psnr_rgb_all"]  # the same network, once by its file
    assert rows[0]["static"] is None
    for row in rows:
        if row["static"]:
            rival = next(r for r in rows if r["rule"] == "static" and r["value"] == row["static"])
            assert rival["ratio"] <= row["ratio"]
            assert row["gain_rgb_all"] == pytest.approx(row["psnr_rgb_all"] - rival["psnr_rgb_all"])
    table = benchmark.markdown(rows, arms[2])
    assert len(table.splitlines()) == 2 + len(arms)
    assert benchmark.plot(rows, "title").startswith(b"\x89PNG")


def test_a_file_that_is_no_network_is_named(tmp_path: Path) -> None:
    """With what is wrong."""
    (tmp_path / "a.onnx").write_bytes(b"no network")
    with pytest.raises(ArtefactError, match=str(tmp_path / "a.onnx")):
        benchmark.onnx_arm(tmp_path / "a.onnx", 2, 1)


def test_a_network_of_another_scale_is_named(tiny_model: Path) -> None:
    """It makes x2."""
    with pytest.raises(ArtefactError, match=r"w8.onnx: makes \(34, 40, 3\) .* not x4"):
        benchmark.onnx_arm(tiny_model / "w8.onnx", 4, 1)


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


def test_deadline_calls_are_spread(upscaler: Upscaler, pairs: list[Pair]) -> None:
    """From the time of interpolation to the one that is given; each has its time and its error."""
    upscaler.load()
    results = np.array(benchmark.deadlines(upscaler, pairs[0], 5, 20.0))
    deadlines = np.sort(results[:, 0])
    assert deadlines[0] < deadlines[-1]
    assert deadlines[-1] == 20
    assert np.allclose(np.diff(deadlines, 2), 0, atol=1e-6)
    assert (results[:, 1:] > 0).all()
