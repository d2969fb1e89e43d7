"""The engine of TPUs with workers whose runtime is made for the test: what it makes of pictures, and of workers that
crash, hang, are killed or answer wrongly. `test_sophon_simulator` has the vendor's runtime."""

import gc
import json
import logging
import multiprocessing
import os
import signal
import struct
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arm_sr import Upscaler
from arm_sr.backends import open_backend, sophon
from arm_sr.backends.sophon import Sophon, engine, libraries
from arm_sr.backends.sophon.libraries import find_devices, find_runtime
from arm_sr.backends.sophon.process import Lost, Process, Worker
from arm_sr.backends.sophon.worker import SailRuntime
from arm_sr.bmodels import Bmodels, Net
from arm_sr.calibration import cache_path, calibrate
from arm_sr.cost import CostTable
from arm_sr.errors import ArtefactError, BackendError, UsageError
from arm_sr.models import ModelCard, digest

MODELLED = "costs modelled by made up 1.0 from cycles of bm1688 INT8, without transfers"
COMMAND = [sys.executable, str(Path(__file__).with_name("sophon_worker.py"))]


@pytest.fixture
def card(tiny_model: Path) -> ModelCard:
    return ModelCard.load(tiny_model)


def port(channels_last: tuple[int, int], dtype: str = "float32", scale: float = 1.0) -> dict[str, Any]:
    return {"dtype": dtype, "scale": scale, "shape": [1, 3, *channels_last]}


def bmodel(nets: dict[str, Any], chip: str = "BM1688", **about: Any) -> bytes:
    """A file that begins as a bmodel does; the rest is for the worker of the tests."""
    table = struct.pack("<I6HiI", 16, 12, 8, 0, 0, 0, 4, 12, 4) + struct.pack("<I", len(chip)) + chip.encode() + b"\0"
    header = struct.pack("<4I48x", 0xFF55AAEE, 64, len(table), 0)
    return header + table + json.dumps({"nets": nets, **about}).encode()


def write_bmodels(folder: Path, card: ModelCard, tiles: tuple[int, ...] = (16,), chip: str = "BM1688",
                  about: dict[str, Any] | None = None, input_of: dict[str, Any] | None = None,
                  output_of: dict[str, Any] | None = None, **of_net: Any) -> Path:  # fmt: skip
    """A folder with a net for every sub-net and size of a tile, which do what `of_net` and, when the file is loaded,
    `about` say; w8 costs twice as much."""
    folder.mkdir(exist_ok=True)
    nets = []
    for branch, cycles in (("w4", 1), ("w8", 2)):
        inside = {}
        for tile in tiles:
            ends = {
                "input": port((tile, tile + 2)) | (input_of or {}),
                "output": port((2 * tile, 2 * tile + 4)) | (output_of or {}),
            }
            inside[f"{branch}_{tile}"] = ends | of_net
        data = bmodel(inside, chip, **(about or {}))
        (folder / f"{branch}.bmodel").write_bytes(data)
        for tile in tiles:
            nets.append(Net(
                "bm1688", "INT8", branch, (tile, tile + 2), f"{branch}_{tile}", f"{branch}.bmodel", digest(data),
                1000 * cycles * tile**2, 1e-4 * cycles * tile**2,
            ))  # fmt: skip
    Bmodels(card.name, card.sha256, card.scale, "made up 1.0", "", tuple(nets), folder).save()
    return folder


@pytest.fixture
def opened(card: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Sophon]:
    """Opens the engine with workers of the tests; takes what `write_bmodels` does, `devices`, their `device_chip`."""

    def open_engine(devices: str = "0", device_chip: str = "bm1688", **what: Any) -> Sophon:
        folder = write_bmodels(tmp_path / "bmodels", card, **what)
        monkeypatch.setenv(libraries.DEVICES, devices)
        runtime = libraries.Runtime("bmrt", Path(device_chip))
        monkeypatch.setattr(sophon, "find_runtime", lambda chip, compiled_with: runtime)
        monkeypatch.setattr(sophon, "worker_command", lambda: COMMAND)
        backend = open_backend("sophon:bm1688", card, bmodels=folder)
        assert isinstance(backend, Sophon)
        return backend

    return open_engine


def doubled(picture: np.ndarray) -> np.ndarray:
    """What the nets of the tests make of a picture."""
    return picture.repeat(2, axis=-3).repeat(2, axis=-2)


def test_pictures_of_any_size(opened, photo):
    """In tiles that overlap, or padded; both sub-nets, alone and in batches, and several sizes of tiles."""
    backend = opened(tiles=(12, 31))
    for count, height, width in ((1, 1, 1), (1, 1, 90), (2, 12, 14), (1, 13, 15), (3, 40, 7), (1, 70, 101)):
        batch = np.stack([photo[9 * n : 9 * n + height, :width] for n in range(count)])
        for branch in ("w4", "w8"):
            sr = backend.run(branch, batch)
            assert np.array_equal(doubled(batch), sr)
            assert sr.flags.c_contiguous and sr.flags.writeable
    tiles = [("w4", photo[:20, :30]), ("w8", photo[5:9, :3]), ("w4", photo[:20, 60:90])]
    results = dict(backend.run_tiles(tiles))
    assert [0, 1, 2] == sorted(results)
    assert all(np.array_equal(doubled(tile), results[number]) for number, (_, tile) in enumerate(tiles))
    assert [] == list(backend.run_tiles([]))


def test_it_says_what_it_is(opened, card):
    """The chip is in its name, the versions of compiler and runtime in its version."""
    backend = opened(devices="1,0")
    assert ("sophon:bm1688", "INT8") == (backend.name, backend.precision)
    assert ("made up 1.0; fake 1.0", "device 1, device 0") == (backend.version, backend.device)
    assert (card.sha256, False) == (backend.model_sha256, backend.simulated)


@pytest.mark.parametrize(("ends", "within"), [
    ({"input_of": {"dtype": "uint8"}, "output_of": {"dtype": "uint8"}}, 0),
    ({"input_of": {"dtype": "int8", "scale": 0.5}, "output_of": {"dtype": "int8", "scale": 2.0}}, 2),
    ({"input_of": {"dtype": "int8", "scale": 0.4}, "output_of": {"dtype": "float32"}}, 255),
])  # fmt: skip
def test_ends_may_be_quantised(opened, photo, ends, within):
    """By the runtime's scales: an input is multiplied and rounded, an output multiplied."""
    backend = opened(**ends)
    sr = backend.run("w4", photo[None, :40, :50]).astype(int)
    expected = doubled(photo[:40, :50]).astype(int)
    assert np.abs(sr - expected).max() <= within
    if within == 255:
        assert np.array_equal(np.rint(0.4 * photo[:40, :50]).repeat(2, axis=0).repeat(2, axis=1), sr[0])


@pytest.mark.parametrize(("adds", "expected"), [(400.0, 255), (-400.0, 0)])
def test_outputs_are_clipped_and_rounded_here(opened, photo, adds, expected):
    """A chip may leave the clip of a network out."""
    assert (opened(adds=adds).run("w4", photo[None, :20, :20]) == expected).all()


def test_it_works_again_after_closing(opened, photo):
    """What is needed is loaded anew; closing twice is no error."""
    backend = opened()
    before = backend.run("w4", photo[None, :20, :20])
    backend.close()
    backend.close()
    assert np.array_equal(before, backend.run("w4", photo[None, :20, :20]))


def test_devices_share_the_tiles_of_a_picture(opened, photo):
    """Both compute, and several callers get their own pictures."""
    backend = opened(devices="0,1", does="slow")
    picture = photo[None, :30, :30]
    assert np.array_equal(doubled(picture), backend.run("w4", picture))
    assert {0, 1} == {int(line.split()[1]) for worker in backend._workers for line in worker._process.printed()
                      if line.startswith("device")}  # fmt: skip
    backend.close()
    batches = [photo[None, 9 * n : 9 * n + 10, :12] for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for batch, sr in zip(batches, pool.map(lambda batch: backend.run("w8", batch), batches), strict=True):
            assert np.array_equal(doubled(batch), sr)


LOSSES = {
    "crash": "was ended by SIGSEGV",
    "kill": "was ended by SIGKILL",
    "exit": "ended with status 3",
    "hang": "did not answer within 2 s",
    "ahead": "answered request 1000000 when",
    "garbage": "broke off its answers",
    "half": "ended with status 0",
}
"""How a worker may be lost, and what is said of it."""


@pytest.mark.parametrize("does", LOSSES)
def test_a_worker_that_is_lost_is_reported_and_started_once_more(opened, photo, tmp_path, monkeypatch, caplog, does):
    """With its log; the picture is right."""
    monkeypatch.setattr(engine, "PATIENCE", 2.0)
    monkeypatch.setattr("arm_sr.backends.sophon.process.KILLED", 0.2)
    backend = opened(does=does, once=str(tmp_path / "once"))
    caplog.set_level(logging.WARNING)
    picture = photo[None, :30, :40]
    assert np.array_equal(doubled(picture), backend.run("w4", picture))
    text = caplog.text
    assert f"the worker of device 0 {LOSSES[does]}" in text and "while running w4_16" in text
    assert f"about to {does}" in text and text.count("is started once more") == 1


def test_a_worker_that_is_lost_twice_is_an_error(opened, photo, tmp_path):
    """In one sentence with the last that it printed; later pictures get another worker."""
    file = tmp_path / "bmodels" / "w4.bmodel"
    backend = opened(does="crash")
    with pytest.raises(BackendError) as caught:
        backend.run("w4", photo[None, :10, :10])
    said = "the worker of device 0 was ended by SIGSEGV while running w4_16, for the second time; the last that"
    assert str(caught.value).startswith(said) and "\n" not in str(caught.value)
    write_bmodels(file.parent, backend._card)
    assert np.array_equal(doubled(photo[None, :10, :10]), backend.run("w4", photo[None, :10, :10]))


def test_a_worker_that_crashes_as_it_loads_is_lost_too(opened, tmp_path, photo, caplog):
    """A runtime may go down on a file that it does not know."""
    backend = opened(about={"does": "crash", "once": str(tmp_path / "once")})
    assert np.array_equal(doubled(photo[None, :9, :9]), backend.run("w4", photo[None, :9, :9]))
    assert "w4.bmodel" in caplog.text and "about to crash" in caplog.text


def test_a_worker_that_somebody_kills_between_two_tiles(opened, photo, caplog):
    """As the system does when memory is short; what it had loaded is loaded again."""
    backend = opened()
    for branch in ("w4", "w8"):
        backend.load(branch)
    os.kill(backend._workers[0]._process._popen.pid, signal.SIGKILL)
    for branch in ("w4", "w8"):
        assert np.array_equal(doubled(photo[None, :30, :9]), backend.run(branch, photo[None, :30, :9]))
    assert 1 == caplog.text.count("was ended by SIGKILL")


def test_a_late_answer_is_never_taken_for_another_s(opened, photo, tmp_path, caplog):
    """Of an earlier request it is passed over, and no reason to start anew."""
    backend = opened(does="late")
    assert np.array_equal(doubled(photo[None, :30, :40]), backend.run("w4", photo[None, :30, :40]))
    assert "" == caplog.text

    folder = write_bmodels(tmp_path / "slow", backend._card, does="slow", once=str(tmp_path / "once"))
    process = Process(COMMAND, os.environ, tmp_path / "log")
    process.ask({"do": "open", "runtime": "bmrt", "libraries": "bm1688", "device": 0}, b"", 10)
    process.ask({"do": "load", "file": str(folder / "w4.bmodel"), "nets": ["w4_16"]}, b"", 10)
    black, white = (np.full((1, 3, 16, 18), level, np.float32).tobytes() for level in (0, 255))
    with pytest.raises(Lost, match="within"):
        process.ask({"do": "run", "net": "w4_16"}, black, 0.05)
    _, answer = process.ask({"do": "run", "net": "w4_16"}, white, 10)
    assert (np.frombuffer(answer, np.float32) == 255).all()
    process.end()


@pytest.mark.parametrize(("does", "says"), [
    ("refuse", "the worker of device 0: the runtime failed on purpose"),
    ("wrong", "'w4_16' gave 2 numbers, not 3456"),
    ("nan", "'w4_16' gave numbers that are none"),
])  # fmt: skip
def test_a_wrong_answer_is_an_error(opened, photo, caplog, does, says):
    """And no reason to start the worker anew."""
    with pytest.raises(BackendError, match=says):
        opened(does=does).run("w4", photo[None, :10, :10])
    assert "" == caplog.text


def test_a_runtime_that_does_not_take_a_file_is_an_error(opened, photo):
    """With the file's name and what it says."""
    with pytest.raises(BackendError, match=r"w4\.bmodel: the runtime failed on purpose"):
        opened(about={"does": "refuse"}).load("w4")


@pytest.mark.parametrize(("what", "error", "says"), [
    ({"chip": "BM1684X"}, ArtefactError, r"w4\.bmodel: compiled for bm1684x, though the manifest says bm1688"),
    ({"device_chip": "bm1684"}, BackendError, "device 0 is a bm1684, not the bm1688"),
    ({"devices": "0,9"}, BackendError, "there is no device 9, the runtime sees 8"),
    ({"input_of": {"shape": [1, 3, 18, 16]}}, ArtefactError, r"input of 'w4_16' is \[1, 3, 18, 16\], by the manifest"),
    ({"output_of": {"shape": [1, 3, 64, 72]}}, ArtefactError, r"output of 'w4_16' is \[1, 3, 64, 72\]"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(opened, what, error, says):
    """Before any picture is computed."""
    with pytest.raises(error, match=says):
        opened(**what).load("w4")


@pytest.mark.parametrize("end", [-1, 70, 10])
def test_a_truncated_bmodel_is_refused(opened, tmp_path, end):
    """By its name."""
    backend = opened()
    file = tmp_path / "bmodels" / "w4.bmodel"
    file.write_bytes(file.read_bytes()[:end])
    with pytest.raises(ArtefactError, match=r"w4\.bmodel: its sha256 is not that in bmodels\.json; .*truncated"):
        backend.load("w4")
    backend.load("w8")


def _upscale_in_a_child(backend: Sophon, picture: np.ndarray, pids: Any) -> None:
    result = backend.run("w4", picture)
    pids.put((backend._workers[0]._process._popen.pid, bool(np.array_equal(doubled(picture), result))))


def test_a_process_that_is_forked_has_workers_of_its_own(opened, photo):
    """Both go on."""
    backend, picture = opened(), photo[None, :20, :30]
    backend.run("w4", picture)
    fork = multiprocessing.get_context("fork")
    pids = fork.Queue()
    child = fork.Process(target=_upscale_in_a_child, args=(backend, picture, pids))
    child.start()
    pid, right = pids.get(timeout=20)
    child.join()
    assert right and pid != backend._workers[0]._process._popen.pid
    assert np.array_equal(doubled(picture), backend.run("w4", picture))


def test_workers_end_with_their_engine(opened, photo):
    """Also when nobody closes it; nothing is left on the disk."""
    backend = opened()
    backend.run("w4", photo[None, :9, :9])
    popen, log_file = backend._workers[0]._process._popen, backend._workers[0]._log_file
    del backend
    gc.collect()
    assert popen.poll() is not None
    assert not log_file.parent.exists()


def test_who_has_seen_enough_waits_for_no_more_than_a_tile(opened, photo):
    """And the engine goes on."""
    backend = opened(does="slow")
    results = backend.run_tiles([("w4", photo[:10, :10]), ("w4", photo[:200, :200])])  # the second is of 400 tiles
    number, _ = next(results)
    results.close()
    assert 0 == number
    assert backend._workers[0]._process.printed().count("device 0 runs w4_16") < 8
    assert np.array_equal(doubled(photo[None, :9, :9]), backend.run("w8", photo[None, :9, :9]))


def test_an_unknown_command_is_an_error(tmp_path):
    """Not a traceback."""
    with pytest.raises(BackendError, match="nowhere/python: No such file"):
        Worker("device 0", ["/nowhere/python"], {}, tmp_path / "log", {"do": "open"}).open()


def test_a_share_is_one_of_the_chip_s_time(opened, card, tiny_model, photo):
    """By the compiler's model as long as nothing was measured; a given table comes first."""
    backend = opened(tiles=(38,))
    upscaler = Upscaler(tiny_model, backend=backend)
    plan = upscaler.plan(photo[:128, :128], "50%")
    assert ("ms", MODELLED) == (plan.unit, plan.note)
    assert plan.cost <= 0.5 * plan.cost_largest
    by_macs = Upscaler(tiny_model, backend=backend, cost=CostTable.of_macs(card)).plan(photo[:128, :128], "50%")
    assert ("MAC", "") == (by_macs.unit, by_macs.note)
    assert "costs modelled" in upscaler.plan(photo[:128, :128], eta=2, objective="mse").note

    measured = CostTable("ms", card.branches, np.array([0, 1.0, 1.0]), np.array([0, 0.1, 0.5]), "a stop watch")
    path = cache_path(card, backend)
    path.parent.mkdir(parents=True, exist_ok=True)
    measured.save(path)
    plan = Upscaler(tiny_model, backend=backend).plan(photo[:128, :128], "50%")
    path.unlink()
    assert ("ms", "") == (plan.unit, plan.note)
    assert plan.cost_largest == pytest.approx(1 + 0.5 * 128 * 128)


def test_the_time_of_a_simulator_is_not_measured(opened, card, tiny_model, photo):
    """Budgets in milliseconds count what the compiler models, and calibration is refused."""
    backend = opened()
    backend.simulated = True
    plan = Upscaler(tiny_model, backend=backend).plan(photo[:64, :64], "1ms")
    assert ("ms", MODELLED) == (plan.unit, plan.note)
    assert 0 < plan.cost <= 1
    with pytest.raises(UsageError, match="simulator takes is not that of a sophon:bm1688"):
        calibrate(card, backend)


def test_pictures_go_through_plans_of_it(opened, tiny_model, photo):
    """Routed by budget, and in one pass."""
    upscaler = Upscaler(tiny_model, backend=opened(tiles=(24, 38)))
    result = upscaler.upscale(photo[:100, :90], "60%")
    assert "sophon:bm1688" == result.stats["backend"]
    assert {0} < set(result.plan.branch_map.ravel().tolist())
    whole = upscaler.upscale(photo[:100, :90], width="w8")
    assert np.array_equal(doubled(photo[:100, :90]), whole.image)


@pytest.mark.parametrize(("name", "how", "says"), [
    ("sophon", {}, "'sophon' should be sophon:CHIP.*bm1684x, bm1684, bm1688"),
    ("sophon:bm1690", {}, "with a CHIP of bm1684x, bm1684, bm1688"),
    ("sophon:bm1688:INT8:1", {}, "should be sophon:CHIP"),
    ("sophon:bm1688:INT8", {"bmodels": None}, "needs the folder of its compiled sub-nets"),
    ("sophon:bm1688", {"precision": "fp32"}, "leave precision out"),
    ("sophon:bm1684", {}, "nothing was compiled for the chip 'bm1684', only for bm1688"),
    ("sophon:bm1688:F16", {}, "bm1688 has no precision 'F16', only INT8"),
    ("onnxruntime", {}, "bmodels are for the backend sophon:CHIP.*not for 'onnxruntime'"),
    ("auto", {}, "bmodels are for the backend sophon:CHIP.*not for 'auto'"),
])  # fmt: skip
def test_a_wrong_name_is_usage(card, tiny_model, tmp_path, name, how, says):
    """Said in one sentence."""
    folder = write_bmodels(tmp_path / "bmodels", card)
    with pytest.raises(UsageError, match=says):
        Upscaler(tiny_model, backend=name, **{"bmodels": folder} | how)


@pytest.mark.parametrize("text", ["", "a", "0,", "-1", "0;1"])
def test_wrong_numbers_of_devices_are_usage(monkeypatch, text):
    """With the name of the variable."""
    monkeypatch.setenv(libraries.DEVICES, text)
    with pytest.raises(UsageError, match=f"ARM_SR_SOPHON_DEVICES must be.*not '{text}'"):
        find_devices()


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(libraries.LIBRARIES, raising=False)
    monkeypatch.setattr(libraries, "INSTALLED", Path("/nowhere"))
    monkeypatch.setattr(libraries, "_has_sail", lambda: False)


def library_folder(folder: Path, *more: str) -> Path:
    folder.mkdir()
    for name in ("libbmrt.so", "libbmlib.so.0", *more):
        (folder / name).touch()
    return folder


@pytest.mark.usefixtures("nothing_installed")
def test_the_runtime_is_looked_for_in_order(monkeypatch, tmp_path):
    """The variable, `sophon.sail`, the vendor's installation, the compiler's simulator."""
    compiler = library_folder(tmp_path / "compiler", "libcmodel_bm1684x.so", "libcmodel_bm1688.so")
    installed, named = library_folder(tmp_path / "installed"), library_folder(tmp_path / "named")
    assert (compiler, "libcmodel_bm1688.so") == (
        (runtime := find_runtime("bm1688", str(compiler))).folder, runtime.simulator
    )  # fmt: skip
    monkeypatch.setattr(libraries, "INSTALLED", installed)
    assert ("bmrt", installed, "") == (
        (runtime := find_runtime("bm1688", str(compiler))).kind, runtime.folder, runtime.simulator
    )  # fmt: skip
    monkeypatch.setattr(libraries, "_has_sail", lambda: True)
    assert "sail" == find_runtime("bm1688", str(compiler)).kind
    monkeypatch.setenv(libraries.LIBRARIES, str(named))
    assert named == find_runtime("bm1688", str(compiler)).folder


@pytest.mark.usefixtures("nothing_installed")
def test_a_missing_runtime_is_an_error(monkeypatch, tmp_path):
    """That says what to set."""
    with pytest.raises(BackendError, match=r"set ARM_SR_SOPHON_LIB to the folder with libbmrt\.so"):
        find_runtime("bm1688", "/nowhere/lib")
    monkeypatch.setenv(libraries.LIBRARIES, str(tmp_path))
    with pytest.raises(BackendError, match=rf"{tmp_path}/libbmrt\.so: no such library"):
        find_runtime("bm1688", "")
    folder = library_folder(tmp_path / "compiler", "libcmodel_bm1684.so")
    with pytest.raises(BackendError, match="the simulator there knows no bm1688"):
        monkeypatch.setenv(libraries.LIBRARIES, str(folder))
        find_runtime("bm1688", "")


def test_a_simulator_has_links_of_its_own(tmp_path):
    """So that two chips do not meet in the compiler's folder."""
    folder = library_folder(tmp_path / "compiler", "libcmodel_bm1684x.so", "libbmlib_bm1684x.so.0")
    links = tmp_path / "links"
    links.mkdir()
    environment = libraries.Runtime("bmrt", folder, "libcmodel_bm1684x.so").environment("bm1684x", links)
    assert str(links) == environment["LD_LIBRARY_PATH"].split(os.pathsep)[0]
    assert folder / "libcmodel_bm1684x.so" == (links / "libcmodel.so").readlink()
    assert folder / "libbmlib_bm1684x.so.0" == (links / "libbmlib.so.0").readlink()


SAIL = '''
import numpy as np

class Handle:
    def __init__(self, device): pass
    def get_target(self): return "BM1684X"

class IOMode:
    SYSIO = "both ends in system memory"

def get_available_tpu_num(): return 2

class Engine:
    def __init__(self, file, device, mode):
        assert mode == IOMode.SYSIO
        if "newer" in file: raise RuntimeError("load failed")
    def get_graph_names(self): return ["net"]
    def get_input_names(self, net): return ["lr"]
    def get_output_names(self, net): return ["sr"]
    def get_input_dtype(self, net, name): return "Dtype.BM_UINT8"
    def get_output_dtype(self, net, name): return "Dtype.BM_FLOAT32"
    def get_input_scale(self, net, name): return 1.0
    get_output_scale = get_input_scale
    def get_input_shape(self, net, name): return [1, 3, 2, 2]
    def get_output_shape(self, net, name): return [1, 3, 4, 4]
    def process(self, net, inputs):
        assert inputs["lr"].dtype == np.uint8
        return {"sr": inputs["lr"].repeat(2, axis=2).repeat(2, axis=3).astype(np.float32)}
'''


def test_sail_runs_bmodels(monkeypatch, tmp_path):
    """As its documentation says that it does."""
    (tmp_path / "sophon").mkdir()
    (tmp_path / "sophon" / "__init__.py").touch()
    (tmp_path / "sophon" / "sail.py").write_text(SAIL)
    monkeypatch.syspath_prepend(tmp_path)
    assert libraries._has_sail()
    runtime = SailRuntime(1)
    assert "bm1684x" == runtime.chip
    runtime.load("a.bmodel")
    assert {"dtype": "uint8", "scale": 1.0, "shape": [1, 3, 2, 2]} == runtime.ports("net")["input"]
    lr = np.arange(12, dtype=np.uint8).reshape(1, 3, 2, 2)
    dtype, data = runtime.run("net", lr.tobytes())
    assert np.array_equal(lr.repeat(2, axis=2).repeat(2, axis=3), np.frombuffer(data, dtype).reshape(1, 3, 4, 4))
    for call, says in ((lambda: runtime.load("newer.bmodel"), "does not take it; it is probably older"),
                       (lambda: runtime.ports("other"), "no net called 'other'"),
                       (lambda: SailRuntime(2), "no device 2, the runtime sees 2")):  # fmt: skip
        with pytest.raises(Exception, match=says):
            call()
    for name in ("sophon", "sophon.sail"):
        monkeypatch.delitem(sys.modules, name, raising=False)
