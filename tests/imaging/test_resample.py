"""`lr_bicubic` against its definition, written as plain loops."""

import math

import numpy as np
import PIL.Image
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st

from arm_sr.imaging.resample import crop_to_multiple, lr_bicubic, resize, resize_rows


def keys_cubic(x: float) -> float:
    """Keys' kernel with a = -0.5, expanded by hand."""
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    if x < 2:
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return 0.0


def mirrored(index: int, size: int) -> int:
    """Symmetric padding: ... 1 0 | 0 1 2 ... with the edge pixel repeated, as often as needed."""
    while not 0 <= index < size:
        index = -1 - index if index < 0 else 2 * size - 1 - index
    return index


def shrunk_line(line: list[float], scale: int) -> list[float]:
    """One row or column shrunk, in double precision and not rounded."""
    result = []
    for position in range(len(line) // scale):
        centre = (position + 0.5) * scale - 0.5
        total = weights = 0.0
        for index in range(math.floor(centre - 2 * scale) - 1, math.ceil(centre + 2 * scale) + 2):
            weight = keys_cubic((index - centre) / scale)
            total += weight * line[mirrored(index, len(line))]
            weights += weight
        result.append(total / weights)
    return result


def slow_lr_bicubic(plane: np.ndarray, scale: int) -> np.ndarray:
    """The definition for one channel: columns, then rows, rounded half up once at the end."""
    columns = [shrunk_line([float(value) for value in column], scale) for column in plane.T]
    rows = [shrunk_line(list(row), scale) for row in np.array(columns).T]
    return np.array([[min(max(math.floor(value + 0.5), 0), 255) for value in row] for row in rows], np.uint8)


def assert_same_but_for_ties(expected: np.ndarray, actual: np.ndarray) -> None:
    """At most one level of difference, on at most 0.1% of the values.

    `lr_bicubic` computes in float32: where the exact value is a tie (x.5, common because the weights are
    dyadic for scales 2 and 4), the last bit decides which way it is rounded.
    """
    assert expected.shape == actual.shape
    difference = np.abs(expected.astype(int) - actual)
    assert difference.max() <= 1
    assert np.count_nonzero(difference) <= max(1, 0.001 * difference.size)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_colour_equals_the_definition(scale):
    """Random colour, the hardest content, of a shape that is odd after shrinking."""
    hr = np.random.default_rng(scale).integers(0, 256, (23 * scale, 15 * scale, 3), dtype=np.uint8)
    expected = np.dstack([slow_lr_bicubic(hr[..., channel], scale) for channel in range(3)])
    assert_same_but_for_ties(expected, lr_bicubic(hr, scale))


@settings(max_examples=20, deadline=None)
@given(scale=st.integers(2, 4), rows=st.integers(1, 7), columns=st.integers(1, 7), seed=st.integers(0, 1000))
def test_grey_of_any_size_equals_the_definition(scale, rows, columns, seed):
    """Also pictures smaller than the kernel, which are mirrored more than once."""
    hr = np.random.default_rng(seed).integers(0, 256, (rows * scale, columns * scale), dtype=np.uint8)
    assert_same_but_for_ties(slow_lr_bicubic(hr, scale), lr_bicubic(hr, scale))


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("value", [0, 1, 128, 254, 255])
def test_constant_stays_constant(scale, value):
    """The weights sum to one, to the last level."""
    hr = np.full((6 * scale, 5 * scale, 3), value, np.uint8)
    assert (np.full((6, 5, 3), value) == lr_bicubic(hr, scale)).all()


def test_scale_one_changes_nothing():
    """At scale 1 the kernel is one at the pixel and zero at the others."""
    hr = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    assert (hr == lr_bicubic(hr, 1)).all()


@pytest.mark.parametrize("shape", [(9, 8), (8, 9, 3), (7, 7), (0, 4)])
def test_sides_must_be_multiples(shape):
    """A remainder is the caller's to crop, never dropped in silence."""
    with pytest.raises(ValueError, match="multiples of 4"):
        lr_bicubic(np.zeros(shape, np.uint8), 4)


def test_crop_to_multiple_keeps_the_top_left():
    """What `crop_to_multiple` returns, `lr_bicubic` takes."""
    hr = np.arange(11 * 10 * 3, dtype=np.uint8).reshape(11, 10, 3)
    assert (hr[:9, :9] == crop_to_multiple(hr, 3)).all()
    assert (3, 3, 3) == lr_bicubic(crop_to_multiple(hr, 3), 3).shape


def pillow(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pillow's antialiased bicubic of one channel in floating point; it knows nothing beyond the borders."""
    image = PIL.Image.fromarray(plane.astype(np.float32))
    return np.asarray(image.resize((width, height), PIL.Image.Resampling.BICUBIC))


@pytest.mark.parametrize(("height", "width"), [(60, 60), (100, 33), (33, 100), (137, 64), (301, 299), (41, 200)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_resize_agrees_with_pillow(height: int, width: int, dtype: type) -> None:
    """Within rounding, away from the borders, larger and smaller."""
    photo = skimage.data.astronaut()[:120, 100:230].astype(dtype) * (1 if dtype == np.uint8 else 257)
    resized = resize(photo, height, width)
    assert (dtype, (height, width, 3)) == (resized.dtype, resized.shape)
    rows, columns = -(-6 * height // 120), -(-6 * width // 130)
    inner = np.s_[rows:-rows, columns:-columns]
    for channel in range(3):
        expected = np.clip(pillow(photo[..., channel], height, width), 0, np.iinfo(dtype).max)
        assert np.abs(expected - resized[..., channel])[inner].max() <= 0.52 if dtype == np.uint8 else 3


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 70), st.integers(1, 70), st.integers(0, 65535))
def test_resize_keeps_flat_colours(height: int, width: int, rows: int, columns: int, level: int) -> None:
    """Of any size, with alpha and without; and a picture of the size that is asked for."""
    flat = np.full((height, width, 4), level, np.uint16)
    assert (resize(flat[..., 0], rows, columns) == level).all()
    flat[..., 3] = 500
    resized = resize(flat, rows, columns)
    assert (rows, columns, 4) == resized.shape
    assert (resized == [level, level, level, 500]).all()
    noise = np.random.default_rng(level).integers(0, 65536, (height, width, 3), np.uint16)
    assert np.array_equal(noise, resize(noise, height, width))


def test_resize_takes_any_strips() -> None:
    """The rows are those of the whole."""
    photo = skimage.data.astronaut()[:150, :90]
    for height, width in ((61, 50), (150, 90), (377, 200), (1, 1)):
        strips = [photo[:1], photo[1:70], photo[70:140], photo[140:]]
        rows = list(resize_rows(strips, photo.shape[:2], (height, width)))
        assert np.array_equal(resize(photo, height, width), np.concatenate(rows))


@pytest.mark.parametrize("to", [(25, 31), (123, 150)])
def test_resize_sees_no_transparent_colour(to: tuple[int, int]) -> None:
    """What cannot be seen does not bleed; composed on any ground, the result is the composed picture resized."""
    photo = skimage.data.astronaut()[:60, 100:170]
    rows, columns = np.ogrid[:60, :70]
    alpha = np.clip(255 - 20 * (np.hypot(rows - 30, columns - 35) - 18), 0, 255).astype(np.uint8)
    hidden = np.where(alpha[..., None] == 0, np.uint8(0), photo)
    results = []
    for colour in (photo, hidden):
        results.append(resize(np.dstack([colour, alpha]), *to))
    seen = results[0][..., 3] > 0
    assert np.array_equal(results[0][..., 3], results[1][..., 3])
    assert np.abs(results[0][seen].astype(int) - results[1][seen]).max() <= 1
    on_black = results[1][..., :3].astype(float) * results[1][..., 3:] / 255
    premultiplied = photo.astype(float) * alpha[..., None] / 255
    for channel in range(3):
        expected = pillow(premultiplied[..., channel], *to)
        difference = np.abs(expected.clip(0) - on_black[..., channel])
        assert difference.mean() < 0.4  # rounded twice
        assert difference.max() < 4  # colours that overshoot what they can be
