"""What OpenCV's engine does beyond the contract: pictures are cut into parts."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arm_sr.backends import open_backend
from arm_sr.backends.open_cv import CONTEXT, SIDE, _parts
from arm_sr.errors import BackendError
from arm_sr.models import ModelCard, load_model

SIDES = st.integers(1, 400)


@given(height=SIDES, width=SIDES, scale=st.integers(1, 4), least=st.integers(1, 8))
def test_parts_cover_every_pixel_once(height, width, scale, least):
    """Each with its own piece of the LR picture, with context where there is some, and none larger than the caches."""
    numbers = np.arange(height * width, dtype=np.int32).reshape(height, width, 1)
    filled = np.full((scale * height, scale * width, 1), -1, np.int32)
    parts = list(_parts(numbers, filled, scale, least))
    for lr, target, above, before in parts:
        assert max(lr.shape) <= SIDE and above <= CONTEXT and before <= CONTEXT
        assert (-1 == target).all()
        own = lr[above : above + target.shape[0] // scale, before : before + target.shape[1] // scale]
        target[:] = own.repeat(scale, axis=0).repeat(scale, axis=1)
    assert np.array_equal(numbers.repeat(scale, axis=0).repeat(scale, axis=1), filled)
    assert len(parts) >= least or max(height, width) < 4 * CONTEXT * least


def test_what_cutting_changes_is_in_the_card(photo):
    """A sub-net that looks further than the context, on a picture of several parts."""
    card = load_model("plain-x4")
    assert card.subnets["w48"].receptive_radius > CONTEXT
    batch = photo[None, 40:250, 100:350]
    whole = open_backend("onnxruntime", card).run("w48", batch).astype(int)
    parts = open_backend("opencv", card, threads=2).run("w48", batch)
    difference = np.abs(parts - whole)
    assert 0 < difference.max() <= card.precisions["opencv fp32"]["levels"]
    assert (difference > 1).mean() < 0.001


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("shape", [(1, 1), (66, 39), (39, 66), (150, 20), (20, 150)])
def test_it_agrees_with_the_reference_however_it_is_cut(tiny_model, photo, threads, shape):
    """Sub-nets that look no further than the context: upright and lying, with more threads than parts and fewer."""
    card = ModelCard.load(tiny_model)
    batch = np.stack([photo[:height, :width] for height, width in [shape] * 2])
    expected = open_backend("onnxruntime", card).run("w8", batch).astype(int)
    assert np.abs(open_backend("opencv", card, threads=threads).run("w8", batch) - expected).max() <= 1


def test_the_process_keeps_its_threads(tiny_model, photo):
    """OpenCV has one number for all that it does, and it is as it was after a run and after one that failed."""
    engine, before = open_backend("opencv", ModelCard.load(tiny_model), threads=2), cv2.getNumThreads()
    cv2.setNumThreads(3)
    try:
        engine.run("w8", photo[None, :30, :30])
        assert 3 == cv2.getNumThreads()
        with pytest.raises(BackendError, match=r"opencv failed on a batch of \(1, 9, 9, 1\)"):
            engine.run("w8", photo[None, :9, :9, :1])
        assert 3 == cv2.getNumThreads()
    finally:
        cv2.setNumThreads(before)
