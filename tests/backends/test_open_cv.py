"""What OpenCV's engine does beyond the contract: pictures are cut into parts, and threads are those of the process."""

import multiprocessing
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arm_sr.backends import open_backend, open_cv
from arm_sr.backends.open_cv import CONTEXT, SIDE, OpenCv, _parts
from arm_sr.errors import BackendError
from arm_sr.models import ModelCard, load_model
from arm_sr.stitch import interpolate

SIDES = st.integers(1, 400)


@pytest.fixture
def card(tiny_model) -> ModelCard:
    """Of sub-nets that look no further than the context."""
    return ModelCard.load(tiny_model)


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    """Of the process."""
    before = cv2.getNumThreads()
    yield
    cv2.setNumThreads(before)


@given(height=SIDES, width=SIDES, scale=st.integers(1, 4))
def test_parts_cover_every_pixel_once(height, width, scale):
    """Each with its own piece of the LR picture, with context where there is some, and none larger than the caches."""
    numbers = np.arange(height * width, dtype=np.int32).reshape(height, width, 1)
    filled = np.full((scale * height, scale * width, 1), -1, np.int32)
    for lr, target, above, before in _parts(numbers, filled, scale):
        assert max(lr.shape) <= SIDE and above <= CONTEXT and before <= CONTEXT
        assert (-1 == target).all()
        own = lr[above : above + target.shape[0] // scale, before : before + target.shape[1] // scale]
        target[:] = own.repeat(scale, axis=0).repeat(scale, axis=1)
    assert np.array_equal(numbers.repeat(scale, axis=0).repeat(scale, axis=1), filled)


@pytest.mark.parametrize(("height", "width", "parts"), [(49, 100, 1), (50, 100, 2), (120, 120, 2), (121, 121, 4)])
def test_a_part_has_enough_for_a_thread(height, width, parts):
    """What would fit one is cut in two where both are large enough for their context not to cost more."""
    lr = np.zeros((height, width, 3), np.uint8)
    assert parts == len(list(_parts(lr, lr, 1)))


def test_what_cutting_changes_is_in_the_card(photo):
    """A sub-net that looks further than the context, on a picture of several parts."""
    card = load_model("plain-x4")
    assert card.subnets["w48"].receptive_radius > CONTEXT
    batch = photo[None, 40:250, 100:350]
    whole = open_backend("onnxruntime", card).run("w48", batch).astype(int)
    parts = open_backend("opencv", card).run("w48", batch)
    difference = np.abs(parts - whole)
    assert 0 < difference.max() <= card.precisions["opencv fp32"]["levels"]
    assert (difference > 1).mean() < 0.001


def test_a_picture_depends_on_neither_threads_nor_batch(photo):
    """It is cut by its size alone; sums of floats differ by their order."""
    card = load_model("plain-x4")
    batch = np.stack([photo[40:250, 100:260], photo[140:350, 10:170]])
    expected = open_backend("opencv", card, threads=1).run("w48", batch).astype(int)
    for threads in (2, 3, 16):
        engine = open_backend("opencv", card, threads=threads)
        assert np.abs(engine.run("w48", batch) - expected).max() <= 1
        assert np.abs(engine.run("w48", batch[:1]) - expected[:1]).max() <= 1


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("shape", [(1, 1), (66, 39), (39, 66), (150, 20), (20, 150), (130, 260)])
def test_it_agrees_with_the_reference_however_it_is_cut(card, photo, threads, shape):
    """Upright and lying, with more threads than parts and fewer."""
    batch = np.stack([photo[:height, :width] for height, width in [shape] * 2])
    expected = open_backend("onnxruntime", card).run("w8", batch).astype(int)
    assert np.abs(open_backend("opencv", card, threads=threads).run("w8", batch) - expected).max() <= 1


def test_it_runs_with_its_threads_and_gives_them_back(card, photo, monkeypatch):
    """OpenCV has one number for the whole process, and it is as it was after a run and after one that failed."""
    seen = []
    upscale = open_cv._upscale
    monkeypatch.setattr(open_cv, "_upscale", lambda *part: (seen.append(cv2.getNumThreads()), upscale(*part)))
    cv2.setNumThreads(3)
    for threads in (1, 2, 3):
        engine = open_backend("opencv", card, threads=threads)
        engine.run("w8", photo[None, :30, :30])
        with pytest.raises(BackendError, match=r"opencv failed on \(9, 9, 1\)"):
            engine.run("w8", photo[None, :9, :9, :1])
    assert [1, 1, 2, 2, 3, 3] == seen
    engine.run("w8", np.stack([photo[:30, :30]] * 2))
    assert [1, 1] == seen[6:], "several parts have threads of the engine's own"
    assert 3 == cv2.getNumThreads()


def test_two_engines_in_two_threads_leave_the_process_as_it_was(card, photo):
    """Whichever ends first."""
    cv2.setNumThreads(2)
    engines = [open_backend("opencv", card, threads=threads) for threads in (1, 3)]
    expected = engines[0].run("w8", photo[None, :150, :150])
    with ThreadPoolExecutor(2) as pool:
        for _ in range(5):
            for result in pool.map(lambda engine: engine.run("w8", photo[None, :150, :150]), engines):
                assert np.abs(result.astype(int) - expected).max() <= 1
    assert 2 == cv2.getNumThreads()


def test_closing_waits_for_a_run(card, photo):
    """Another thread's, which gets its picture."""
    engine = open_backend("opencv", card, threads=2)
    batch = photo[None, :200, :200]
    expected = engine.run("w8", batch)
    stop = threading.Event()

    def close() -> None:
        while not stop.is_set():
            engine.close()

    closing = threading.Thread(target=close)
    closing.start()
    try:
        for _ in range(10):
            assert np.array_equal(expected, engine.run("w8", batch))
    finally:
        stop.set()
        closing.join()


def test_all_parts_have_ended_when_one_fails(card, photo, monkeypatch):
    """The next run would otherwise meet them in the networks."""
    begun, ended = threading.Event(), []

    def upscale(network: cv2.dnn.Net, part: open_cv.Part, scale: int) -> None:
        if part[2] == part[3] == 0:
            assert begun.wait(60)
            raise RuntimeError("the first part")
        begun.set()
        time.sleep(0.2)
        ended.append(1)

    monkeypatch.setattr(open_cv, "_upscale", upscale)
    with pytest.raises(BackendError, match="the first part"):
        open_backend("opencv", card, threads=2).run("w8", photo[None, :60, :150])
    assert [1] == ended


def test_threads_that_cannot_be_started_are_an_error_of_the_engine(card, photo, monkeypatch):
    """And it works again afterwards."""
    engine = open_backend("opencv", card, threads=2)
    batch = photo[None, :60, :150]
    expected = engine.run("w8", batch)
    engine.close()

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(BackendError, match="can't start new thread"):
            engine.run("w8", batch)
    assert np.array_equal(expected, engine.run("w8", batch))


def test_tiles_of_several_sub_nets_and_sizes_come_together(card, photo):
    """Each once, as if it were alone; in between the engine can be used, and it is left in order when nobody wants the
    rest."""
    engine = open_backend("opencv", card, threads=2)
    shapes = {"w4": [(60, 150), (9, 30)], "w8": [(30, 30), (130, 140), (1, 7)]}
    tiles = [(branch, photo[:height, :width]) for branch, sizes in shapes.items() for height, width in sizes]
    alone = [engine.run(branch, tile[None])[0] for branch, tile in tiles]
    results = {}
    for number, result in engine.run_tiles(tiles):
        assert number not in results
        results[number] = result
        assert np.array_equal(alone[0], engine.run("w4", tiles[0][1][None])[0])
    assert sorted(results) == list(range(len(tiles)))
    assert all(np.abs(results[n].astype(int) - expected).max() <= 1 for n, expected in enumerate(alone))
    some = engine.run_tiles(tiles)
    next(some)
    some.close()
    assert np.array_equal(alone[1], engine.run("w4", tiles[1][1][None])[0])


def test_a_part_that_is_most_of_the_work_runs_alone(card, photo, monkeypatch):
    """With all of OpenCV's threads, before the others each get one of ours; whoever has seen it may want no more."""
    engine = open_backend("opencv", card, threads=2)
    tiles = [("w4", photo[:9, :7]), ("w8", photo[:40, :40]), ("w4", photo[:7, :9])]
    alone = [engine.run(branch, tile[None])[0] for branch, tile in tiles]
    threads, upscale = [], open_cv._upscale

    def watched(network: cv2.dnn.Net, part: open_cv.Part, scale: int) -> None:
        threads.append((part[0].shape[:2], cv2.getNumThreads()))
        upscale(network, part, scale)

    monkeypatch.setattr(open_cv, "_upscale", watched)
    numbers, results = zip(*engine.run_tiles(tiles), strict=True)
    assert ((40, 40), 2) == threads[0]
    assert {((9, 7), 1), ((7, 9), 1)} == set(threads[1:])
    assert 1 == numbers[0] and [0, 1, 2] == sorted(numbers)
    assert all(np.abs(alone[n].astype(int) - result).max() <= 1 for n, result in zip(numbers, results, strict=True))
    some = engine.run_tiles(tiles)
    assert 1 == next(some)[0]
    some.close()
    assert np.array_equal(alone[1], engine.run("w8", tiles[1][1][None])[0])


def _run(engine: OpenCv, batch: np.ndarray, results: "multiprocessing.Queue[np.ndarray]") -> None:
    engine.run("w8", batch)
    interpolate(np.zeros((600, 600, 3), np.uint8), 4)
    results.put(engine.run("w8", batch))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_it_runs_in_a_forked_process(card, photo):
    """Which has none of the threads, neither ours nor OpenCV's."""
    engine = open_backend("opencv", card, threads=2)
    batch = photo[None, :60, :150]
    expected = engine.run("w8", batch)
    cv2.setNumThreads(3)
    interpolate(np.zeros((600, 600, 3), np.uint8), 4)
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    process = context.Process(target=_run, args=(engine, batch, results), daemon=True)
    process.start()
    try:
        assert np.array_equal(expected, results.get(timeout=20))
        assert 3 == cv2.getNumThreads()
    finally:
        process.kill()
        process.join()
