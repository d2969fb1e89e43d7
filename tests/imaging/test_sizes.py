"""How large a result is to be."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arm_sr.errors import UsageError
from arm_sr.imaging.sizes import Size

sides = st.integers(1, 5000)


@settings(max_examples=30)
@given(sides, sides, st.floats(1, 8))
def test_a_factor_multiplies_both_sides(height: int, width: int, scale: float) -> None:
    """To the nearest pixel, exactly where it is whole."""
    rows, columns = Size(scale=scale).of(height, width)
    assert max(abs(rows - height * scale), abs(columns - width * scale)) <= 0.5
    assert (3 * height, 3 * width) == Size(scale=3.0).of(height, width)


@settings(max_examples=30)
@given(sides, sides, sides, sides)
def test_a_side_that_is_asked_for_is_exact(height: int, width: int, one: int, other: int) -> None:
    """And the other one follows from the picture's shape, but is never nothing."""
    assert (other, one) == Size.parse(f"{one}x{other}").of(height, width)
    assert (max(1, int(height * (one / width) + 0.5)), one) == Size.parse(f"{one}x").of(height, width)
    assert one == Size.parse(f"x{one}").of(height, width)[0]
    assert one == max(Size(long_side=one).of(height, width))
    assert one == min(Size(short_side=one).of(height, width)) or height == width
    assert Size.parse(f"{one}x{other}").factor(height, width) == max(one / width, other / height)


def test_sizes_have_names() -> None:
    """For the files of results."""
    sizes = [Size(scale=4.0), Size(scale=2.5), Size.parse("1920x1080"), Size.parse("1920X"), Size.parse("x1080")]
    assert ["x4", "x2.5", "1920x1080", "1920x", "x1080"] == [size.tag for size in sizes]
    assert ["short9", "long9"] == [Size(short_side=9).tag, Size(long_side=9).tag]


@pytest.mark.parametrize("text", ["", "x", "1920", "1920*1080", "-1x5", "1.5x2", "1x2x3", "0x5", "5x0", "9999999999x"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"size|width|height"):
        Size.parse(text)


@pytest.mark.parametrize("scale", [0.0, 0.99, -2.0, 1e308, float("nan"), float("inf")])
def test_what_is_no_scale_is_refused(scale: float) -> None:
    with pytest.raises(UsageError, match="scale"):
        Size(scale=scale)


@pytest.mark.parametrize("side", [0, -5, 10**400])
def test_what_is_no_side_is_refused(side: int) -> None:
    for name in ("short_side", "long_side", "width", "height"):
        with pytest.raises(UsageError, match=f"the {name.replace('_', ' ')} must be from 1 to"):
            Size(**{name: side})
