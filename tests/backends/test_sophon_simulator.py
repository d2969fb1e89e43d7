"""The engine of TPUs in the compiler's simulator: what the vendor's runtime makes of files and devices. Pictures are in
the contract."""

import dataclasses
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from strategies import run_python

from arm_sr.backends import open_backend
from arm_sr.backends.sophon.libraries import find_runtime, worker_command
from arm_sr.backends.sophon.process import Worker
from arm_sr.bmodels import Bmodels
from arm_sr.calibration import calibrate
from arm_sr.errors import ArtefactError, BackendError, UsageError
from arm_sr.models import ModelCard, digest

pytestmark = pytest.mark.slow
NAME = "sophon:bm1688:INT8"


@pytest.fixture
def card(tiny_model: Path) -> ModelCard:
    return ModelCard.load(tiny_model)


@pytest.fixture
def worker(simulator: Path, tmp_path: Path) -> Callable[[str, int], Worker]:
    """Makes one, of the real kind, for a chip and a device."""

    def make(chip: str, device: int = 0) -> Worker:
        links = tmp_path / f"{chip}.links"
        links.mkdir()
        environment = find_runtime(chip, str(simulator)).environment(chip, links)
        opening = {"do": "open", "runtime": "bmrt", "libraries": str(simulator), "device": device}
        return Worker(f"device {device}", worker_command(), environment, tmp_path / f"{chip}.log", opening)

    return make


@pytest.fixture
def copied(tiny_bmodels: Path, tmp_path: Path) -> Path:
    """The compiled model, to be damaged."""
    return Path(shutil.copytree(tiny_bmodels, tmp_path / "bmodels"))


@pytest.mark.parametrize("chip", ["bm1684", "bm1684x", "bm1688"])
def test_every_chip_can_be_simulated(worker, chip):
    """The runtime says which it is, and that there is one."""
    one = worker(chip)
    assert chip == one.open()["chip"] and "libbmrt" in one.open()["version"]
    one.close()


def test_there_is_one_device(worker):
    """Another is refused by number."""
    with pytest.raises(BackendError, match="there is no device 1, the runtime sees 1"):
        worker("bm1688", 1).open()


def test_a_runtime_refuses_what_it_cannot_run(worker, copied):
    """Another chip's bmodel, half of one, none at all, and a net that is not in it; the worker goes on."""
    (good, *_) = (net for net in Bmodels.load(copied).nets if net.chip == "bm1688")
    file = copied / good.file
    half, text = copied / "half.bmodel", copied / "text.bmodel"
    half.write_bytes(file.read_bytes()[:100_000])
    text.write_text("hello")
    other, own = worker("bm1684x"), worker("bm1688")
    for one, path in ((other, file), (own, half), (own, text), (own, copied / "missing.bmodel")):
        with pytest.raises(BackendError, match=rf"{path.name}: the runtime \(libbmrt.*\) does not take it"):
            one.load(str(path), [])
    with pytest.raises(BackendError, match="it has no net called 'another'"):
        own.load(str(file), ["another"])
    assert [1, 3, *good.tile] == own.load(str(file), [good.net])[good.net]["input"]["shape"]
    with pytest.raises(BackendError, match=r"takes \d+ bytes, not 4"):
        own.run(good.net, bytes(4), 60)
    for one in (other, own):
        one.close()


def test_a_bmodel_of_another_chip_is_refused_before(copied, card):
    """Whatever the manifest says."""
    bmodels = Bmodels.load(copied)
    wrong = dataclasses.replace(bmodels, nets=tuple(dataclasses.replace(net, chip="bm1684x") for net in bmodels.nets))
    wrong.save()
    with pytest.raises(ArtefactError, match="compiled for bm1688, though the manifest says bm1684x"):
        open_backend("sophon:bm1684x", card, bmodels=copied).load("w4")


def test_a_net_of_another_shape_is_refused(copied, card):
    """Than the manifest says."""
    bmodels = Bmodels.load(copied)
    nets = tuple(dataclasses.replace(net, tile=(net.tile[0] + 8, net.tile[1])) for net in bmodels.nets)
    dataclasses.replace(bmodels, nets=nets).save()
    with pytest.raises(ArtefactError, match=r"the input of '.*' is \[1, 3, .*\], by the manifest \[1, 3, "):
        open_backend(NAME, card, bmodels=copied).load("w4")


def test_a_file_that_was_changed_is_refused(copied, card):
    """By its hash; with a hash that fits by the runtime."""
    bmodels = Bmodels.load(copied)
    file = copied / bmodels.of("bm1688", "INT8")["w4"][0].file
    file.write_bytes(file.read_bytes()[:100_000])
    with pytest.raises(ArtefactError, match="truncated"):
        open_backend(NAME, card, bmodels=copied).load("w4")
    nets = (dataclasses.replace(net, sha256=digest((copied / net.file).read_bytes())) for net in bmodels.nets)
    dataclasses.replace(bmodels, nets=tuple(nets)).save()
    with pytest.raises(BackendError, match="does not take it; it is probably older than the compiler"):
        open_backend(NAME, card, bmodels=copied).load("w4")


def test_a_worker_that_is_killed_is_started_once_more(tiny_bmodels, card, photo, caplog):
    """With what it had loaded; the picture is the same."""
    backend = open_backend(NAME, card, bmodels=tiny_bmodels)
    picture = photo[None, :40, :50]
    before = backend.run("w8", picture)
    os.kill(backend._workers[0]._process._popen.pid, signal.SIGKILL)
    assert np.array_equal(before, backend.run("w8", picture))
    assert "was ended by SIGKILL" in caplog.text
    backend.close()


def test_two_simulators_share_the_tiles(tiny_bmodels, card, photo, monkeypatch):
    """The picture is that of one."""
    picture = photo[None, :70, :80]
    expected = open_backend(NAME, card, bmodels=tiny_bmodels).run("w8", picture)
    monkeypatch.setenv("ARM_SR_SOPHON_DEVICES", "0,0")
    assert np.array_equal(expected, open_backend(NAME, card, bmodels=tiny_bmodels).run("w8", picture))


def test_the_command_upscales_a_photo(tiny_bmodels, tiny_model, photo, tmp_path):
    """Within a budget, and calibration is refused."""
    cv2.imwrite(str(tmp_path / "photo.png"), photo[100:180, 200:300])
    engine = ("--backend", NAME, "--bmodels", str(tiny_bmodels), "-m", str(tiny_model))
    out = tmp_path / "out.png"
    done = run_python("-m", "arm_sr", "upscale", tmp_path / "photo.png", *engine, "-b", "60%", "-o", out, "-v")
    assert (0, True) == (done.returncode, "costs modelled by" in done.stderr), done.stderr
    assert (160, 200, 3) == cv2.imread(str(out)).shape
    done = run_python("-m", "arm_sr", "calibrate", *engine)
    assert 2 == done.returncode and "simulator" in done.stderr


def test_a_simulator_is_no_clock(tiny_bmodels, card):
    """Costs are those of the compiler."""
    backend = open_backend(NAME, card, bmodels=tiny_bmodels)
    assert backend.simulated and backend.modelled_cost is not None
    with pytest.raises(UsageError, match="simulator"):
        calibrate(card, backend)
