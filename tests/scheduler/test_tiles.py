"""Merging of patches into tiles, against brute force on pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import cost_tables, few, make_cost, routed_grids

from arm_sr.patches import Grid
from arm_sr.scheduler.tiles import Tiles, merge, merged_cost

HALOS = st.integers(0, 5)
MACS = make_cost([0, 0, 0, 0], [0, 1, 2, 4], "MAC")


def pixel_map(branch_map, grid):
    """Branch of every LR pixel."""
    rows, cols = np.indices((grid.height, grid.width)) // grid.patch
    return branch_map[rows, cols]


def computed(box, grid, halo):
    """LR pixels of a box grown by the halo, counted one by one."""
    top, left, bottom, right = (int(side) for side in box)
    inside = 0
    for y in range(top - halo, bottom + halo):
        for x in range(left - halo, right + halo):
            inside += 0 <= y < grid.height and 0 <= x < grid.width
    return inside


def one_tile_a_patch(branch_map, grid, halo):
    """The tiles without any merging."""
    rows, cols = np.nonzero(branch_map)
    r, c = grid.row_edges, grid.col_edges
    box = np.stack([r[rows], c[cols], r[rows + 1], c[cols + 1]], axis=1)
    return Tiles(branch_map[rows, cols], box, halo, (grid.height, grid.width))


def boxes(branch_map, grid, halo=0, table=MACS):
    """Branch and box of every tile, sorted."""
    tiles = merge(np.array(branch_map), grid, halo, table)
    return sorted((int(b), *box) for b, box in zip(tiles.branch, tiles.box.tolist(), strict=True))


@few
@given(routed_grids(), HALOS, cost_tables())
def test_tiles_cover_every_pixel_of_the_sub_nets_once_and_nothing_else(routed, halo, table):
    """Each pixel by a tile of its own branch; interpolated patches by none."""
    grid, branch_map = routed
    tiles = merge(branch_map, grid, halo, table)
    times, branch_of = np.zeros((2, grid.height, grid.width), dtype=int)
    for branch, (top, left, bottom, right) in zip(tiles.branch, tiles.box, strict=True):
        assert 0 <= top < bottom <= grid.height
        assert 0 <= left < right <= grid.width
        times[top:bottom, left:right] += 1
        branch_of[top:bottom, left:right] = branch
    expected = pixel_map(branch_map, grid)
    np.testing.assert_array_equal(expected, branch_of)
    np.testing.assert_array_equal(expected > 0, times)


@few
@given(routed_grids(), HALOS, cost_tables())
def test_computed_pixels_are_those_of_the_grown_and_clipped_boxes(routed, halo, table):
    """Counted one by one."""
    grid, branch_map = routed
    tiles = merge(branch_map, grid, halo, table)
    assert [computed(box, grid, halo) for box in tiles.box] == tiles.computed_pixels.tolist()


@few
@given(routed_grids(), HALOS, cost_tables())
def test_cost_is_a_call_and_its_pixels_for_every_tile(routed, halo, table):
    """Recounted tile by tile; interpolation is not in it."""
    grid, branch_map = routed
    tiles = merge(branch_map, grid, halo, table)
    expected = sum(
        table.one_pass(int(branch), computed(box, grid, halo))
        for branch, box in zip(tiles.branch, tiles.box, strict=True)
    )
    assert expected == tiles.cost(table)


@few
@given(routed_grids(), HALOS, st.integers(1, 3), cost_tables())
def test_a_uniform_map_is_one_tile_without_halo(routed, halo, branch, table):
    """What one pass over the whole picture costs."""
    grid, _ = routed
    tiles = merge(np.full(grid.shape, branch), grid, halo, table)
    assert [[0, 0, grid.height, grid.width]] == tiles.box.tolist() == tiles.outer.tolist()
    assert [branch] == tiles.branch.tolist()
    assert table.one_pass(branch, grid.height * grid.width) == tiles.cost(table)


@few
@given(routed_grids(), HALOS, cost_tables())
def test_merging_never_costs_more_than_one_tile_a_patch(routed, halo, table):
    """Neither in cost nor in the number of calls."""
    grid, branch_map = routed
    tiles, apart = merge(branch_map, grid, halo, table), one_tile_a_patch(branch_map, grid, halo)
    assert tiles.cost(table) <= apart.cost(table)
    assert len(tiles.branch) <= len(apart.branch)


@few
@given(routed_grids(), HALOS, cost_tables())
def test_a_turned_picture_costs_the_same(routed, halo, table):
    """Rows and columns are tried alike."""
    grid, branch_map = routed
    turned = Grid(grid.width, grid.height, grid.patch)
    expected = merge(branch_map, grid, halo, table).cost(table)
    assert expected == merge(branch_map.T, turned, halo, table).cost(table)


@pytest.mark.parametrize("halo", [0, 3])
def test_interpolation_everywhere_needs_no_tile(halo):
    """And costs nothing here."""
    tiles = merge(np.zeros((3, 4), int), Grid(20, 30, 8), halo, MACS)
    assert (0, 0) == (len(tiles.box), tiles.cost(MACS))
    assert (0, 4) == tiles.outer.shape
    assert [] == tiles.computed_pixels.tolist()


def test_a_checkerboard_has_one_tile_a_patch():
    """Nothing touches along a side."""
    board = np.indices((4, 5)).sum(axis=0) % 2
    assert 10 == len(boxes(board, Grid(16, 20, 4)))
    assert 20 == len(boxes(board + 1, Grid(16, 20, 4)))


@pytest.mark.parametrize("halo", [0, 2])
def test_stripes_are_one_tile_each(halo):
    """Lying or standing, cut at the border of the picture."""
    grid = Grid(15, 14, 4)
    lying = np.array([1, 2, 0, 3])[:, None] * np.ones(4, int)
    assert [(1, 0, 0, 4, 14), (2, 4, 0, 8, 14), (3, 12, 0, 15, 14)] == boxes(lying, grid, halo)
    assert [(1, 0, 0, 15, 4), (2, 0, 4, 15, 8), (3, 0, 12, 15, 14)] == boxes(lying.T, grid, halo)


def test_the_cheaper_of_rows_and_columns_is_taken():
    """A column crossed by single patches: four tiles one way, five the other."""
    comb = [[1, 1], [1, 0], [1, 1], [1, 0], [1, 1]]
    assert [(1, 0, 0, 20, 4), (1, 0, 4, 4, 8), (1, 8, 4, 12, 8), (1, 16, 4, 20, 8)] == boxes(comb, Grid(20, 8, 4), 1)
    assert [(1, 0, 0, 4, 20), (1, 4, 0, 8, 4), (1, 4, 8, 8, 12), (1, 4, 16, 8, 20)] == boxes(
        np.transpose(comb), Grid(8, 20, 4), 1
    )


def test_runs_of_different_ends_are_not_joined():
    """A tile is a rectangle of one branch."""
    assert [(1, 0, 0, 2, 4), (1, 2, 0, 4, 2)] == boxes([[1, 1], [1, 0]], Grid(4, 4, 2))


def test_halo_is_clipped_at_the_picture():
    """A corner has halo on two sides only, and a halo wider than the picture is the picture."""
    corner = np.zeros((3, 3), int)
    corner[0, 0] = 1
    grid = Grid(12, 12, 4)
    assert [6 * 6] == merge(corner, grid, 2, MACS).computed_pixels.tolist()
    assert [12 * 12] == merge(corner, grid, 50, MACS).computed_pixels.tolist()


@few
@given(routed_grids(), HALOS)
def test_labels_of_any_integer_type_do(routed, halo):
    """Maps may be stored small."""
    grid, branch_map = routed
    assert boxes(branch_map, grid, halo) == boxes(branch_map.astype(np.uint8), grid, halo)


@few
@given(routed_grids(), HALOS, cost_tables(), st.integers(0, 4))
def test_the_cost_of_many_maps_is_that_of_each(routed, halo, table, others):
    """Maps that are judged together do not touch each other."""
    grid, branch_map = routed
    maps = [branch_map, *(np.roll(branch_map, shift, axis=1) for shift in range(1, others + 1)), branch_map * 0 + 1]
    expected = [merge(one, grid, halo, table).cost(table) for one in maps]
    np.testing.assert_allclose(merged_cost(np.array(maps), grid, halo, table), expected, rtol=1e-12)


def test_no_map_costs_nothing():
    """As when every choice is decided without merging."""
    assert (0,) == merged_cost(np.zeros((0, 3, 3), int), Grid(12, 12, 4), 2, MACS).shape
