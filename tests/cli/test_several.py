"""`arm-sr upscale` on several pictures: in order, overlapped, and with failures in between."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from picture_files import load, save

from arm_sr import Upscaler
from arm_sr.imaging.formats import Encoding
from arm_sr.imaging.io import Image, read_image, write_image


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
