"""Sharpening: the published kernels, every kind of picture, and the same pixels in strips."""

import numpy as np
import PIL.Image
import pytest
import scipy.ndimage
import skimage.data
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageFilter
from strategies import few

from arm_sr.cli import build_parser
from arm_sr.imaging.filters import KERNELS, StripSharpener, sharpen

COFFEE = np.ascontiguousarray(skimage.data.coffee()[100:221, 100:300])
NAMES = sorted(KERNELS)


def exact(image: np.ndarray, name: str) -> np.ndarray:
    """What a filter is by its definition, in float64 and not clipped: (H, W, C)."""
    planes = np.atleast_3d(image).astype(np.float64)
    if name == "edge-enhance":
        around = scipy.ndimage.uniform_filter(planes, (3, 3, 1), mode="nearest") * 9
        return (11 * planes - around) / 2
    blurred = scipy.ndimage.gaussian_filter(planes, (1, 1, 0), truncate=3, mode="nearest")
    return planes + 0.5 * (planes - blurred)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("grey", [False, True])
def test_filters_are_what_they_say(name: str, dtype: type, grey: bool) -> None:
    """Rounded and clipped to the range of the dtype, border included."""
    image = (COFFEE.astype(np.uint16) * 257).astype(dtype) if dtype is np.uint16 else COFFEE
    image = image[..., 1] if grey else image
    expected = np.clip(exact(image, name), 0, np.iinfo(dtype).max).reshape(image.shape)
    sharp = sharpen(image, name)
    assert (dtype, image.shape) == (sharp.dtype, sharp.shape)
    assert np.abs(sharp - expected).max() <= 0.55
    assert np.abs(sharp.astype(float) - image).mean() > 1


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_edge_enhance_is_pillows(mode: str) -> None:
    """But for halves, which Pillow rounds up, and the outermost pixels, which it leaves."""
    picture = PIL.Image.fromarray(COFFEE).convert(mode)
    pillow = np.asarray(picture.filter(ImageFilter.EDGE_ENHANCE)).astype(int)
    difference = (pillow - sharpen(np.asarray(picture), "edge-enhance"))[1:-1, 1:-1]
    assert {0, 1} == set(np.unique(difference))


@pytest.mark.parametrize("name", NAMES)
def test_alpha_stays_and_colours_do_not_see_it(name: str) -> None:
    """Grey with alpha and RGBA."""
    alpha = np.random.default_rng(0).integers(0, 256, COFFEE.shape[:2], dtype=np.uint8)
    for colours in (COFFEE, COFFEE[..., 0]):
        sharp = sharpen(np.dstack([colours, alpha]), name)
        assert np.array_equal(np.dstack([sharpen(colours, name), alpha]), sharp)


@pytest.mark.parametrize("name", NAMES)
def test_flat_and_tiny_pictures_stay(name: str) -> None:
    """Levels are kept, and the input is not written to."""
    for shape in ((1, 1), (1, 9, 3), (40, 2), (5, 5, 4)):
        for level in (0, 77, 255):
            assert np.array_equal(np.full(shape, level), sharpen(np.full(shape, level, np.uint8), name))
    before = COFFEE.copy()
    sharpen(COFFEE, name)
    assert np.array_equal(before, COFFEE)


@few
@given(st.lists(st.integers(1, 12), min_size=1, max_size=12), st.sampled_from(NAMES), st.sampled_from([1, 2, 3, 4]))
def test_strips_of_any_height_give_the_whole(heights: list[int], name: str, channels: int) -> None:
    """Rows that a filter needs of the neighbours are carried over."""
    shape = (sum(heights), 20, channels) if channels > 1 else (sum(heights), 20)
    image = np.random.default_rng(len(heights)).integers(0, 256, shape, dtype=np.uint8)
    *strips, last = np.split(image, np.cumsum(heights)[:-1])
    sharpener = StripSharpener(name)
    parts = [*(sharpener.add(rows) for rows in strips), sharpener.add(last, last=True)]
    assert np.array_equal(sharpen(image, name), np.concatenate(parts))


@pytest.mark.parametrize("name", NAMES)
def test_the_option_knows_every_filter(name: str) -> None:
    """In both commands; anything else is wrong usage."""
    for command in ("upscale", "evaluate"):
        assert name == build_parser().parse_args([command, "a", "--sharpen", name]).sharpen
        with pytest.raises(SystemExit):
            build_parser().parse_args([command, "a", "--sharpen", f"{name}s"])
