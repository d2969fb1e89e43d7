"""Seams between tiles."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import few, make_cost, routed_grids

from arm_sr.evaluation.quality import seam_step
from arm_sr.patches import Grid
from arm_sr.scheduler import Plan
from arm_sr.scheduler.tiles import Tiles, merge
from arm_sr.stitch import OUTSIDE, REACH, keep_flat_borders, soften_seams

MACS = make_cost([0, 0, 0, 0], [0, 1, 2, 4], "MAC")


def plan_of(grid: Grid, tiles: Tiles, branch_map: np.ndarray, scale: int) -> Plan:
    """A plan with these tiles and nothing else of interest."""
    plan = Plan("m", "0", scale, ("bicubic", "a", "b", "c"), grid, branch_map, tiles, "max", "max", "mse", 0, 1, "MAC",
                0, 1, None)  # fmt: skip
    plan.check()
    return plan


def owners(plan: Plan) -> np.ndarray:
    """Number of the tile of every pixel of the output, 0 for interpolation."""
    owner = np.zeros(plan.tiles.size, int)
    for number, (top, left, bottom, right) in enumerate(plan.tiles.box, start=1):
        owner[top:bottom, left:right] = number
    return owner.repeat(plan.scale, axis=0).repeat(plan.scale, axis=1)


@few
@given(routed_grids(), st.integers(1, 4), st.integers(0, 99))
def test_only_pixels_beside_a_seam_change(routed, scale, seed):
    """By less than half of the largest step; seams run where two neighbours belong to different tiles."""
    grid, branch_map = routed
    plan = plan_of(grid, merge(branch_map, grid, 2, MACS), branch_map, scale)
    owner = owners(plan)
    beside = np.zeros(owner.shape, bool)
    beside[1:] |= owner[1:] != owner[:-1]
    beside[:-1] |= owner[1:] != owner[:-1]
    beside[:, 1:] |= owner[:, 1:] != owner[:, :-1]
    beside[:, :-1] |= owner[:, 1:] != owner[:, :-1]
    before = np.random.default_rng(seed).integers(0, 256, (*owner.shape, 3), dtype=np.uint8)
    after = before.copy()
    soften_seams(after, plan.seams())
    assert np.array_equal(before[~beside], after[~beside])
    assert np.abs(after.astype(int) - before).max() <= 2 * 5 / 32 * 255 + 1


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("left", "right", "expected"), [(100, 132, (105, 127)), (132, 100, (127, 105)), (0, 255, (40, 215))]
)
def test_the_sides_of_a_seam_move_towards_each_other(turned, left, right, expected):
    """By 5/32 of the step, lying or standing, up or down."""
    grid, branch_map = Grid(4, 8, 4), np.array([[1, 2]])
    sr = np.full((8, 16, 3), left, np.uint8)
    sr[:, 8:] = right
    if turned:
        grid, branch_map, sr = Grid(8, 4, 4), branch_map.T, np.ascontiguousarray(sr.transpose(1, 0, 2))
    soften_seams(sr, plan_of(grid, merge(branch_map, grid, 1, MACS), branch_map, 2).seams())
    line = sr[:, 3, 1] if turned else sr[3, :, 1]
    assert [left] * 7 + list(expected) + [right] * 7 == line.tolist()


def test_tiles_of_one_branch_have_a_seam_too():
    """They had different context; the two halves of an L are two tiles."""
    grid, branch_map = Grid(8, 8, 4), np.array([[1, 1], [1, 0]])
    tiles = merge(branch_map, grid, 1, MACS)
    assert 2 == len(tiles.box)
    sr = np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    before = sr.copy()
    soften_seams(sr, plan_of(grid, tiles, branch_map, 1).seams())
    assert (sr != before)[3:5, :4].any()


def test_one_tile_has_no_seam():
    """A uniform plan is one pass, to the bit."""
    grid, branch_map = Grid(9, 13, 4), np.full((3, 4), 3)
    sr = np.random.default_rng(2).integers(0, 256, (18, 26, 3), dtype=np.uint8)
    before = sr.copy()
    plan = plan_of(grid, merge(branch_map, grid, 3, MACS), branch_map, 2)
    soften_seams(sr, plan.seams())
    assert np.array_equal(before, sr)
    assert (0.0, 0) == seam_step(sr, plan)


def test_the_figure_of_a_seam_is_the_step_across_it_less_the_step_beside():
    """A ramp of 2 a pixel with a jump of 30 at the seam."""
    grid, branch_map = Grid(4, 8, 4), np.array([[1, 2]])
    plan = plan_of(grid, merge(branch_map, grid, 0, MACS), branch_map, 2)
    line = 2 * np.arange(16) + 30 * (np.arange(16) >= 8)
    sr = np.broadcast_to(line[None, :, None], (8, 16, 3)).astype(np.uint8)
    assert (30.0, 8) == seam_step(sr, plan)


@few
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 3), st.integers(0, 99), st.data())
def test_borders_get_the_colour_around_them(height, width, scale, seed, data):
    """Where all pixels within reach of one near the border are like it, and nowhere else; in strips as in one piece."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), rng.integers(0, 256, 3), np.uint8)
    for y, x in rng.integers(0, (height, width), (3, 2)):
        image[y, x, rng.integers(3)] ^= 1
    before = rng.integers(0, 256, (scale * height, scale * width, 3), np.uint8)
    expected = before.copy()
    for y, x in np.ndindex(height, width):
        seen = image[max(0, y - REACH) : y + REACH + 1, max(0, x - REACH) : x + REACH + 1]
        if min(y, x, height - 1 - y, width - 1 - x) < OUTSIDE and (seen == image[y, x]).all():
            expected[scale * y : scale * (y + 1), scale * x : scale * (x + 1)] = image[y, x]

    after = before.copy()
    keep_flat_borders(after, image, scale)
    assert np.array_equal(expected, after)

    cut = data.draw(st.integers(0, height))
    upper, lower = before[: scale * cut].copy(), before[scale * cut :].copy()
    keep_flat_borders(upper, image, scale)
    keep_flat_borders(lower, image, scale, cut)
    assert np.array_equal(expected, np.concatenate([upper, lower]))


@pytest.mark.parametrize(("width", "scale"), [(12_000, 3), (33_000, 4)])
def test_borders_of_long_pictures_get_the_colour_around_them(width, scale):
    """Pixel by pixel, however large the numbers of the pixels are."""
    run = 2 * REACH + 3
    colours = np.random.default_rng(0).integers(1, 256, (1, -(-width // run), 3), dtype=np.uint8)
    image = colours.repeat(run, axis=1)[:, :width]
    inner = (np.arange(width) % run >= REACH) & (np.arange(width) % run < run - REACH)
    expected = np.where(inner[:, None], image, 0).repeat(scale, axis=0).repeat(scale, axis=1)
    sr = np.zeros((scale, scale * width, 3), np.uint8)
    keep_flat_borders(sr, image, scale)
    ends = slice(scale * REACH, -scale * run)  # at an end nothing beyond it is seen
    assert np.array_equal(expected[:, ends], sr[:, ends])
