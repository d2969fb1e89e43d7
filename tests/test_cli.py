"""The command `arm-sr` on real files: the right picture, or one clear sentence and the right exit status."""

import io
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

from arm_sr import Upscaler, calibration
from arm_sr.backends import open_backend
from arm_sr.cli import main
from arm_sr.cost import CostTable
from arm_sr.evaluation import quality
from arm_sr.imaging.filters import sharpen
from arm_sr.imaging.formats import Encoding
from arm_sr.imaging.io import Image, read_image, write_image
from arm_sr.imaging.metrics import psnr, psnr_y
from arm_sr.imaging.niqe import niqe
from arm_sr.imaging.resample import lr_bicubic
from arm_sr.models import load_model


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run `arm-sr` in an empty folder: (exit status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def call(*argv: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            status = main([str(a) for a in argv])
        except SystemExit as stop:
            status = int(stop.code or 0)
        out, err = capsys.readouterr()
        return status, out, err

    return call


@pytest.fixture
def small(photo: np.ndarray) -> np.ndarray:
    """A piece of the photo, 60x50."""
    return np.ascontiguousarray(photo[:50, 180:240])


def save(array: np.ndarray, name: str, **options: object) -> Path:
    PIL.Image.fromarray(array).save(name, **options)
    return Path(name)


def load(path: str | Path) -> np.ndarray:
    """The pixels of a file as Pillow sees them."""
    with PIL.Image.open(path) as image:
        return np.asarray(image)


def no_leftovers(allowed: set[str]) -> bool:
    """Whether the folder holds nothing but these files."""
    return {p.name for p in Path().iterdir()} - {"cache"} == allowed


def test_upscales_within_the_budget_and_reports(run, small: np.ndarray) -> None:
    """Picture, heat map and JSON; the picture is the library's own."""
    save(small, "a.png")
    status, out, err = run("upscale", "a.png", "-b", "40%", "-o", "b.png", "--heatmap", "h.png", "--json", "r.json")
    assert (0, "") == (status, out)
    assert "patches: " in err
    assert "GMAC" in err
    assert np.array_equal(Upscaler("plain-x4").upscale(small, "40%").image, load("b.png"))
    assert (200 + 4 * 20, 240, 3) == load("h.png").shape  # and the legend
    report = json.loads(Path("r.json").read_text())
    keys = {"model", "scale", "input", "output", "budget", "branches", "macs", "time_ms", "eta", "objective",
            "predicted_psnr", "backend", "precision"}  # fmt: skip
    assert keys <= set(report)
    assert {"width": 240, "height": 200} == report["output"]
    assert {"kind", "requested", "planned", "spent"} == set(report["budget"])
    assert {"read", "plan", "infer", "stitch", "write", "total"} <= set(report["time_ms"])
    assert report["budget"]["spent"] <= 0.4
    assert no_leftovers({"a.png", "b.png", "h.png", "r.json"})


@pytest.mark.parametrize(("more", "objective"), [([], "psnr"), (["--objective", "mse"], "mse")])
def test_eta_is_a_rule_for_patches_or_a_trade_off(run, small: np.ndarray, more: list[str], objective: str) -> None:
    """As the library has it, and as the report says."""
    save(small, "a.png")
    assert 0 == run("upscale", "a.png", "--eta", "1.5", *more, "--json", "r.json", "-q")[0]
    assert np.array_equal(Upscaler("plain-x4").upscale(small, eta=1.5, objective=objective).image, load("a_x4.png"))
    report = json.loads(Path("r.json").read_text())
    assert (1.5, objective) == (float(report["eta"]), report["objective"])


def test_default_output_lies_beside_the_input_and_is_never_replaced(run, small: np.ndarray) -> None:
    """NAME_x4.EXT; a second run is an error that leaves the file alone."""
    Path("d").mkdir()
    save(small, "d/a.png")
    assert 0 == run("upscale", "d/a.png", "--width", "w16", "-q")[0]
    before = Path("d/a_x4.png").read_bytes()
    status, _, err = run("upscale", "d/a.png", "--width", "w48", "-q")
    assert 1 == status
    assert "d/a_x4.png: exists already" in err
    assert before == Path("d/a_x4.png").read_bytes()
    assert 0 == run("upscale", "d/a.png", "--width", "w48", "-o", "d/a_x4.png")[0]
    assert before != Path("d/a_x4.png").read_bytes()


def test_several_inputs_go_on_after_a_bad_one(run, small: np.ndarray) -> None:
    """The others are written, the bad one is named, the status is 1, the JSON has a line a picture."""
    save(small, "a.png")
    save(small[:, ::-1], "c.png")
    Path("b.png").write_text("no picture")
    status, out, err = run("upscale", "a.png", "b.png", "c.png", "-o", "out", "-b", "30%", "--json", "-", "-q")
    assert 1 == status
    assert "b.png" in err
    assert ["a.png", "b.png", "c.png"] == [json.loads(line)["file"] for line in out.splitlines()]
    assert ["error" in json.loads(line) for line in out.splitlines()] == [False, True, False]
    assert {"a_x4.png", "c_x4.png"} == {p.name for p in Path("out").iterdir()}


def test_a_report_that_cannot_be_written_is_said_before_the_work(run, small: np.ndarray) -> None:
    """By the name that was given."""
    save(small, "a.png")
    Path("folder").mkdir()
    Path("link.json").symlink_to("no/r.json")
    for name in ("no/r.json", "folder", "link.json"):
        status, _, err = run("upscale", "a.png", "--width", "w16", "--json", name)
        assert 2 == status
        assert f"--json {name}: no file can be written there" in err
    assert {"a.png", "folder", "link.json"} == {p.name for p in Path().iterdir()}
    assert 0 == run("upscale", "a.png", "--width", "w16", "--json", os.devnull, "-q")[0]


def test_a_report_tells_what_was_done_before_the_end(
    run, tiny_model: Path, small: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before Ctrl-C, and nothing where nothing was."""
    for name in ("a.png", "b.png"):
        save(small, name)
    save(small[:20], "c.png")
    Path("d.png").write_text("no picture")
    upscale = Upscaler.upscale

    def interrupted(self: Upscaler, image: np.ndarray, **how: object) -> object:
        if len(image) == 20:
            raise KeyboardInterrupt
        return upscale(self, image, **how)

    monkeypatch.setattr(Upscaler, "upscale", interrupted)
    how = ("-o", "out", "-m", tiny_model, "-q", "--json", "r.json")
    assert 130 == run("upscale", "a.png", "b.png", "c.png", *how)[0]
    assert "a.png" == json.loads(Path("r.json").read_text().splitlines()[0])["file"]
    assert 1 == run("upscale", "d.png", *how)[0]
    assert {"file", "error"} == set(json.loads(Path("r.json").read_text()))


def test_several_inputs_give_what_each_gives_alone(run, tiny_model: Path, small: np.ndarray) -> None:
    """The same pictures, and reports, lines and JSON in the order of the inputs."""
    names = ["d.png", "b.png", "a.png", "c.png"]
    for shift, name in enumerate(names):
        save(np.roll(small, 9 * shift, axis=0), name)
    status, out, err = run("upscale", *names, "-o", "out", "-m", tiny_model, "-b", "50%", "--json", "-")
    assert 0 == status
    assert names == [json.loads(line)["file"] for line in out.splitlines()]
    assert names == [line.split(" -> ")[0] for line in err.splitlines()]
    for name in names:
        assert 0 == run("upscale", name, "-o", "one.png", "-m", tiny_model, "-b", "50%", "-q")[0]
        assert np.array_equal(load("one.png"), load(f"out/{name[0]}_x2.png"))
    status, out, _ = run("upscale", *names, "-m", tiny_model, "--dry-run", "--json", "-")
    assert (0, names) == (status, [json.loads(line)["file"] for line in out.splitlines()])


@pytest.mark.parametrize("where", ["reading", "checking", "upscaling", "interpolating", "writing"])
def test_a_failure_in_the_middle_is_named_in_its_place(
    run, tiny_model: Path, small: np.ndarray, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Whichever thread meets it: between the lines of the others, which are there, and nothing else is."""
    for name in ("a.png", "b.png", "c.png"):
        save(small, name)
    save(small[:20], "b.png")
    upscale, replace, resize = Upscaler.upscale, Path.replace, cv2.resize

    def no_memory(self: Upscaler, image: np.ndarray, **how: object) -> object:
        if len(image) == 20:
            raise MemoryError
        return upscale(self, image, **how)

    def no_memory_for_opencv(image: np.ndarray, *how: object, **more: object) -> np.ndarray:
        if len(image) == 20:
            error = cv2.error("Failed to allocate 768000000 bytes")
            error.code = cv2.Error.StsNoMem
            raise error
        return resize(image, *how, **more)

    def full_disk(self: Path, target: Path) -> Path:
        if Path(target).name == "b_x2.png":
            raise OSError(28, "No space left on device")
        return replace(self, target)

    match where:
        case "reading":
            Path("b.png").write_text("no picture")
        case "checking":
            Path("out/b_x2.png").mkdir(parents=True)
        case "upscaling":
            monkeypatch.setattr(Upscaler, "upscale", no_memory)
        case "interpolating":
            monkeypatch.setattr(cv2, "resize", no_memory_for_opencv)
        case "writing":
            monkeypatch.setattr(Path, "replace", full_disk)
    how = ["-m", tiny_model, "--width", "bicubic", "--json", "-"]
    status, out, err = run("upscale", "a.png", "b.png", "c.png", "-o", "out", *how)
    assert 1 == status
    first_line, failed_line, last_line = map(json.loads, out.splitlines())
    assert ["a.png", "b.png", "c.png"] == [first_line["file"], failed_line["file"], last_line["file"]]
    first, error, last, count = err.splitlines()
    assert f"arm-sr: error: {failed_line['error']}" == error
    assert first.startswith("a.png -> ")
    assert error.startswith("arm-sr: error: ")
    assert ("out/b_x2.png" if where in ("checking", "writing") else "b.png") in error
    assert last.startswith("c.png -> ")
    assert "arm-sr: 1 of 3 pictures failed" == count
    assert {"a_x2.png", "c_x2.png"} == {p.name for p in Path("out").iterdir() if p.is_file()}


def test_the_next_is_read_and_the_last_is_written_while_one_is_upscaled(
    run, tiny_model: Path, small: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is not upscaled before the second is read, nor written before the second is being upscaled."""
    save(small, "a.png")
    save(small[:20], "b.png")
    second_read, second_upscaled = threading.Event(), threading.Event()
    upscale = Upscaler.upscale

    def reading(path: Path) -> Image:
        if path.name == "b.png":
            second_read.set()
        return read_image(path)

    def upscaling(self: Upscaler, image: np.ndarray, **how: object) -> object:
        if len(image) == 20:
            second_upscaled.set()
        assert second_read.wait(60)
        return upscale(self, image, **how)

    def writing(path: Path, image: Image, encoding: Encoding) -> None:
        assert second_upscaled.wait(60)
        write_image(path, image, encoding)

    monkeypatch.setattr("arm_sr.imaging.io.read_image", reading)
    monkeypatch.setattr("arm_sr.imaging.io.write_image", writing)
    monkeypatch.setattr(Upscaler, "upscale", upscaling)
    assert 0 == run("upscale", "a.png", "b.png", "-o", "out", "-m", tiny_model, "-q")[0]
    assert {"a_x2.png", "b_x2.png"} == {p.name for p in Path("out").iterdir()}


@pytest.mark.parametrize("options", [["large"], ["--deadline", "5s"], ["-b", "500ms"]], ids=lambda o: o[0])
def test_large_pictures_and_those_by_the_clock_go_one_by_one(
    run, tiny_model: Path, small: np.ndarray, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    """The second is read when the first is written, in strips (PNG) or whole (JPEG)."""
    if options == ["large"]:
        monkeypatch.setattr("arm_sr.cli.picture.STRIPS_FROM", 0)
        options = []
    events, replace = [], Path.replace

    def reading(path: Path) -> Image:
        events.append(f"read {path}")
        return read_image(path)

    def replacing(self: Path, target: Path) -> Path:
        if Path(target).parent.name == "out":  # not the cost table of a machine
            events.append(f"wrote {Path(target).name}")
        return replace(self, target)

    monkeypatch.setattr("arm_sr.imaging.io.read_image", reading)
    monkeypatch.setattr(Path, "replace", replacing)
    for name in ("a.png", "b.jpg", "c.png"):
        save(small, name)
    assert 0 == run("upscale", "a.png", "b.jpg", "c.png", "-o", "out", "-m", tiny_model, "-q", *options)[0]
    expected = ["read a.png", "wrote a_x2.png", "read b.jpg", "wrote b_x2.jpg", "read c.png", "wrote c_x2.png"]
    assert expected == events


def test_an_interrupt_leaves_no_half_file_and_no_thread(
    run, tiny_model: Path, small: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while one is upscaled and the one before is halfway into its file: that file is finished."""
    for name in ("a.png", "c.png"):
        save(small, name)
    save(small[:20], "b.png")
    halfway, stopping = threading.Event(), threading.Event()
    upscale, replace, shutdown = Upscaler.upscale, Path.replace, ThreadPoolExecutor.shutdown

    def interrupted(self: Upscaler, image: np.ndarray, **how: object) -> object:
        if len(image) == 20:
            assert halfway.wait(60)
            assert [".tmp"] == [p.suffix for p in Path("out").iterdir()]
            raise KeyboardInterrupt
        return upscale(self, image, **how)

    def slow_replace(self: Path, target: Path) -> Path:
        halfway.set()
        assert stopping.wait(60)
        return replace(self, target)

    def shutting_down(self: ThreadPoolExecutor, *args: object, **options: object) -> None:
        stopping.set()
        shutdown(self, *args, **options)

    monkeypatch.setattr(Upscaler, "upscale", interrupted)
    monkeypatch.setattr(Path, "replace", slow_replace)
    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", shutting_down)
    before = set(threading.enumerate())
    status, _, err = run("upscale", "a.png", "b.png", "c.png", "-o", "out", "-m", tiny_model, "-q")
    assert (130, "arm-sr: interrupted\n") == (status, err)
    assert before == set(threading.enumerate())
    assert ["a_x2.png"] == [p.name for p in Path("out").iterdir()]
    assert (100, 120, 3) == load("out/a_x2.png").shape


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["a.png", "-b", "0"], "budget '0'"),
        (["a.png", "-b", "-5%"], "budget"),
        (["a.png", "-b", "40"], "no unit"),
        (["a.png", "-b", "plenty"], "plenty"),
        (["a.png", "--width", "w17"], "w17"),
        (["a.png", "-m", "plain-x9"], "plain-x9"),
        (["a.png", "-s", "0"], "scale 0"),
        (["a.png", "-s", "2,5"], "--scale"),
        (["a.png", "--size", "1920"], "size '1920'"),
        (["a.png", "--size", "x"], "size 'x'"),
        (["a.png", "--size", "0x10"], "width"),
        (["a.png", "--short-side", "0"], "short side"),
        (["a.png", "--long-side", "9", "-s", "2"], "not allowed with"),
        (["a.png", "--eta", "lots"], "lots"),
        (["a.png", "--eta", "1", "-b", "40%"], "--eta"),
        (["a.png", "--objective", "ssim"], "ssim"),
        (["a.png", "--backend", "abacus"], "abacus"),
        (["a.png", "--frobnicate"], "frobnicate"),
        (["a.png", "-o", "a.png"], "would be replaced"),
        (["a.png", "a.png", "-o", "out"], "written twice"),
        (["a.png", "b.png", "--heatmap", "h.png"], "--heatmap"),
        ([], "INPUT"),
    ],
)
def test_wrong_usage_exits_with_2(run, small: np.ndarray, argv: list[str], word: str) -> None:
    """One line that names what is wrong, also with -q; nothing is written."""
    save(small, "a.png")
    status, out, err = run("upscale", *argv)
    assert (2, "") == (status, out)
    assert word in err
    assert 1 == len(err.splitlines())
    assert no_leftovers({"a.png"})


def test_a_file_that_is_no_table_or_cost_is_named(run, small: np.ndarray) -> None:
    """--lut and --cost of rubbish: status 1 and the file's name."""
    save(small, "a.png")
    Path("x.json").write_text('{"schema": 1}')
    for option in ("--lut", "--cost"):
        status, _, err = run("upscale", "a.png", option, "x.json")
        assert 1 == status
        assert "x.json" in err
        assert 1 == len(err.splitlines())


def bytes_of(array: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(array).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["cut.png", "cut.jpg", "text.png", "empty.png", "missing.png", "folder"])
def test_what_cannot_be_read_is_one_sentence(run, photo: np.ndarray, name: str) -> None:
    """Status 1, the file named, printed even with -q, and no output file."""
    match name:
        case "cut.png" | "cut.jpg":
            data = bytes_of(photo, {"png": "PNG", "jpg": "JPEG"}[name[-3:]])
            Path(name).write_bytes(data[: len(data) * 2 // 3])
        case "text.png":
            Path(name).write_text("hello")
        case "empty.png":
            Path(name).touch()
        case "folder":
            Path(name).mkdir()
    before = {p.name for p in Path().iterdir()} - {"cache"}
    heat = [] if name == "folder" else ["--heatmap", "h.png"]
    status, out, err = run("upscale", name, "-o", "out.png", "-q", *heat)
    assert (1, "") == (status, out)
    assert name in err
    assert 1 == len(err.splitlines())
    assert no_leftovers(before)


@pytest.mark.parametrize("target", ["nowhere/out.png", "a.png/out.png", "out.xyz", "out.jpg", "out.webp"])
def test_what_cannot_be_written_is_said_before_computing(run, small: np.ndarray, target: str) -> None:
    """A missing folder, a file as folder, an unknown format, alpha and 16 bits in formats without."""
    PIL.Image.fromarray(np.dstack([small, small[..., 0]])).save("a.png")
    if target == "out.webp":
        cv2.imwrite("a.png", small.astype(np.uint16) * 257)
    status, _, err = run("upscale", "a.png", "-o", target, "-q")
    assert 1 == status
    assert target in err
    assert no_leftovers({"a.png"})


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_said(run, small: np.ndarray) -> None:
    """The folder is named and the status is 1."""
    save(small, "a.png")
    Path("ro").mkdir(mode=0o500)
    status, _, err = run("upscale", "a.png", "-o", "ro/out.png")
    assert 1 == status
    assert "ro" in err


def test_modes_of_pictures_are_kept(run, small: np.ndarray) -> None:
    """Grey stays grey, palettes become RGB, alpha is kept, CMYK is converted, 16 bits stay 16."""
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    PIL.Image.fromarray(grey).save("grey.png")
    PIL.Image.fromarray(small).quantize(32).save("palette.png")
    PIL.Image.fromarray(np.dstack([small, grey])).save("alpha.png")
    PIL.Image.fromarray(np.dstack([grey, grey])).save("la.png")
    PIL.Image.fromarray(small).convert("CMYK").save("cmyk.jpg", quality=98)
    cv2.imwrite("wide.png", small[..., ::-1].astype(np.uint16) * 251 + 7)
    modes = {"grey": "L", "palette": "RGB", "alpha": "RGBA", "la": "LA", "cmyk": "RGB"}
    for name in [*Path().glob("*.png"), *Path().glob("*.jpg")]:
        assert 0 == run("upscale", name, "-b", "40%", "-q")[0], name
        result = Path(f"{name.stem}_x4{name.suffix}")
        if name.stem == "wide":
            wide = cv2.imread(str(result), cv2.IMREAD_UNCHANGED)
            assert (np.uint16, (200, 240, 3)) == (wide.dtype, wide.shape)
            assert len(np.unique(wide)) > 256
        else:
            with PIL.Image.open(result) as opened:
                assert (modes[name.stem], (240, 200)) == (opened.mode, opened.size)
                colours = np.asarray(opened.convert("RGB").resize((60, 50), PIL.Image.Resampling.BOX)).astype(int)
            source = small if name.stem in ("palette", "alpha", "cmyk") else np.dstack([grey] * 3)
            assert np.abs(colours - source).mean() < 12, name


def test_exif_rotation_is_applied(run, small: np.ndarray) -> None:
    """A JPEG that says it lies on its side comes out upright."""
    exif = PIL.Image.Exif()
    exif[274] = 6
    save(small, "side.jpg", exif=exif, quality=98, subsampling=0)
    assert 0 == run("upscale", "side.jpg", "-b", "40%", "-o", "up.png", "-q")[0]
    upright = cv2.resize(load("up.png"), (50, 60), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(upright - np.rot90(small, -1)).mean() < 8


def test_very_long_pictures_work(run) -> None:
    """30,000 x 1 pixels."""
    line = np.random.default_rng(0).integers(0, 256, (1, 30000, 3), dtype=np.uint8)
    save(line, "long.png")
    assert 0 == run("upscale", "long.png", "-b", "30%", "-q")[0]
    assert (4, 120000, 3) == load("long_x4.png").shape
    status, _, err = run("upscale", "long.png", "-b", "30%", "-q", "-o", "long.jpg")
    assert 1 == status
    assert "too large for JPEG" in err


def test_dry_run_prints_the_plan_and_writes_nothing(run, small: np.ndarray) -> None:
    """The plan on stdout; with --json - the report instead."""
    save(small, "a.png")
    status, out, _ = run("upscale", "a.png", "-b", "40%", "--dry-run")
    assert 0 == status
    assert "patches" in out
    status, out, _ = run("upscale", "a.png", "-b", "40%", "--dry-run", "--json", "-")
    assert 0 == status
    assert json.loads(out)["budget"]["planned"] <= 0.4
    assert no_leftovers({"a.png"})


def test_a_failing_write_leaves_the_old_file(run, small: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full when the result is renamed into place: the old one and nothing else is there."""
    save(small, "a.png")
    Path("b.png").write_bytes(b"old")

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    status, _, err = run("upscale", "a.png", "-o", "b.png", "--width", "bicubic")
    assert 1 == status
    assert "No space left" in err
    assert b"old" == Path("b.png").read_bytes()
    assert no_leftovers({"a.png", "b.png"})


def test_sweep_writes_table_json_and_plot(run, photo: np.ndarray) -> None:
    """Every branch once as reference, every budget once; ARM's table beside it."""
    Path("hr").mkdir()
    save(photo[:120, :160], "hr/a.png")
    save(photo[200:300, 200:330], "hr/b.png")
    arm = Path(__file__).parent.parent / "lut" / "plain-x4.arm.json"
    status, out, _ = run("sweep", "hr", "-o", "s", "--budgets", "20%,60%", "--arm", arm, "--repeats", 1, "-q")
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


def test_sweep_runs_all_settings_on_one_engine(run, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """ARM's too, whatever the precision."""
    opened = []

    def counted(*how, **more):
        opened.append(open_backend(*how, **more))
        return opened[-1]

    monkeypatch.setattr(calibration, "open_backend", counted)
    Path("hr").mkdir()
    save(photo[:60, :60], "hr/a.png")
    arm = Path(__file__).parent.parent / "lut" / "plain-x4.arm.json"
    how = ["--backend", "onnxruntime", "--budgets", "20%", "--arm", arm, "--repeats", 1, "-q"]
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


@pytest.mark.parametrize("name", ["edge-enhance", "unsharp"])
def test_sharpening_filters_the_finished_picture(
    run, tiny_model: Path, small: np.ndarray, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """With alpha or 16 bits, whole or in strips; the report names it, the heat map does not show it."""
    tall = np.tile(small, (12, 1, 1))  # several strips
    write_image("alpha.png", Image(tall, alpha=np.ascontiguousarray(tall[..., 0])))
    write_image("wide.png", Image(tall[..., 0].astype(np.uint16) * 257))
    for source in ("alpha.png", "wide.png"):
        for limit in (10**9, 0):
            monkeypatch.setattr("arm_sr.cli.picture.STRIPS_FROM", limit)
            written = []
            for options in ([], ["--sharpen", name]):
                how = ["-m", tiny_model, "-b", "60%", "-o", "o.png", "--heatmap", "h.png", "--json", "-", "-q"]
                status, out, _ = run("upscale", source, *how, *options)
                assert status == 0
                written.append((read_image("o.png"), load("h.png"), json.loads(out)))
            (plain, heat, report), (sharp, its_heat, its_report) = written
            assert np.array_equal(sharpen(plain.pixels, name), sharp.pixels)
            assert not np.array_equal(plain.pixels, sharp.pixels)
            assert (plain.alpha is None and sharp.alpha is None) or np.array_equal(plain.alpha, sharp.alpha)
            assert np.array_equal(heat, its_heat)
            assert (None, name) == (report["sharpen"], its_report["sharpen"])
            assert 0 == report["time_ms"]["sharpen"]
            stages = ("read", "plan", "load", "infer", "stitch", "sharpen", "write")
            parts = sum(its_report["time_ms"].get(stage, 0.0) for stage in stages)
            assert its_report["time_ms"]["total"] == pytest.approx(parts, abs=0.1)
    plans = [run("upscale", "wide.png", "-m", tiny_model, "--dry-run", *more) for more in ([], ["--sharpen", name])]
    assert plans[0] == plans[1]


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


def test_calibrate_prints_and_writes_a_cost_table(run, tiny_model: Path, small: np.ndarray) -> None:
    """The file it writes is a cost table that `upscale --cost` takes."""
    save(small, "a.png")
    status, out, _ = run("calibrate", "-m", tiny_model, "-o", "cost.json")
    assert 0 == status
    assert "w8" in out
    assert 0 == run("upscale", "a.png", "-m", tiny_model, "--cost", "cost.json", "-b", "50%", "-o", "o.png")[0]
    assert (100, 120, 3) == load("o.png").shape


def test_upscale_by_a_deadline(run, tiny_model: Path, small: np.ndarray) -> None:
    """A whole picture, and a report that says how long it took; a dry run has no plan to show."""
    save(small, "a.png")
    status, out, err = run("upscale", "a.png", "-m", tiny_model, "--deadline", "5s", "-o", "o.png", "--json", "-")
    budget = json.loads(out)["budget"]
    assert (0, (100, 120, 3)) == (status, load("o.png").shape)
    assert {"kind": "deadline", "requested": "5s", "planned": 5000.0}.items() <= budget.items()
    assert 0 < budget["spent"] < 5000
    assert f"5s asked, {budget['spent']:.0f} ms taken" in err
    assert 2 == run("upscale", "a.png", "-m", tiny_model, "--deadline", "5s", "--dry-run")[0]
    for wrong in ("5", "40%", "0s"):
        status, out, err = run("upscale", "a.png", "--deadline", wrong, "-o", "p.png")
        assert (2, "") == (status, out)
        assert f"deadline '{wrong}'" in err


@pytest.mark.parametrize("name", ["o.png", "o.tif", "o.jpg"])
def test_large_results_are_written_in_strips(run, tiny_model: Path, small: np.ndarray, monkeypatch, name: str) -> None:
    """The same files and the same report as of a result in memory; a format without strips is written whole."""
    tall = np.tile(small, (12, 1, 1))  # several strips
    for source in ("rgb.png", "grey.png", "alpha.png")[: 1 if name == "o.jpg" else 3]:
        planes = {"rgb.png": tall, "grey.png": tall[..., 0], "alpha.png": np.dstack([tall, tall[..., 0]])}[source]
        save(planes, source)
        reports, pictures = [], []
        for limit in (10**9, 0):
            monkeypatch.setattr("arm_sr.cli.picture.STRIPS_FROM", limit)
            options = ["-m", tiny_model, "-b", "60%", "--heatmap", "h.png", "--json", "-", "-q"]
            status, out, _ = run("upscale", source, "-o", name, *options)
            assert status == 0
            report = json.loads(out)
            assert report["budget"]["spent"] == pytest.approx(report["macs"]["computed"] / report["macs"]["largest"])
            reports.append({k: v for k, v in report.items() if k not in ("time_ms", "budget", "macs")})
            pictures.append((load(name).astype(int), load("h.png")))
        assert reports[0] == reports[1]
        assert pictures[0][0].shape == pictures[1][0].shape
        assert np.abs(pictures[0][0] - pictures[1][0]).max() <= 1
        assert np.abs(pictures[0][1].astype(int) - pictures[1][1]).max() <= 1


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


def test_help_and_version_need_no_engine() -> None:
    """--help of the command and its subcommands imports no engine and no numpy."""
    code = (
        "import sys; from arm_sr.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as stop: assert not stop.code\n"
        "loaded = {'numpy', 'cv2', 'onnxruntime', 'torch', 'PIL'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    for argv in (["--help"], ["upscale", "--help"], ["sweep", "--help"], ["--version"]):
        done = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, check=False)
        assert 0 == done.returncode, done.stderr
        assert done.stdout


def test_python_dash_m_is_the_command(small: np.ndarray, tmp_path: Path) -> None:
    """`python -m arm_sr` upscales from any folder."""
    PIL.Image.fromarray(small).save(tmp_path / "a.png")
    argv = [sys.executable, "-m", "arm_sr", "upscale", "a.png", "-b", "20%", "-q"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)
    assert (200, 240, 3) == load(tmp_path / "a_x4.png").shape
