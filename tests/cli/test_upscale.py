"""The command `arm-sr` on real files: the right picture, or one clear sentence and the right exit status."""

import fcntl
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
from picture_files import load, no_leftovers, save

from arm_sr import Upscaler
from arm_sr.imaging.filters import sharpen
from arm_sr.imaging.io import Image, read_image, write_image


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


@pytest.mark.parametrize("exists", [True, False])
def test_an_output_without_suffix_is_a_folder(run, small: np.ndarray, exists: bool) -> None:
    """For one picture too, as a pattern of the shell may find no more; not where a format is asked for."""
    save(small, "a.png")
    if exists:
        Path("large").mkdir()
    assert 0 == run("upscale", "a.png", "-o", "large/", "--width", "bicubic", "-q")[0]
    assert ["a_x4.png"] == [path.name for path in Path("large").iterdir()]
    assert 0 == run("upscale", "a.png", "-o", "file", "--format", "jpg", "--width", "bicubic", "-q")[0]
    assert b"\xff\xd8" == Path("file").read_bytes()[:2]
    assert 2 == run("upscale", "a.png", "a.png", "-o", "file", "--width", "bicubic", "-q")[0]


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
        ([""], "its name is empty"),
        (["a.png", "-o", ""], "its name is empty"),
        (["-", ".", "-o", "out"], "read only once"),
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
    for option, rubbish in itertools.product(("--lut", "--cost"), ('{"schema": 1}', "[" * 100_000)):
        Path("x.json").write_text(rubbish)
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


@pytest.mark.skipif(sys.platform != "linux", reason="asks the pipe how much is in it")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_waiting_for_stdin(tmp_path: Path, number: signal.Signals, status: int) -> None:
    """Though the pipe stays open."""
    script = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from arm_sr.cli import main; sys.exit(main(['upscale', '-', '-o', 'a.png', '-q']))"
    )
    argv = [sys.executable, "-c", script]
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(argv, cwd=tmp_path, **pipes) as process:
        assert process.stdin and process.stderr
        process.stdin.write(b"\x89PNG")
        process.stdin.flush()
        left = bytearray(4)
        while fcntl.ioctl(process.stdin, termios.FIONREAD, left) == 0 and any(left):  # until it is read
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        assert status == process.wait(60)
        assert b"arm-sr: interrupted\n" == process.stderr.read()
    assert [] == list(tmp_path.iterdir())


@pytest.mark.skipif(not os.path.exists("/dev/stdout"), reason="no /dev/stdout here")
def test_dev_stdout_may_be_a_pipe(small: np.ndarray, tmp_path: Path) -> None:
    """For the picture and for the report."""
    save(small, tmp_path / "a.png")
    call = [sys.executable, "-m", "arm_sr", "upscale", "a.png", "--width", "bicubic", "-q"]
    for more in (["-o", "/dev/stdout", "--format", "png"], ["-o", "b.png", "--json", "/dev/stdout"]):
        done = subprocess.run([*call, *more], cwd=tmp_path, capture_output=True, check=True)
        if "b.png" in more:
            assert "b.png" == json.loads(done.stdout)["output_file"]
        else:
            assert b"\x89PNG" == done.stdout[:4]
