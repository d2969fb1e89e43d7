"""The grid of patches covers every pixel of any picture."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import few

from arm_sr.patches import Grid

SIDES = st.integers(1, 200)
PATCHES = st.integers(1, 64)


@few
@given(SIDES, SIDES, PATCHES)
@example(1, 1, 64)
@example(64, 128, 64)
@example(65, 127, 64)
def test_edges_ascend_from_border_to_border(height, width, patch):
    """No patch is empty, none is larger than `patch`, and only the last one may be smaller."""
    grid = Grid(height, width, patch)
    for edges, side in ((grid.row_edges, height), (grid.col_edges, width)):
        sides = np.diff(edges)
        assert (0, side) == (edges[0], edges[-1])
        assert sides.min() >= 1
        assert np.all(sides[:-1] == patch)
        assert sides[-1] <= patch


@few
@given(SIDES, SIDES, PATCHES)
def test_areas_sum_to_the_picture(height, width, patch):
    """Every pixel is counted in exactly one patch."""
    rows, cols = np.indices((height, width)) // patch
    grid = Grid(height, width, patch)
    owner = rows * grid.shape[1] + cols
    assert np.bincount(owner.ravel()).tolist() == grid.areas.ravel().tolist()
    assert height * width == grid.areas.sum()


@few
@given(SIDES, SIDES, PATCHES)
def test_shape_is_ceil_division(height, width, patch):
    """As many patches as it takes to cover both sides."""
    grid = Grid(height, width, patch)
    assert (-(-height // patch), -(-width // patch)) == grid.shape == grid.areas.shape


@pytest.mark.parametrize("sides", [(0, 5, 8), (5, 0, 8), (5, 5, 0), (-1, 5, 8)])
def test_a_side_below_one_is_refused(sides):
    """There is no empty grid."""
    with pytest.raises(ValueError, match="at least 1"):
        Grid(*sides)
