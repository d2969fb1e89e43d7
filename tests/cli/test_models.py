"""`arm-sr models` and `arm-sr calibrate`."""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from picture_files import load, save

from arm_sr.models import load_model


def test_calibrate_prints_and_writes_a_cost_table(run, tiny_model: Path, small: np.ndarray) -> None:
    """The file it writes is a cost table that `upscale --cost` takes."""
    save(small, "a.png")
    status, out, _ = run("calibrate", "-m", tiny_model, "-o", "cost.json")
    assert 0 == status
    assert "w8" in out
    assert 0 == run("upscale", "a.png", "-m", tiny_model, "--cost", "cost.json", "-b", "50%", "-o", "o.png")[0]
    assert (100, 120, 3) == load("o.png").shape


def test_models_lists_what_comes_along(run) -> None:
    """Every sub-net of plain-x4 with its parameters."""
    status, out, _ = run("models")
    assert 0 == status
    for subnet in load_model("plain-x4").subnets.values():
        assert f" {subnet.params} " in out


@pytest.mark.slow
def test_models_profile_measures_what_comes_along(run, photo: np.ndarray, tmp_path: Path) -> None:
    """A row a branch; quality as `evaluate` has it, in the table as in the JSON."""
    folder = tmp_path / "ground-truth"
    folder.mkdir()
    PIL.Image.fromarray(photo[:64, :72]).save(folder / "a.png")
    argv = ("--profile", "--data", folder, "--repeats", "1", "--json", tmp_path / "p.json")
    status, out, _ = run("models", "plain-x4", *argv)
    assert 0 == status
    rows = json.loads((tmp_path / "p.json").read_text())["rows"]
    card = load_model("plain-x4")
    assert list(card.branches) == [row["branch"] for row in rows]
    lines = [line for line in out.splitlines() if line.startswith("| plain-x4 |")]
    assert len(rows) == len(lines)
    for row, line in zip(rows, lines, strict=True):
        run("evaluate", folder, "--width", row["branch"], "-q", "--json", tmp_path / "e.json")
        expected = json.loads((tmp_path / "e.json").read_text())
        assert row["psnr_y"]["ground-truth"] == pytest.approx(expected["psnr_y"])
        assert row["ssim_y"]["ground-truth"] == pytest.approx(expected["ssim_y"])
        assert f"| {expected['psnr_y']:.2f} / {expected['ssim_y']:.4f} |" in line
        assert all(ms > 0 for ms in row["ms"].values())
        assert row["peak_rss_mib"] is None or row["peak_rss_mib"] > 20
    assert [0, *(card.subnets[name].params for name in card.branches[1:])] == [row["params"] for row in rows]
    assert rows[-1]["macs"] == card.subnets[card.largest].macs_per_lr_pixel * 320 * 180
    assert {"onnxruntime fp32"} <= set(rows[-1]["ms"])
    assert {"opencv"} == set(rows[0]["ms"])


@pytest.mark.parametrize(
    "argv", [("--data", "."), ("--json", "x.json"), ("--repeats", "3"), ("--profile", "--repeats", "0")]
)
def test_models_refuses_what_means_nothing(run, argv: tuple[str, ...]) -> None:
    """One sentence that names the option."""
    status, _, err = run("models", *argv)
    assert 2 == status
    assert argv[-2] in err
