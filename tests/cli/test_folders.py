"""`arm-sr upscale` on folders: the tree mirrored, stopped and gone on with, whatever fails."""

import errno
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from arm_sr.api import Upscaler
from arm_sr.cli import main
from arm_sr.cost import CostTable
from arm_sr.imaging.io import read_image
from arm_sr.manifest import NAME, Manifest
from arm_sr.models import load_model

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `arm-sr upscale` with interpolation, unless told otherwise, in an empty folder: (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*argv: object, how: tuple[object, ...] = ("--width", "bicubic")) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(["upscale", *map(str, argv), *map(str, how)])
        return status, *capsys.readouterr()

    return call


NAMES = ["a.png", "b.jpg", "sub/B.webp", "sub/deep/d.tif", "sub/ü 1.png"]


@pytest.fixture
def tree(tmp_path: Path, photo: np.ndarray) -> Path:
    """A folder `in` of five pictures."""
    for number, name in enumerate(NAMES):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(photo[40 * number : 40 * number + 20, 100 : 130 + number]).save(path)
    return Path("in")


def files_in(folder: str | Path) -> dict[str, bytes]:
    """Everything but the manifest."""
    paths = sorted(path for path in Path(folder).rglob("*") if path.is_file() and path.name != NAME)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def inodes(folder: str) -> dict[str, int]:
    """Of all outputs: a file that was written again has another one."""
    return {name: (Path(folder) / name).stat().st_ino for name in files_in(folder)}


def test_a_tree_is_mirrored_in_a_stable_order(run: Run, tree: Path) -> None:
    """Names and places stay; each result is what the picture alone gives."""
    (tree / "notes.txt").write_text("no picture")
    (tree / "._a.png").write_text("what another system hides")
    status, out, err = run(tree, "-o", "out", "--recursive", "--json", "-")
    assert (0, NAMES) == (status, list(files_in("out")))
    assert [f"in/{name}" for name in NAMES] == [json.loads(line)["file"] for line in out.splitlines()]
    assert "arm-sr: 5 pictures, 0.0 to 0.1 megapixels; under a second without files" in err
    for name in NAMES:
        assert 0 == run(tree / name, "-o", f"one{Path(name).suffix}", "-q")[0]
        assert Path(f"one{Path(name).suffix}").read_bytes() == files_in("out")[name]


def test_without_recursive_only_the_folder_itself(run: Run, tree: Path) -> None:
    """Those below are not looked at; a folder with none is an error that says so."""
    assert 0 == run(tree, "-o", "out", "-q")[0]
    assert ["a.png", "b.jpg"] == list(files_in("out"))
    (tree / "sub" / "only").mkdir()
    status, _, err = run(tree / "sub" / "only", "-o", "out2", "-q")
    assert (1, False) == (status, Path("out2").exists())
    assert "in/sub/only: no pictures in this folder; --recursive looks into those in it" in err


def test_an_output_folder_in_the_tree_is_no_input(run: Run, tree: Path) -> None:
    """So that the same command gives the same again."""
    for _ in range(2):
        assert 0 == run(tree, "-o", tree / "large", "--recursive", "-q")[0]
        assert NAMES == list(files_in(tree / "large"))


def test_two_pictures_for_one_output_are_an_error_before_the_work(run: Run, tree: Path) -> None:
    """Both are named, and nothing is written; nor is it where a picture would be replaced, or no folder is named."""
    Path("other").mkdir()
    Path("other/a.png").write_bytes((tree / "a.png").read_bytes())
    for argv, word in (
        ((tree, "other", "-o", "out"), "out/a.png would be written twice, of in/a.png and of other/a.png"),
        ((tree, "-o", tree), "in/a.png would be replaced"),
        ((tree,), "name one for the results with -o"),
        ((tree, "-o", "other/a.png"), "must be a directory"),
        ((tree / "a.png", "--resume"), "name it with -o"),
        ((tree / "a.png", "-r", "-o", "out"), "--recursive"),
        ((tree, "-o", "out", "--heatmap", "h.png"), "--heatmap"),
    ):
        status, _, err = run(*argv, "-q")
        assert (2, False) == (status, Path("out").exists())
        assert word in err


def test_bad_pictures_do_not_stop_the_others(run: Run, tree: Path) -> None:
    """They are listed at the end and in the JSON; the others are there, nothing else is."""
    whole = (tree / "b.jpg").read_bytes()
    (tree / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tree / "sub" / "text.png").write_text("no picture")
    status, out, err = run(tree, "-o", "out", "-r", "--json", "-", "-q")
    assert (1, NAMES) == (status, list(files_in("out")))
    reports = [json.loads(line) for line in out.splitlines()]
    assert {"in/cut.jpg", "in/sub/text.png"} == {report["file"] for report in reports if "error" in report}
    assert 7 == len(reports)
    end = err.splitlines()[-3:]
    assert "arm-sr: 2 of 7 pictures failed" == end[0]
    assert {"in/cut.jpg", "in/sub/text.png"} == {line.strip().split(":")[0] for line in end[1:]}


def test_resume_does_what_is_missing_or_changed(run: Run, tree: Path) -> None:
    """A changed picture, a damaged, edited or removed output, another setting; nothing else is written again."""
    assert 0 == run(tree, "-o", "out", "-r", "-q")[0]
    first, written = files_in("out"), inodes("out")

    def redone() -> list[str]:
        status, _, err = run(tree, "-o", "out", "-r", "--resume")
        assert 0 == status
        return [line.split(" -> ")[0].removeprefix("in/") for line in err.splitlines() if " -> " in line]

    assert [] == redone()
    assert written == inodes("out")
    Path("out/a.png").write_bytes(first["a.png"][:-20])
    Path("out/sub/deep/d.tif").unlink()
    assert ["a.png", "sub/deep/d.tif"] == redone()
    assert first == files_in("out")
    assert {written[name] for name in NAMES if name not in ("a.png", "sub/deep/d.tif")} < set(inodes("out").values())

    PIL.Image.new("RGB", (20, 20), "red").save(tree / "b.jpg")  # same name, another picture
    os.utime(tree / "a.png")  # another time, the same picture
    assert ["b.jpg"] == redone()
    assert [] == redone()
    status, _, err = run(tree, "-o", "out", "-r", "--resume", how=("--width", "w16"))
    assert (0, 5) == (status, err.count(" -> "))
    assert 5 == len(redone())  # the last settings count
    status, out, err = run(tree, "-o", "out", "-r", "--resume", "--dry-run")
    assert (0, "", "") == (status, out, err)


def test_a_torn_manifest_costs_one_picture(run: Run, tree: Path) -> None:
    """A kill tore its last line; what follows is read again."""
    assert 0 == run(tree, "-o", "out", "-r", "-q")[0]
    manifest = Path("out") / NAME
    manifest.write_bytes(manifest.read_bytes()[:-100])
    for expected in (1, 0):
        status, _, err = run(tree, "-o", "out", "-r", "--resume")
        assert (0, expected) == (status, err.count(" -> "))


def test_what_a_killed_job_left_half_written_is_removed(run: Run, tree: Path) -> None:
    """Its temporary files, and no other file."""
    leftovers = ["out/.a.png.0123abcd.tmp", "out/sub/.ü 1.png.89abcdef.tmp"]
    others = ["out/.a.png.tmp", "out/sub/.x.png.0123abcd.tmp"]
    Path("out/sub").mkdir(parents=True)
    for name in leftovers + others:
        Path(name).write_bytes(b"half")
    assert 0 == run(tree, "-o", "out", "-r", "--resume", "-q")[0]
    assert sorted([*NAMES, *(name.removeprefix("out/") for name in others)]) == sorted(files_in("out"))


def test_two_jobs_do_not_share_an_output_folder(run: Run, tree: Path) -> None:
    """The second says so and writes nothing."""
    pytest.importorskip("fcntl")
    with Manifest(Path("out")):
        status, _, err = run(tree, "-o", "out", "-q")
    assert (1, {}) == (status, files_in("out"))
    assert "out: another arm-sr is writing here" in err
    assert 0 == run(tree, "-o", "out", "-q")[0]


def test_a_dry_run_writes_nothing(run: Run, tree: Path) -> None:
    """Plans only."""
    status, out, err = run(tree, "-o", "out", "-r", "--dry-run", how=("-b", "40%"))
    assert (0, 5, "") == (status, out.count("patches:"), err)
    assert not Path("out").exists()


def test_a_total_is_spread_by_one_trade_off(run: Run, tree: Path, tiny_model: Path, photo: np.ndarray) -> None:
    """What is predicted fits it and is more for a larger one; flat pictures get nothing while others want it."""
    card = load_model(str(tiny_model))
    CostTable("ms", card.branches, np.zeros(3), np.array([1e-5, 2e-3, 4e-3]), "made up").save(Path("cost.json"))
    PIL.Image.fromarray(photo[300:370, 50:150]).save(tree / "a.png")
    PIL.Image.new("RGB", (100, 100), "navy").save(tree / "flat.png")
    pictures = [*sorted([*NAMES, "flat.png"], key=lambda name: Path(name).parts)]
    upscaler = Upscaler(tiny_model, cost="cost.json")
    spent = []
    for total in ("5ms", "20ms", "30ms", "10s"):
        how = ("-m", tiny_model, "--cost", "cost.json", "--budget-total", total)
        status, out, err = run(tree, "-o", "out", "-r", "--json", "-", how=how)
        reports = [json.loads(line) for line in out.splitlines()]
        assert (0, [f"in/{name}" for name in pictures]) == (status, [report["file"] for report in reports])
        (eta,) = {report["eta"] for report in reports}
        images = [read_image(tree / name).pixels for name in pictures]
        plans = [upscaler.plan(image, eta=eta, objective="mse") for image in images]
        assert [plan.counts for plan in plans] == [report["branches"] for report in reports]
        spent.append(sum(plan.cost for plan in plans))
        assert spent[-1] <= (10_000 if total == "10s" else float(total[:-2]))
        assert f"{total} asked for all, " in err
        assert "s taken without files" in err
        if total != "10s":
            assert {"bicubic"} == {name for name, count in reports[2]["branches"].items() if count}
    assert spent[0] < spent[1] < spent[2] < spent[3]
    assert spent[1] > 15
    status, _, err = run(tree, "-o", "out", "-r", "--resume", how=how)
    assert (0, 0) == (status, err.count(" -> "))
    assert 2 == run(tree, "-o", "out", "--budget-total", "60%", how=())[0]
    assert 2 == run(tree, "-o", "out", "--objective", "psnr", "--budget-total", "6s", how=())[0]


def test_what_is_not_enlarged_takes_nothing_of_a_total(
    run: Run, tmp_path: Path, tiny_model: Path, photo: np.ndarray
) -> None:
    """The other picture gets what it would get alone."""
    card = load_model(str(tiny_model))
    CostTable("ms", card.branches, np.zeros(3), np.array([1e-5, 2e-3, 4e-3]), "made up").save(Path("cost.json"))
    (tmp_path / "in").mkdir()
    PIL.Image.fromarray(photo[:50, 180:240]).save(tmp_path / "in/small.png")
    how = ("-m", tiny_model, "--cost", "cost.json", "--long-side", "120", "--budget-total", "9ms")
    counts = []
    for out in ("alone", "both"):
        status, lines, _ = run("in", "-o", out, "--json", "-", how=how)
        assert 0 == status
        counts += [json.loads(line)["branches"] for line in lines.splitlines() if "small.png" in line]
        PIL.Image.fromarray(photo).save(tmp_path / "in/large.png")
    assert counts[0] == counts[1]
    assert counts[0]["w8"] > 0


def test_the_estimate_gives_each_picture_its_own_budget(
    run: Run, tmp_path: Path, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crop gets its share of an absolute count of MACs, and what is not enlarged is not tried."""
    asked = []
    upscale = Upscaler.upscale

    def recorded(self: Upscaler, image: np.ndarray, *args: Any, **how: Any) -> Any:
        asked.append((image.shape[:2], how))
        return upscale(self, image, *args, **how)

    monkeypatch.setattr(Upscaler, "upscale", recorded)
    (tmp_path / "in").mkdir()
    PIL.Image.fromarray(photo[:256, :256]).save(tmp_path / "in/a.png")
    assert 0 == run("in", "-o", "out", how=("-b", "1GMAC"))[0]
    (crop, how), *_, (whole, all_of_it) = asked
    assert ((128, 128), (256, 256), "1GMAC") == (crop, whole, all_of_it["budget"])
    assert how["budget"] == "0.250000000GMAC"
    asked.clear()
    assert 0 == run("in", "-o", "small", "--long-side", "90", how=())[0]
    assert asked == []


class Faults:
    """From now on the call number `at` of one `kind` on files in `folder` fails."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path, kind: str, at: int) -> None:
        self.fired, self._left = False, at
        opened, replace, fsync, write, low_open = io.open, os.replace, os.fsync, os.write, os.open

        def count(name: object = None) -> None:
            if str(name).startswith(str(folder)) or not str(name).startswith("/"):
                self._left -= 1
                if not self._left:
                    self.fired = True
                    code = {"open": errno.EROFS, "write": errno.ENOSPC, "fsync": errno.EIO, "rename": errno.EIO}[kind]
                    raise OSError(code, os.strerror(code), *([] if name is None else [str(name)]))

        class Stream:
            def __init__(self, stream: Any) -> None:
                self._stream = stream

            def write(self, data: bytes) -> None:
                count()
                self._stream.write(data)

            def __getattr__(self, name: str) -> Any:
                return getattr(self._stream, name)

            def __enter__(self) -> "Stream":
                return self

            def __exit__(self, *error: object) -> None:
                self._stream.close()

        def counting_open(path: object, mode: str = "r", *more: Any, **options: Any) -> Any:
            if kind == "open":
                count(path)
            stream = opened(path, mode, *more, **options)  # type: ignore[call-overload]
            return Stream(stream) if kind == "write" and "x" in mode else stream

        def counted(function: Callable[..., Any], named: bool) -> Callable[..., Any]:
            def call(first: object, *more: Any, **options: Any) -> Any:
                count(first if named else None)
                return function(first, *more, **options)

            return call

        if kind in ("open", "write"):
            patch.setattr(io, "open", counting_open)
        if kind == "open":
            patch.setattr(os, "open", counted(low_open, True))
        if kind == "write":
            patch.setattr(os, "write", counted(write, False))
        if kind == "fsync":
            patch.setattr(os, "fsync", counted(fsync, False))
        if kind == "rename":
            patch.setattr(os, "replace", counted(replace, True))


@pytest.mark.parametrize("kind", ["open", "write", "fsync", "rename"])
def test_whatever_call_fails_nothing_is_lost(run: Run, photo: np.ndarray, tmp_path: Path, kind: str) -> None:
    """Read-only, no space, I/O error at the first, second, ... call: a file is named, no half one is left, what was
    there before is as it was or new, and the job goes on from there."""
    Path("in").mkdir()
    for name in ("a.png", "b.tif"):
        PIL.Image.fromarray(photo[:8, :9]).save(Path("in") / name)
    assert 0 == run("in", "-o", "whole", "-q")[0]
    whole = files_in("whole")
    for at in range(1, 99):
        Path("out").mkdir()
        for name in whole:
            Path("out", name).write_bytes(b"old " + name.encode())
        with pytest.MonkeyPatch.context() as patch:
            faults = Faults(patch, tmp_path, kind, at)
            status, _, err = run("in", "-o", "out", "-q")
        if not faults.fired:
            break
        assert 1 == status
        assert any(f"{place}: " in err for place in ("in/a.png", "in/b.tif", "out/a.png", "out/b.tif", f"out/{NAME}"))
        found = files_in("out")
        assert set(whole) == set(found)
        assert all(data in (whole[name], b"old " + name.encode()) for name, data in found.items())
        assert 0 == run("in", "-o", "out", "--resume", "-q")[0]
        assert whole == files_in("out")
        for path in Path("out").iterdir():
            path.unlink()
        Path("out").rmdir()
    assert at > {"open": 8, "write": 4, "fsync": 2, "rename": 2}[kind]


@pytest.mark.parametrize("kind", ["open", "write", "fsync", "rename"])
def test_whatever_call_fails_heat_map_page_and_report_are_old_or_whole(
    run: Run, photo: np.ndarray, tmp_path: Path, kind: str
) -> None:
    """The file that could not be written is named, as it was given, and the report, where it is not that file, tells of
    it."""
    PIL.Image.fromarray(photo[:8, :9]).save("in.png")
    Path("out").mkdir()
    more = ("--heatmap", "out/h.png", "--compare", "out/c.html", "--json", "out/r.json", "-q")
    assert 0 == run("in.png", "-o", "out/a.png", *more)[0]
    whole = files_in("out")
    for at in range(1, 99):
        for name in whole:
            Path("out", name).write_bytes(b"old")
        with pytest.MonkeyPatch.context() as patch:
            faults = Faults(patch, tmp_path, kind, at)
            status, _, err = run("in.png", "-o", "out/a.png", *more)
        if not faults.fired:
            break
        assert 1 == status
        blamed = next(name for name in ("in.png", *(f"out/{name}" for name in whole)) if f"error: {name}: " in err)
        found = files_in("out")
        assert set(whole) == set(found)
        assert all(found[name] in (whole[name], b"old") for name in ("a.png", "h.png"))
        assert found["c.html"] == b"old" or found["c.html"].endswith(b"</html>\n")
        if blamed == "out/r.json":
            assert b"old" == found["r.json"]
        else:
            assert blamed in json.loads(found["r.json"])["error"]
    assert at > {"open": 5, "write": 4, "fsync": 4, "rename": 4}[kind]


def test_a_job_that_cannot_begin_leaves_the_report_of_another(run: Run, tree: Path) -> None:
    """Two with the same options, one of which is refused."""
    pytest.importorskip("fcntl")
    Path("r.jsonl").write_text("of another\n")
    with Manifest(Path("out")):
        assert 1 == run(tree, "-o", "out", "--json", "r.jsonl", "-q")[0]
    assert "of another\n" == Path("r.jsonl").read_text()
