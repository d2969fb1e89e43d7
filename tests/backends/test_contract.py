"""The contract of every engine: the same pictures from the same model."""

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from arm_sr.backends import BACKENDS, PRECISIONS, Backend, open_backend
from arm_sr.backends.threads import allowed_threads
from arm_sr.errors import ArtefactError, BackendError, UsageError
from arm_sr.models import ModelCard
from arm_sr.supernet.backbones import build

SUBNETS = ("w4", "w8")


@pytest.fixture
def card(tiny_model: Path) -> ModelCard:
    """The small model's."""
    return ModelCard.load(tiny_model)


ENGINES = [(name, precision) for name in BACKENDS for precision in PRECISIONS[name]]
TPU = ("sophon:bm1688", "INT8")
"""In the compiler's simulator, where there is one."""
WITHIN = {"fp32": 0.51, "bf16": 3.0, "INT8": 8.0}
"""8-bit levels from the exact result: rounding, what 8 bits of mantissa leave of these small nets, and of INT8 what 256
values for each layer do, and tiles that overlap by less than the nets look."""


@pytest.fixture(params=[*ENGINES, pytest.param(TPU, marks=pytest.mark.slow)], ids=" ".join)
def backend(request: pytest.FixtureRequest, card: ModelCard) -> Iterator[Backend]:
    """Each engine and precision in turn, open on the small model; left out where the processor has no bf16."""
    try:
        if request.param == TPU:
            engine = open_backend(":".join(TPU), card, bmodels=request.getfixturevalue("tiny_bmodels"))
        else:
            engine = open_backend(request.param[0], card, request.param[1])
    except BackendError as error:
        assert request.param[1] == "bf16" and "processor" in str(error)
        pytest.skip(str(error))
    yield engine
    engine.close()


def reference(card: ModelCard, branch: str, batch: np.ndarray) -> np.ndarray:
    """The picture from the supernet's weights in double precision, not rounded: (N, 2H, 2W, 3), 0..255."""
    shapes = {name: (subnet.width, subnet.depth) for name, subnet in card.subnets.items()}
    net = build(card.backbone, card.scale, shapes).double()
    net.load_state_dict(safetensors.torch.load_file(card.folder / card.supernet["file"]))
    x = torch.from_numpy(batch.copy()).permute(0, 3, 1, 2).double() / 255
    with torch.no_grad():
        sr = net(x, *shapes[branch])
    return (sr * 255).clamp(0, 255).permute(0, 2, 3, 1).numpy()


def crop(photo: np.ndarray, count: int, height: int, width: int) -> np.ndarray:
    """A batch of different real crops."""
    return np.stack([photo[40 * i : 40 * i + height, 60 * i : 60 * i + width] for i in range(count)])


@pytest.mark.parametrize("branch", SUBNETS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (1, 7, 1), (1, 31, 23), (3, 20, 20), (5, 13, 8)])
def test_a_batch_is_upscaled(backend, card, photo, branch, shape):
    """Any number of pictures of any size: uint8, scale times as large, within one level of the exact result."""
    batch = crop(photo, *shape)
    backend.load(branch)

    sr = backend.run(branch, batch)

    count, height, width = shape
    assert ((count, 2 * height, 2 * width, 3), np.uint8) == (sr.shape, sr.dtype)
    difference = np.abs(sr - reference(card, branch, batch))
    if backend.name == TPU[0]:  # pictures are padded to the shape that was compiled, and nets see that
        seen = card.subnets[branch].receptive_radius
        difference = difference[:, : 2 * max(0, height - seen), : 2 * max(0, width - seen)]
    assert difference.max(initial=0) <= WITHIN[backend.precision]


def test_a_picture_does_not_depend_on_its_batch(backend, photo):
    """Tiles are batched as it suits, so neighbours in a batch may not mix."""
    batch = crop(photo, 4, 16, 16)
    together = backend.run("w8", batch).astype(int)
    alone = np.concatenate([backend.run("w8", picture[None]) for picture in batch])
    assert np.abs(together - alone).max() <= 1


def test_tiles_may_differ_in_sub_net_and_size(backend, photo):
    """Each comes once, and as if it were alone."""
    shapes = [("w4", 12, 10), ("w8", 12, 10), ("w4", 31, 23), ("w4", 12, 10), ("w8", 1, 1)]
    tiles = [(branch, photo[9 * i : 9 * i + height, :width]) for i, (branch, height, width) in enumerate(shapes)]
    results = list(backend.run_tiles(tiles))
    assert sorted(number for number, _ in results) == list(range(len(tiles)))
    for number, result in results:
        branch, tile = tiles[number]
        assert np.abs(result.astype(int) - backend.run(branch, tile[None])[0]).max() <= 1
    assert [] == list(backend.run_tiles([]))


def test_a_result_can_be_used_as_a_picture(backend, photo):
    """Contiguous in memory, writable, and not overwritten by the next run."""
    first = backend.run("w4", crop(photo, 2, 12, 10))
    kept = first.copy()
    backend.run("w4", 255 - crop(photo, 2, 12, 10))
    assert first.flags.c_contiguous and first.flags.writeable
    assert np.array_equal(kept, first)


def test_the_input_is_left_as_it_was(backend, photo):
    """The engine reads it only."""
    batch = crop(photo, 2, 12, 10)
    kept = batch.copy()
    backend.run("w8", batch)
    assert np.array_equal(kept, batch)


def test_a_picture_that_is_read_only_will_do(backend, photo):
    """As files are read."""
    batch = crop(photo, 1, 21, 30)
    expected = backend.run("w8", batch)
    batch.flags.writeable = False
    assert np.array_equal(expected, backend.run("w8", batch))


def test_several_threads_may_use_it(backend, photo):
    """Each gets its own picture, whatever the others upscale."""
    batches = [crop(photo, 1, 12 + 3 * n, 30 - 2 * n) for n in range(6)]
    expected = [backend.run("w8", batch) for batch in batches]
    with ThreadPoolExecutor(3) as pool:
        for _ in range(5):
            for result, right in zip(pool.map(lambda batch: backend.run("w8", batch), batches), expected, strict=True):
                assert np.abs(result.astype(int) - right).max() <= 1


def test_a_view_into_a_picture_will_do(backend, photo):
    """Rows need not follow each other in memory."""
    picture = photo.copy()
    view = picture[None, 100:121, 50:80]
    assert not view.flags.c_contiguous
    assert np.array_equal(backend.run("w8", view.copy()), backend.run("w8", view))


def test_sub_nets_alternate_without_trace(backend, photo):
    """Each sub-net answers the same whichever ran before."""
    batch = crop(photo, 1, 16, 16)
    first = {branch: backend.run(branch, batch) for branch in SUBNETS}
    for branch in (*SUBNETS, *reversed(SUBNETS)):
        assert np.array_equal(first[branch], backend.run(branch, batch))
    assert not np.array_equal(first["w4"], first["w8"])


def test_it_works_again_after_closing(backend, photo):
    """Closing twice is no error, and what is needed is loaded anew."""
    batch = crop(photo, 1, 16, 16)
    expected = backend.run("w4", batch)
    backend.close()
    backend.close()
    assert np.array_equal(expected, backend.run("w4", batch))


THREADS: dict[str, Callable[[Any], int]] = {
    "onnxruntime": lambda engine: engine._sessions["w8"].get_session_options().intra_op_num_threads,
    "openvino": lambda engine: engine._requests["w8"].get_compiled_model().get_property("INFERENCE_NUM_THREADS"),
    "pytorch": lambda engine: torch.get_num_threads(),
    "opencv": lambda engine: engine._threads,
}
"""What each computes with."""


@pytest.mark.parametrize("name", BACKENDS)
def test_it_computes_with_the_threads_it_is_given(card, photo, name):
    """By default with all that are allowed; neighbours in a process have their own number."""
    batch = crop(photo, 1, 16, 16)
    one, default = open_backend(name, card, threads=1), open_backend(name, card)
    for engine, threads in ((one, 1), (default, allowed_threads()), (one, 1)):
        engine.run("w8", batch)
        assert threads == THREADS[name](engine)


def test_it_says_what_it_is(backend):
    """Name, version and precision are part of measured costs."""
    assert (backend.name, backend.precision) in [*ENGINES, TPU]
    assert backend.version and isinstance(backend.version, str)


@pytest.mark.parametrize("branch", SUBNETS)
def test_engines_agree_within_one_level(card, photo, branch):
    """On a whole picture."""
    batch = photo[None, 60:189, 150:301].copy()
    results = [open_backend(name, card).run(branch, batch).astype(int) for name in BACKENDS]
    for other in results[1:]:
        assert np.abs(results[0] - other).max() <= 1


@pytest.mark.parametrize("name", BACKENDS)
def test_a_damaged_file_is_refused_by_name(tiny_model, tmp_path, name):
    """Before any picture is computed with wrong weights."""
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    file = folder / {"pytorch": "supernet.safetensors", "opencv": "w4.planes.onnx"}.get(name, "w4.onnx")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ArtefactError, match=str(file)):
        open_backend(name, ModelCard.load(folder)).load("w4")


@pytest.mark.parametrize("name", ["", "cuda", "ONNXRuntime", "base", "auto"])
def test_an_unknown_engine_is_refused_with_those_there_are(card, name):
    """As the value of an option."""
    with pytest.raises(UsageError, match=rf"'{name}'.*onnxruntime, openvino, pytorch, opencv"):
        open_backend(name, card)
