"""`arm-sr upscale` to any size: exact, by the nearest model and one resampling."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

from arm_sr import Upscaler
from arm_sr.cli import main
from arm_sr.imaging.io import read_image
from arm_sr.imaging.resample import lr_bicubic, resize
from arm_sr.models import load_model
from arm_sr.report import legend_height

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `arm-sr upscale` quietly in an empty folder: (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*argv: object) -> tuple[int, str, str]:
        capsys.readouterr()
        return main(["upscale", *map(str, argv), "-q"]), *capsys.readouterr()

    return call


@pytest.mark.parametrize(
    ("options", "model", "width", "height", "name"),
    [
        (["-s", "2.5"], "plain-x4", 150, 125, "a_x2.5.png"),
        (["-s", "1.5"], "plain-x2", 90, 75, "a_x1.5.png"),
        (["-s", "2"], "plain-x2", 120, 100, "a_x2.png"),
        (["-s", "4.0"], "plain-x4", 240, 200, "a_x4.png"),
        (["-s", "5"], "plain-x4", 300, 250, "a_x5.png"),
        (["-s", "3", "-m", "plain-x2"], "plain-x2", 180, 150, "a_x3.png"),
        (["--size", "100x91"], "plain-x2", 100, 91, "a_100x91.png"),
        (["--size", "121x"], "plain-x4", 121, 101, "a_121x.png"),
        (["--size", "x99"], "plain-x2", 119, 99, "a_x99.png"),
        (["--short-side", "77"], "plain-x2", 92, 77, "a_short77.png"),
        (["--long-side", "240"], "plain-x4", 240, 200, "a_long240.png"),
    ],
)
def test_the_result_has_exactly_the_size(
    run: Run, photo: np.ndarray, options: list[str], model: str, width: int, height: int, name: str
) -> None:
    """It is the nearest model's picture, resampled once where that is another size; the report says so."""
    picture = np.ascontiguousarray(photo[:50, 180:240])
    PIL.Image.fromarray(picture).save("a.png")
    status, out, _ = run("a.png", *options, "--width", "bicubic", "--heatmap", "h.png", "--json", "-")
    report = json.loads(out)
    assert (0, model, {"width": width, "height": height}) == (status, report["model"], report["output"])
    upscaled = Upscaler(model).upscale(picture, width="bicubic").image
    expected = upscaled if upscaled.shape[:2] == (height, width) else resize(upscaled, height, width)
    assert np.array_equal(expected, read_image(name).pixels)
    legend = legend_height(len(load_model(model).branches), width)
    assert (height + legend, width, 3) == read_image("h.png").pixels.shape


@pytest.mark.parametrize("kind", ["grey", "alpha", "sixteen", "sixteen alpha"])
def test_all_pictures_can_be_resampled(run: Run, photo: np.ndarray, kind: str) -> None:
    """Grey, alpha and 16 bits come out as they went in, and near what the whole factor gives."""
    planes = {"grey": photo[:50, 180:240, 1], "alpha": np.dstack([photo, photo[::-1, :, 0]])[:50, 180:240]}
    picture = planes["grey" if kind == "sixteen" else "alpha" if "alpha" in kind else kind]
    picture = picture.astype(np.uint16) * 257 if "sixteen" in kind else picture
    cv2.imwrite("a.png", picture)
    assert 0 == run("a.png", "-s", "2.5", "-o", "b.png", "--width", "bicubic")[0]
    result = cv2.imread("b.png", cv2.IMREAD_UNCHANGED)
    assert (picture.dtype, (125, 150, *picture.shape[2:])) == (result.dtype, result.shape)
    expected = cv2.resize(picture, (150, 125), interpolation=cv2.INTER_CUBIC)
    assert np.abs(expected - result.astype(float)).mean() < np.iinfo(picture.dtype).max / 20


def test_what_is_no_larger_goes_through_no_sub_net(run: Run, photo: np.ndarray) -> None:
    """It is resized, to the pixel where the size is its own; a dry run says so too."""
    PIL.Image.fromarray(photo[:120, :160]).save("a.png")
    status, out, _ = run("a.png", "--long-side", "80", "-o", "b.png", "--json", "-", "-b", "40%")
    report = json.loads(out)
    assert (0, 0, {"bicubic"}) == (status, report["macs"]["computed"], {k for k, n in report["branches"].items() if n})
    assert "resized without a sub-net" in report["note"]
    half = read_image("b.png").pixels
    assert np.abs(half.astype(int) - lr_bicubic(photo[:120, :160], 2)).max() <= 1
    assert 0 == run("a.png", "--size", "160x120", "-o", "c.png")[0]
    assert np.array_equal(photo[:120, :160], read_image("c.png").pixels)
    status, out, _ = run("a.png", "--long-side", "80", "--dry-run", "--json", "-")
    assert (0, 80) == (status, json.loads(out)["output"]["width"])


def test_a_folder_takes_the_model_that_each_picture_needs(run: Run, photo: np.ndarray) -> None:
    """All become equally long, and going on knows them all."""
    Path("in").mkdir()
    for name, side in {"half.png": 50, "large.png": 150, "quarter.png": 30, "tiny.png": 9}.items():
        PIL.Image.fromarray(photo[:side, :side]).save(f"in/{name}")
    how = ("-o", "out", "--long-side", "100", "--width", "bicubic", "--json", "-")
    status, out, _ = run("in", *how)
    assert (0, ["plain-x2", "plain-x2", "plain-x4", "plain-x4"]) == (
        status, [json.loads(line)["model"] for line in out.splitlines()]
    )  # fmt: skip
    assert {(100, 100, 3)} == {read_image(path).pixels.shape for path in Path("out").glob("*.png")}
    assert (0, "") == run("in", *how, "--resume")[:2]
    status, out, _ = run("in", "-o", "out", "--long-side", "90", "--width", "bicubic", "--json", "-", "--resume")
    assert (0, 4) == (status, len(out.splitlines()))


@pytest.mark.parametrize("name", ["o.png", "o.tif", "o.jpg"])
def test_strips_are_resampled_too(
    run: Run, tiny_model: Path, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The same file, by one level, as of a result in memory."""
    tall = np.tile(photo[:50, 180:220], (6, 1, 1))  # two strips
    PIL.Image.fromarray(np.dstack([tall, tall[..., 0]]) if name != "o.jpg" else tall).save("a.png")
    results = []
    for limit in (10**9, 0):
        monkeypatch.setattr("arm_sr.cli.picture.STRIPS_FROM", limit)
        assert 0 == run("a.png", "-s", "1.5", "-m", tiny_model, "-o", name, "--heatmap", "h.png")[0]
        with PIL.Image.open(name) as image:
            # The legend, which has figures of what was computed twice, is another matter.
            results.append((np.asarray(image).astype(int), read_image("h.png").pixels[:450].astype(int)))
    for whole, strips in zip(*results, strict=True):
        assert whole.shape[:2] == strips.shape[:2] == (450, 60)
        assert np.abs(whole - strips).max() <= 1


def test_limits_of_a_format_are_said_before_computing(run: Run, photo: np.ndarray) -> None:
    """By the size of the result, not of what a model makes."""
    PIL.Image.fromarray(photo[:2, :9]).save("a.png")
    status, _, err = run("a.png", "--long-side", "65501", "-o", "b.jpg")
    assert (1, False) == (status, Path("b.jpg").exists())
    assert "65501x14556 is too large for JPEG" in err
