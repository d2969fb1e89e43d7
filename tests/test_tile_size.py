"""The searches for the shape of tile, and their tool."""

import json
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import few

from arm_sr.cost import CostTable
from arm_sr.errors import UsageError
from arm_sr.models import ModelCard
from arm_sr.tile_size import SOLVERS, allowed_sides, disagreements, inference_cost, search, wasted_area

TOOL = Path(__file__).parent.parent / "tools" / "tile_size.py"
SIZES = [(340, 510), (512, 512), (510, 338), (96, 64), (338, 510)]
sizes = st.lists(st.tuples(st.integers(1, 90), st.integers(1, 90)), min_size=1, max_size=4)


def walk(length, tile, overlap):
    """Tiles along a side, counted one by one."""
    count, end = 1, tile
    while end < length:
        count, end = count + 1, end + tile - overlap
    return count


def slow_area(height, width, pictures, overlap):
    """The formula of the issue, word by word."""
    total = 0.0
    for h, w in pictures:
        tiles = walk(h, height, overlap) * walk(w, width, overlap)
        blank_ratio = 1 - h * w / (tiles * height * width)
        total += blank_ratio * (tiles + 1)
    return total


def slow_cost(height, width, pictures, per_call, per_pixel, overlap):
    """Every tile a call."""
    calls = sum(walk(h, height, overlap) * walk(w, width, overlap) for h, w in pictures)
    return calls * (per_call + per_pixel * height * width)


@few
@given(sizes, st.integers(5, 40), st.integers(5, 40), st.integers(0, 4))
def test_objectives_are_the_formulas(pictures, height, width, overlap):
    """For one tile and for many at once."""
    area, cost = wasted_area(np.array(pictures), overlap), inference_cost(np.array(pictures), 3.0, 0.25, overlap)
    assert pytest.approx(slow_area(height, width, pictures, overlap), abs=1e-9) == area(height, width)
    assert pytest.approx(slow_cost(height, width, pictures, 3.0, 0.25, overlap)) == cost(height, width)
    widths = np.arange(width, width + 5)
    assert pytest.approx([float(area(height, int(w))) for w in widths], abs=1e-9) == area(height, widths)
    assert pytest.approx([float(cost(height, int(w))) for w in widths]) == cost(height, widths)


def test_the_wasted_area_by_hand():
    """A picture of 10 x 15 in 2 x 2 tiles of 8 x 8: 256 computed, 106 of them wasted, times 5."""
    assert 106 / 256 * 5 == wasted_area(np.array([[10, 15]]))(8, 8)
    assert 0 == wasted_area(np.array([[16, 24]]))(8, 8)


@few
@given(sizes, st.integers(0, 4), st.integers(1, 3))
def test_brute_force_finds_the_least(pictures, overlap, multiple):
    """Of all tiles with allowed sides, by either objective."""
    sides = allowed_sides(5, 17, multiple, overlap)
    tiles = [(int(h), int(w)) for h in sides for w in sides]
    found = search(wasted_area(np.array(pictures), overlap), sides)
    assert pytest.approx(min(slow_area(*t, pictures, overlap) for t in tiles), abs=1e-9) == found.value
    assert pytest.approx(slow_area(*found.tile, pictures, overlap), abs=1e-9) == found.value
    assert len(tiles) == found.evaluations
    found = search(inference_cost(np.array(pictures), 50.0, 1.0, overlap), sides)
    assert pytest.approx(min(slow_cost(*t, pictures, 50.0, 1.0, overlap) for t in tiles)) == found.value


@pytest.mark.parametrize("solver", SOLVERS[1:])
@pytest.mark.parametrize(("sides", "factor"), [((16, 64, 8), 1.0), ((32, 32, 16), 1.0), ((16, 256, 1), 1.1)])
def test_scipy_s_solvers_come_to_the_optimum(solver, sides, factor):
    """Exactly over a few dozen tiles or one, within a tenth over 58,081; the same every time."""
    area, sides = wasted_area(np.array(SIZES), 6), allowed_sides(*sides, 6)
    best, found = search(area, sides), search(area, sides, solver)
    assert best.value <= found.value <= factor * best.value
    assert set(found.tile) <= set(sides.tolist())
    assert pytest.approx(slow_area(*found.tile, SIZES, 6)) == found.value
    assert found.evaluations > 0
    again = search(area, sides, solver)
    assert (found.tile, found.evaluations) == (again.tile, again.evaluations)


def test_allowed_sides():
    """Longest first."""
    assert [32, 24, 16] == allowed_sides(16, 39, 8).tolist()
    assert [32, 24] == allowed_sides(16, 39, 8, overlap=16).tolist()
    for wrong in ((0, 9), (4, 9, 0), (4, 9, 1, -1), (17, 23, 8), (4, 9, 1, 9), (9, 4)):
        with pytest.raises(UsageError):
            allowed_sides(*wrong)


def test_where_the_two_disagree():
    """Small tiles that fit exactly waste nothing and cost many calls; each size of picture once."""
    sides = allowed_sides(8, 64, 8)
    (only,) = disagreements([(72, 72), (64, 64), (72, 72)], sides, 100.0, 0.01)
    assert (72, 72) == only.size
    assert 0 == slow_area(*only.by_area, [(72, 72)], 0)
    assert slow_cost(*only.by_area, [(72, 72)], 100.0, 0.01, 0) == pytest.approx(only.area_cost)
    assert slow_cost(*only.by_cost, [(72, 72)], 100.0, 0.01, 0) == pytest.approx(only.least_cost)
    assert only.area_cost > only.least_cost
    assert [] == list(disagreements([(72, 72)], sides, 0.0, 1.0))


@pytest.fixture
def run_tool(monkeypatch, capsys):
    """Runs the tool with arguments and gives its exit status, stdout and stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            runpy.run_path(str(TOOL), run_name="__main__")
        return exit_.value.code, *capsys.readouterr()

    return run


def test_the_tool_prints_both_and_where_they_disagree(run_tool, tiny_model, tmp_path):
    """From --sizes and a cost table; the JSON says the same."""
    card = ModelCard.load(tiny_model)
    numbers = np.arange(len(card.branches))
    CostTable("ms", card.branches, 5.0 * numbers, 1e-3 * numbers, "by hand").save(tmp_path / "cost.json")
    options = ["--sizes", "510x340,528x656", "-m", tiny_model, "--cost", tmp_path / "cost.json", "--width", "w4"]
    status, printed, complaints = run_tool(*options, "--json", tmp_path / "out.json")
    assert (0, "") == (status, complaints)
    for text in (*SOLVERS, "least wasted area", "least cost", "528x656", "176x16", "5 a call", "by hand"):
        assert text in printed
    out = json.loads((tmp_path / "out.json").read_text())
    pictures = [(340, 510), (656, 528)]
    assert pictures == [tuple(size) for size in out["sizes"]]
    assert list(SOLVERS) == [found["solver"] for found in out["by_area"]]
    assert pytest.approx(slow_area(*out["by_area"][0]["tile"], pictures, 0)) == out["by_area"][0]["value"]
    assert pytest.approx(slow_cost(*out["by_cost"]["tile"], pictures, 5.0, 1e-3, 0)) == out["by_cost"]["value"]
    assert {"size": [656, 528], "by_area": [16, 176]}.items() <= out["disagreements"][-1].items()


def test_the_tool_reads_the_sizes_of_pictures(run_tool, tiny_model, tmp_path):
    """Of a folder; height and width are not swapped."""
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((32, 80), np.uint8))
    card = ModelCard.load(tiny_model)
    CostTable.of_macs(card).save(tmp_path / "cost.json")
    options = ["--data", tmp_path, "-m", tiny_model, "--cost", tmp_path / "cost.json", "--json", tmp_path / "out.json"]
    assert 0 == run_tool(*options)[0]
    out = json.loads((tmp_path / "out.json").read_text())
    assert ([[32, 80]], card.largest, []) == (out["sizes"], out["width"], out["disagreements"])
    assert [32, 80] == out["by_area"][0]["tile"]


@pytest.mark.parametrize("options", [("--sizes", "510x0"), ("--sizes", "9x9", "--max", "8"), ("--sizes", "9"), ()])
def test_the_tool_refuses_wrong_usage(run_tool, options):
    """With a sentence and status 2, before anything is measured."""
    status, printed, complaint = run_tool(*options)
    assert (2, "") == (status, printed)
    assert "error: " in complaint
