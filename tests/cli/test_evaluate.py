"""`arm-sr sweep` and `arm-sr evaluate`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from picture_files import load, save

from arm_sr import Upscaler, calibration
from arm_sr.backends import open_backend
from arm_sr.cost import CostTable
from arm_sr.evaluation import quality
from arm_sr.imaging.filters import sharpen
from arm_sr.imaging.metrics import psnr, psnr_y
from arm_sr.imaging.niqe import niqe
from arm_sr.imaging.resample import lr_bicubic
from arm_sr.models import load_model

ARM = Path(__file__).parents[2] / "lut" / "plain-x4.arm.json"


def test_sweep_writes_table_json_and_plot(run, photo: np.ndarray) -> None:
    """Every branch once as reference, every budget once; ARM's table beside it."""
    Path("hr").mkdir()
    save(photo[:120, :160], "hr/a.png")
    save(photo[200:300, 200:330], "hr/b.png")
    status, out, _ = run("sweep", "hr", "-o", "s", "--budgets", "20%,60%", "--arm", ARM, "--repeats", 1, "-q")
    assert 0 == status
    rows = json.loads(Path("s/sweep.json").read_text())["rows"]
    settings = [(row["rule"], row["value"]) for row in rows]
    static = [("static", name) for name in Upscaler("plain-x4").branches]
    assert [*static, ("budget", "20%"), ("budget", "60%"), ("arm", "20%"), ("arm", "60%")] == settings
    for row in rows:
        if row["rule"] != "static":
            assert row["macs_share"] <= float(row["value"][:-1]) / 100
    assert len(rows) + 1 == len(Path("s/sweep.csv").read_text().splitlines())
    assert load("s/sweep.png").shape[1] > 500
    assert "w64" in out
    code, out, _ = run("sweep", "hr", "-o", "e", "--etas", "0,best", "--repeats", 1, "-q")
    assert 0 == code
    assert all(f"| {rule} {eta} |" in out for rule in ("eta", "trade-off") for eta in ("0", "best"))


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes")
def test_a_folder_whose_name_is_no_text(tmp_path: Path, photo: np.ndarray) -> None:
    """It is told with what cannot be printed escaped."""
    folder = tmp_path / os.fsdecode(b"hr\xff")
    folder.mkdir()
    PIL.Image.fromarray(photo[:40, :40]).save(folder / "a.png")
    call = [sys.executable, "-m", "arm_sr", "evaluate", folder, "--width", "bicubic", "-q"]
    environment = os.environ | {"PYTHONPATH": str(ARM.parents[1]), "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(call, env=environment, capture_output=True, text=True, check=True)
    assert "pictures of hr\\udcff" in done.stdout


def test_sweep_runs_all_settings_on_one_engine(run, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """ARM's too, whatever the precision."""
    opened = []

    def counted(*how, **more):
        opened.append(open_backend(*how, **more))
        return opened[-1]

    monkeypatch.setattr(calibration, "open_backend", counted)
    Path("hr").mkdir()
    save(photo[:60, :60], "hr/a.png")
    how = ["--backend", "onnxruntime", "--budgets", "20%", "--arm", ARM, "--repeats", 1, "-q"]
    assert 0 == run("sweep", "hr", "-o", "s", *how)[0]
    assert 1 == len(opened)


def test_evaluate_times_no_calibration_and_no_loading(run, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are done before the first picture."""
    done = []
    costs = CostTable.of_macs(load_model("plain-x4"))
    costs = CostTable("ms", costs.branches, costs.per_call, costs.per_pixel / 1e8, "made up")
    score, load_all = quality.score_picture, Upscaler.load
    monkeypatch.setattr(calibration, "measure", lambda *how: done.append("measured") or costs)
    monkeypatch.setattr(Upscaler, "load", lambda self: done.append("loaded") or load_all(self))
    monkeypatch.setattr(quality, "score_picture", lambda *how, **more: done.append("scored") or score(*how, **more))
    Path("hr").mkdir()
    save(photo[:60, :60], "hr/a.png")
    assert 0 == run("evaluate", "hr", "-b", "1ms", "-q")[0]
    assert ["loaded", "measured", "scored"] == done


def test_evaluate_agrees_with_the_metrics(run, photo: np.ndarray) -> None:
    """PSNR of one picture by hand: LR, upscale, crop, compare."""
    Path("hr").mkdir()
    hr = photo[:122, :161]
    save(hr, "hr/a.png")
    status, out, _ = run("evaluate", "hr", "--width", "w48", "--json", "-", "-q")
    figures = json.loads(out)
    sr = Upscaler("plain-x4").upscale(lr_bicubic(hr[:120, :160], 4), width="w48").image
    assert 0 == status
    assert pytest.approx(psnr_y(sr, hr[:120, :160], 4)) == figures["psnr_y"]
    assert pytest.approx(psnr(sr, hr[:120, :160], 4)) == figures["psnr_rgb"] == figures["psnr_rgb_all"]
    assert 1 == run("evaluate", "nowhere")[0]


def test_evaluate_tells_niqe_and_the_contest_score(run, photo: np.ndarray) -> None:
    """Of the sharpened picture, as the metrics say; a picture too small for it is named and counts as failed."""
    Path("hr").mkdir()
    hr = photo[:204, :308]
    save(hr, "hr/a.png")
    save(photo[200:408, 100:420], "hr/b.png")
    options = ("evaluate", "hr", "--width", "w16", "-q")
    status, out, _ = run(*options, "--niqe", "--sharpen", "unsharp", "--json", "-")
    figures = json.loads(out)
    sr = sharpen(Upscaler("plain-x4").upscale(lr_bicubic(hr, 4), width="w16").image, "unsharp")
    assert (0, "unsharp") == (status, figures["sharpen"])
    first, second = figures["pictures"]
    assert niqe(sr, 4) == pytest.approx(first["niqe"])
    assert psnr_y(sr, hr, 4) == pytest.approx(first["psnr_y"])
    assert (first["niqe"] + second["niqe"]) / 2 == pytest.approx(figures["niqe"])
    for row, seconds in ((first, first["ms"] / 1e3), (figures, figures["ms"] / 2e3)):
        assert max(0, 7 - row["niqe"]) ** 0.5 / seconds * 200 == pytest.approx(row["contest_score"])
    status, out, _ = run(*options, "--niqe")
    assert 0 == status
    assert "; NIQE " in out
    assert "contest score" in out

    save(photo[:100, :100], "hr/c.png")
    status, out, err = run(*options, "--niqe")
    assert (1, 1) == (status, err.count("\n"))
    assert "c.png: NIQE needs two blocks" in err
    assert "on 2 pictures" in out
    status, out, _ = run(*options, "--json", "-")
    figures = json.loads(out)
    assert (0, 3, None) == (status, len(figures["pictures"]), figures["sharpen"])
    assert not {"niqe", "contest_score"} & (set(figures) | set(figures["pictures"][0]))


def test_the_contest_score_is_0_where_niqe_is_over_7() -> None:
    """And sqrt(7 - NIQE) / seconds * 200 below."""
    assert [200.0, 8000.0, 0.0, 0.0] == [quality.contest_score(*of) for of in ((3, 2), (3, 0.05), (7, 1), (9, 1))]
