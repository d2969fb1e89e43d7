"""Crops to calibrate and check on, and the gate."""

from pathlib import Path

import numpy as np
import pytest
import skimage.data

from arm_sr.edges import edge_energy
from arm_sr.errors import ImageError
from arm_sr.evaluation.pairs import Pair
from arm_sr.imaging.resample import lr_bicubic
from arm_sr.lut import EdgeTable
from arm_sr.tpu.crops import Crops, crops_of_all_bins, extreme_crops
from arm_sr.tpu.gate import measure


@pytest.fixture
def pairs() -> list[Pair]:
    pictures = [skimage.data.astronaut(), skimage.data.coffee()[:400, :600], np.full((64, 64, 3), 9, np.uint8)]
    return [Pair(f"{number}", hr, lr_bicubic(hr, 2)) for number, hr in enumerate(pictures)]


def test_crops_are_from_flat_to_busy_and_fit_their_truth(tiny_model: Path, pairs: list[Pair]) -> None:
    table = EdgeTable.load(tiny_model / "lut.json")
    crops = crops_of_all_bins(pairs, table, (24, 32), 6)
    assert (6, 24, 32, 3) == crops.lr.shape and (6, 48, 64, 3) == crops.hr.shape
    detail = [float(edge_energy(crop).mean()) for crop in crops.lr]
    assert sorted(detail) == detail and 10 * detail[0] < detail[-1]
    assert len({crop.tobytes() for crop in crops.lr}) == 6
    for lr, hr in zip(crops.lr, crops.hr, strict=True):  # but for the border, which others shaped
        assert np.abs(lr_bicubic(hr, 2)[4:-4, 4:-4].astype(int) - lr[4:-4, 4:-4]).max() <= 1


def test_one_crop_is_of_the_middle(tiny_model: Path, pairs: list[Pair]) -> None:
    table = EdgeTable.load(tiny_model / "lut.json")
    (crop,) = crops_of_all_bins(pairs, table, (24, 24), 1).lr
    assert 0 < crop.std()


def test_pictures_without_room(tiny_model: Path, pairs: list[Pair]) -> None:
    with pytest.raises(ImageError, match="room for 0 crops of 999x999"):
        crops_of_all_bins(pairs, EdgeTable.load(tiny_model / "lut.json"), (999, 999), 1)


def test_extremes_are_flat_and_saturated() -> None:
    flat, saturated = extreme_crops((24, 40))
    assert flat.std() == 0 and {0, 255} == set(np.unique(saturated))


def test_the_gate_tells_what_a_net_changes(pairs: list[Pair]) -> None:
    hr = pairs[0].hr[None, :64, :64]
    crops = Crops(lr_bicubic(hr[0], 2)[None], hr)

    def exact(batch: np.ndarray) -> np.ndarray:
        return batch.repeat(2, axis=1).repeat(2, axis=2)

    def brighter(batch: np.ndarray) -> np.ndarray:
        return np.minimum(exact(batch), 252) + 3

    same = measure(exact, exact, crops, extreme_crops((32, 32)), 2)
    assert (0, 0, 0.0, 0.0, 1) == (same.max_levels, same.extreme_levels, same.mean_levels, same.loss_db, same.crops)
    other = measure(brighter, exact, crops, crops.lr[:0], 2)
    assert 3 == other.max_levels and other.extreme_levels is None and 2.5 < other.mean_levels <= 3
    expected = np.mean((exact(crops.lr)[:, 2:-2, 2:-2] - hr[:, 2:-2, 2:-2].astype(float)) ** 2)
    worse = np.mean((brighter(crops.lr)[:, 2:-2, 2:-2] - hr[:, 2:-2, 2:-2].astype(float)) ** 2)
    assert 10 * np.log10(worse / expected) == pytest.approx(other.loss_db)
