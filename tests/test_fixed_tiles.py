"""Tiles of one shape: strategies, borders and engines with fixed batches."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from strategies import few

from arm_sr import Upscaler
from arm_sr.errors import BackendError, UsageError
from arm_sr.fixed_tiles import BLENDING, STRATEGIES, origins, shares, tiles_along, upscale_in_tiles
from arm_sr.imaging.resample import lr_bicubic


@st.composite
def layouts(draw, longest=40):
    """Strategy, tile (height, width), overlap, and a picture's sides from 1 on, shorter than the tile's or longer."""
    strategy = draw(st.sampled_from(STRATEGIES))
    tile = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    overlap = 0 if strategy == "plain" else draw(st.integers(0, min(tile) - 1))
    return strategy, tile, overlap, (draw(st.integers(1, longest)), draw(st.integers(1, longest)))


def noise(size, seed=0):
    """A picture of noise, uint8 (H, W, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def nearest(scale):
    """An engine that repeats pixels."""
    return lambda batch: batch.repeat(scale, axis=1).repeat(scale, axis=2)


def two_layers(batch):
    """An engine x2 of two 3x3 layers with zero padding each, in whole numbers: it looks 2 pixels away."""
    kernel = np.array([[1, 2, 3], [5, 7, 11], [13, 17, 19]])[None, :, :, None]
    features = batch.astype(np.int64)
    for _ in range(2):
        features = (ndimage.correlate(features, kernel, mode="constant") + 41) % 251  # 41: padding is not a value
    return nearest(2)(features.astype(np.uint8))


@few
@given(st.integers(1, 60), st.integers(1, 20), st.data())
def test_tiles_cover_a_side_from_border_to_border(length, tile, data):
    """In steps of at most tile - overlap, never outside, and with no tile more than needed."""
    length = max(length, tile)
    overlap = data.draw(st.integers(0, tile - 1))
    starts = origins(length, tile, overlap)
    assert (0, length - tile) == (starts[0], starts[-1])
    assert np.all(np.diff(starts) >= 1)
    assert np.all(np.diff(starts) <= tile - overlap)
    assert tiles_along(length, tile, overlap) == len(starts)
    assert tile + (len(starts) - 2) * (tile - overlap) < length or len(starts) == 1


@few
@given(layouts(), st.integers(1, 4))
def test_the_shares_in_every_pixel_sum_to_one(layout, scale):
    """Whatever the strategy; where tiles do not blend, one of them has it all."""
    strategy, (tile, _), overlap, (length, _) = layout
    length = max(length, tile)
    starts = origins(length, tile, overlap)
    total = np.zeros(scale * length)
    for start, share in zip(scale * starts, shares(starts, tile, scale, strategy), strict=True):
        assert strategy in BLENDING or set(share.tolist()) <= {0, 1}
        assert np.all(share >= 0)
        total[start : start + scale * tile] += share
    np.testing.assert_allclose(total, 1, rtol=1e-6)


@few
@given(layouts(), st.integers(1, 4), st.integers(1, 9), st.booleans())
def test_repeating_pixels_tile_by_tile_is_repeating_them_at_once(layout, scale, batch, fill):
    """For every strategy, tile, overlap and size from 1x1 on; the engine sees tiles of one shape, in batches."""
    strategy, tile, overlap, size = layout
    image, calls = noise(size), []

    def run(tiles):
        calls.append(tiles.shape)
        return nearest(scale)(tiles)

    actual = upscale_in_tiles(image, run, tile, scale, strategy, overlap, batch=batch, fill=fill)
    assert np.uint8 == actual.dtype
    np.testing.assert_array_equal(nearest(scale)(image[None])[0], actual)
    needed = int(tiles_along(size[0], tile[0], overlap) * tiles_along(size[1], tile[1], overlap))
    assert {(*tile, 3)} == {shape[1:] for shape in calls}
    counts = [shape[0] for shape in calls]
    assert [batch] * (needed // batch) == counts[: needed // batch]
    assert -(-needed // batch) == len(calls)
    assert (batch * len(calls) if fill else needed) == sum(counts)


@few
@given(layouts(), st.integers(0, 255))
def test_a_constant_stays_constant(layout, level):
    """To the level, whatever the weights; the engine sees nothing else, such as black padding."""
    strategy, tile, overlap, size = layout
    image = np.full((*size, 3), level, np.uint8)

    def run(tiles):
        assert np.all(level == tiles)
        return nearest(3)(tiles)

    assert np.all(level == upscale_in_tiles(image, run, tile, 3, strategy, overlap))


@few
@given(st.integers(5, 14), st.integers(5, 14), st.integers(0, 30), st.integers(0, 30), st.integers(1, 5))
def test_crop_with_the_receptive_radius_is_one_pass_to_the_bit(tall, wide, more, further, batch):
    """Zero padding of every layer included: tiles at the border of the picture end there."""
    image = noise((tall + more, wide + further), seed=tall)
    actual = upscale_in_tiles(image, two_layers, (tall, wide), 2, "crop", 4, batch=batch)
    np.testing.assert_array_equal(two_layers(image[None])[0], actual)


def test_less_than_the_receptive_radius_shows():
    """So that the tests of equality can fail."""
    image = noise((30, 30))
    one_pass = two_layers(image[None])[0]
    for strategy, overlap in (("crop", 2), ("plain", 0), ("mean", 4), ("gaussian", 4)):
        assert not np.array_equal(one_pass, upscale_in_tiles(image, two_layers, (9, 9), 2, strategy, overlap))


def test_a_picture_smaller_than_the_tile_is_one_pass_away_from_the_padding():
    """The padding lies below and to the right, 2 pixels are the radius."""
    image = noise((7, 30))
    actual = upscale_in_tiles(image, two_layers, (12, 9), 2, "crop", 4)
    assert (14, 60, 3) == actual.shape
    np.testing.assert_array_equal(two_layers(image[None])[0][: 2 * 5], actual[: 2 * 5])


@pytest.mark.parametrize("size", [(61, 83), (24, 32), (25, 200), (9, 40)])
def test_crop_of_a_real_sub_net_is_one_pass(tiny_model, photo, size):
    """But for rounding: convolutions may be summed in another order for another shape."""
    upscaler = Upscaler(tiny_model)
    card, backend = upscaler.card, upscaler.backend
    radius = card.subnets[card.largest].receptive_radius
    image = np.ascontiguousarray(photo[100 : 100 + size[0], 150 : 150 + size[1]])
    one_pass = backend.run(card.largest, image[None])[0]
    tile, kept = (24, 32), size[0] if size[0] >= 24 else size[0] - radius

    def step(strategy, overlap):
        actual = upscale_in_tiles(image, lambda batch: backend.run(card.largest, batch), tile, card.scale, strategy,
                                  overlap)  # fmt: skip
        assert one_pass.shape == actual.shape
        return np.abs(actual.astype(int) - one_pass)[: card.scale * kept]

    exact = step("crop", 2 * radius)
    assert exact.max() <= 1
    assert np.count_nonzero(exact) <= exact.size // 1000
    if size != tile:
        assert step("plain", 0).max() > 1


@pytest.mark.parametrize(
    ("strategy", "overlap", "expected"),
    [
        ("plain", 0, [0, 0, 0, 0, 40, 40, 40, 40, 80, 80]),  # tiles at 0, 4 and 6
        ("crop", 0, [0, 0, 0, 0, 40, 40, 40, 80, 80, 80]),
        ("crop", 2, [0, 0, 0, 40, 40, 80, 80, 120, 120, 120]),  # 0, 2, 4, 6
        ("mean", 0, [0, 0, 0, 0, 40, 40, 60, 60, 80, 80]),
        ("mean", 1, [0, 0, 0, 20, 40, 40, 60, 80, 80, 80]),  # 0, 3, 6
    ],
)
def test_which_tile_a_pixel_comes_from(strategy, overlap, expected):
    """Tiles of 4 x 4 along a side of 10, each filled with 40 times its number: the last starts at 6."""
    image = np.zeros((4, 10, 3), np.uint8)

    def number(batch):
        return np.stack([np.full_like(tile, 40 * count) for count, tile in enumerate(batch)])

    actual = upscale_in_tiles(image, number, (4, 4), 1, strategy, overlap)
    assert [expected] * 4 == actual[..., 1].tolist()


def test_gaussian_passes_from_tile_to_tile_without_a_step():
    """From one tile's value to the other's, falling all the way, even in the middle, 2 per cent at the ends."""
    starts = origins(48 + 40, 48, 8)
    first, second = shares(starts, 48, 1, "gaussian")
    across = first[40:]
    assert np.all(np.diff(across) < 0)
    np.testing.assert_allclose(across, second[:8][::-1], atol=1e-6)
    assert across[0] > 0.95
    assert across[3] > 0.5 > across[4]
    assert np.all(first[:40] == 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strategy": "feather"}, "unknown strategy 'feather'; there are plain, mean, gaussian, crop"),
        ({"overlap": 4}, "smaller than the tile"),
        ({"overlap": -1}, "0 or more"),
        ({"tile": (0, 8), "overlap": 0}, "smaller than the tile"),
        ({"strategy": "plain"}, "must be 0 for the strategy plain"),
        ({"batch": 0}, "batch must be 1 or more"),
        ({"scale": 0}, "scale and batch"),
        ({"image": np.zeros((5, 5), np.uint8)}, "uint8"),
        ({"image": np.zeros((5, 5, 3))}, "uint8"),
        ({"image": np.zeros((0, 5, 3), np.uint8)}, "not empty"),
    ],
)
def test_what_is_out_of_range_is_named(change, message):
    """In one sentence."""
    good = {"image": noise((5, 5)), "run": nearest(2), "tile": (4, 8), "scale": 2, "strategy": "crop", "overlap": 2}
    upscale_in_tiles(**good)
    with pytest.raises(UsageError, match=message):
        upscale_in_tiles(**{**good, **change})


def test_an_engine_of_another_scale_is_an_error():
    """Not a picture of repeated pixels."""
    with pytest.raises(BackendError, match="check the scale of 4"):
        upscale_in_tiles(noise((5, 5)), nearest(2), (4, 4), 4)


def test_padding_disturbs_little(photo):
    """At the padded border a trained net gives what it gives in one pass, in which it pads every layer with zeros, but
    for much less than with repeated pixels."""
    run = partial(Upscaler("plain-x4", backend="onnxruntime").backend.run, "w16")
    small = lr_bicubic(photo, 4)
    mirrored, repeated = [], []
    for top, left in ((0, 0), (20, 30), (60, 40), (80, 80)):
        lr = small[top : top + 38, left : left + 38]
        border = run(lr[None])[0].astype(float)[-12:]
        mirrored.append(upscale_in_tiles(lr, run, (48, 48), 4)[-12:] - border)
        around = np.pad(lr, ((0, 10), (0, 10), (0, 0)), mode="edge")
        repeated.append(run(around[None])[0][140:152, :152] - border)
    assert np.mean(np.square(mirrored)) < 0.6 * np.mean(np.square(repeated))
