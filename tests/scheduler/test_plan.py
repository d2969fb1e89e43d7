"""Plans: words, files and damaged files."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from strategies import BRANCHES, few, make_cost, routed_grids

from arm_sr.errors import ArtefactError
from arm_sr.patches import Grid
from arm_sr.scheduler import Plan
from arm_sr.scheduler.tiles import Tiles, merge

MACS = make_cost([0, 0, 0, 0], [0, 1e5, 2e5, 4e5], "MAC")
BRANCH_MAP = np.array([[0, 1, 1, 0], [2, 1, 1, 0], [2, 3, 0, 0]])


def make_plan(grid=None, branch_map=BRANCH_MAP, halo=2, **changes):
    """A plan of `branch_map` with costs in MACs."""
    grid = grid or Grid(22, 31, 8)
    tiles = merge(branch_map, grid, halo, MACS)
    values = {
        "model": "toy-x4",
        "model_sha256": "ab" * 32,
        "scale": 4,
        "branches": BRANCHES,
        "grid": grid,
        "branch_map": branch_map,
        "tiles": tiles,
        "kind": "share",
        "requested": "40%",
        "objective": "mse",
        "cost": tiles.cost(MACS),
        "cost_largest": MACS.one_pass(-1, grid.height * grid.width),
        "unit": "MAC",
        "macs": tiles.cost(MACS),
        "macs_largest": MACS.one_pass(-1, grid.height * grid.width),
        "predicted_mse": 65.025,
        "note": "",
    }
    return Plan(**{**values, **changes})


def assert_same(expected, actual):
    """Equal field by field, arrays and nested fields included."""
    assert type(expected) is type(actual)
    for field in dataclasses.fields(expected):
        wanted, found = getattr(expected, field.name), getattr(actual, field.name)
        if isinstance(wanted, np.ndarray):
            np.testing.assert_array_equal(wanted, found, err_msg=field.name)
        elif dataclasses.is_dataclass(wanted):
            assert_same(wanted, found)
        else:
            assert wanted == found, field.name


def saved_with(path, plan=None, **changes):
    """`path` after a plan with some fields of its JSON replaced, or dropped where the value is `...`."""
    (plan or make_plan()).save(path)
    data = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in data.items() if value is not ...}))
    return path


def assert_damaged(path):
    """Reading `path` is an error that names it."""
    with pytest.raises(ArtefactError) as error:
        Plan.load(path)
    assert str(error.value).startswith(f"{path}: ")
    return str(error.value)


# Words


def test_counts_are_patches_of_each_branch():
    """In the order of the branches, those without a patch too."""
    assert {"bicubic": 5, "w16": 4, "w32": 2, "w64": 1} == make_plan().counts
    assert {"bicubic": 12, "w16": 0, "w32": 0, "w64": 0} == make_plan(branch_map=np.zeros((3, 4), int)).counts


def test_predicted_psnr_is_that_of_the_squared_error():
    """In dB of 255; none without a prediction."""
    assert 30 == pytest.approx(make_plan().predicted_psnr)
    assert make_plan(predicted_mse=None).predicted_psnr is None
    assert float("inf") == make_plan(predicted_mse=0.0).predicted_psnr


def test_a_printed_plan_mentions_shares_and_macs():
    """Size, model, compute, quality, the share of every used branch, tiles and the note."""
    text = str(make_plan(macs=2.5e9, macs_largest=1e10, note="nothing else fits"))
    for part in (
        "31x22", "x4", "toy-x4", "2.50 of 10.00 GMAC (25.0%)", "30.00 dB", "12 patches", "bicubic 42%", "w16 33%",
        "w32 17%", "w64 8%", f"{len(make_plan().tiles.box)} tiles", "halo of 2", "nothing else fits",
    ):  # fmt: skip
        assert part in text


def test_a_printed_plan_leaves_out_what_it_does_not_have():
    """Branches without a patch, a prediction that was not made, milliseconds of a plan in MACs."""
    text = str(make_plan(branch_map=np.ones((3, 4), int), predicted_mse=None))
    for part in ("bicubic", "w32", "dB", "ms"):
        assert part not in text
    assert "w16 100%" in text
    assert "1 tiles" in text
    assert "12.3 ms" in str(make_plan(unit="ms", cost=12.34))


# Files


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"predicted_mse": None, "note": "ä note", "kind": "eta", "requested": "best"},
        {"unit": "ms", "cost": 0.1 + 0.2},
        {"branch_map": np.zeros((3, 4), int)},
        {"branch_map": np.full((3, 4), 3), "halo": 0},
    ],
)
def test_what_is_saved_is_loaded_again(tmp_path, changes):
    """Equal field by field, and printed alike."""
    plan = make_plan(**changes)
    plan.save(tmp_path / "plan.json")
    actual = Plan.load(tmp_path / "plan.json")
    assert_same(plan, actual)
    assert str(plan) == str(actual)


@settings(few, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(routed_grids())
def test_any_plan_survives_a_file(tmp_path, routed):
    """Whatever the picture and the branches."""
    plan = make_plan(*routed)
    plan.check()
    plan.save(tmp_path / "plan.json")
    assert_same(plan, Plan.load(tmp_path / "plan.json"))


def test_a_plan_of_a_single_pixel_survives_a_file(tmp_path):
    """The smallest picture."""
    plan = make_plan(Grid(1, 1, 64), np.array([[2]]))
    plan.save(tmp_path / "plan.json")
    assert_same(plan, Plan.load(tmp_path / "plan.json"))


TILES = make_plan().tiles
ROWS = [[int(b), *box] for b, box in zip(TILES.branch, TILES.box.tolist(), strict=True)]
GRID = {"height": 22, "width": 31, "patch": 8}
DAMAGE = {
    "a tile is missing": {"tiles": ROWS[1:]},
    "no tiles": {"tiles": []},
    "a tile twice": {"tiles": [*ROWS, ROWS[0]]},
    "a tile of another branch": {"tiles": [[3 - ROWS[0][0], *ROWS[0][1:]], *ROWS[1:]]},
    "a tile on an interpolated patch": {"tiles": [*ROWS, [1, 0, 0, 8, 8]]},
    "an interpolated tile": {"tiles": [*ROWS, [0, 0, 0, 8, 8]]},
    "a tile outside the picture": {"tiles": [*ROWS, [1, 0, 24, 8, 32]]},
    "a tile above the picture": {"tiles": [*ROWS, [1, -8, 0, 0, 8]]},
    "an empty tile": {"tiles": [*ROWS, [1, 0, 0, 0, 8]]},
    "a tile of unknown branch": {"tiles": [[4, *ROWS[0][1:]], *ROWS[1:]]},
    "a tile of negative branch": {"tiles": [[-1, *ROWS[0][1:]], *ROWS[1:]]},
    "a tile of four numbers": {"tiles": [ROWS[0][:4], *ROWS[1:]]},
    "a tile of text": {"tiles": [["w16", 0, 0, 8, 8]]},
    "a tile beyond an integer": {"tiles": [[1, 0, 0, 8, 10**30]]},
    "tiles are null": {"tiles": None},
    "a patch of unknown branch": {"branch_map": [[4, 1, 1, 0], *BRANCH_MAP[1:].tolist()]},
    "a patch of negative branch": {"branch_map": [[-1, 1, 1, 0], *BRANCH_MAP[1:].tolist()]},
    "a patch beyond an integer": {"branch_map": [[10**30, 1, 1, 0], *BRANCH_MAP[1:].tolist()]},
    "a row of patches is missing": {"branch_map": BRANCH_MAP[1:].tolist()},
    "a row of patches is short": {"branch_map": [[0, 1, 1], *BRANCH_MAP[1:].tolist()]},
    "patches are turned": {"branch_map": BRANCH_MAP.T.tolist()},
    "branches are too few": {"branches": BRANCHES[:3]},
    "branches are null": {"branches": None},
    "another picture": {"grid": {**GRID, "height": 220}},
    "another patch": {"grid": {**GRID, "patch": 7}},
    "patch 0": {"grid": {**GRID, "patch": 0}},
    "a side is text": {"grid": {**GRID, "width": "31"}},
    "a side too many": {"grid": {**GRID, "depth": 3}},
    "no side": {"grid": {"height": 22, "width": 31}},
    "grid is a list": {"grid": [22, 31, 8]},
    "negative halo": {"halo": -1},
    "halo is text": {"halo": "wide"},
    "infinite halo": {"halo": float("inf")},
    "other schema": {"schema": 2},
    "scale is text": {"scale": "4"},
    "scale is true": {"scale": True},
    "a cost is text": {"macs": "many"},
    "a cost is null": {"cost": None},
    "quality is text": {"predicted_mse": "good"},
    "the note is null": {"note": None},
    "the model is a number": {"model": 3},
}


@pytest.mark.parametrize("changes", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_plan_is_an_error_that_names_the_file(tmp_path, changes):
    """Whatever does not fit together."""
    assert_damaged(saved_with(tmp_path / "plan.json", **changes))


def test_two_tiles_whose_numbers_add_up_to_the_branch_are_an_error(tmp_path):
    """Branch 2 is not branch 1 twice."""
    path = saved_with(tmp_path / "plan.json", make_plan(Grid(8, 8, 8), np.array([[2]])), tiles=[[1, 0, 0, 8, 8]] * 2)
    assert "overlaps" in assert_damaged(path)


def test_a_tile_that_ends_within_a_patch_is_an_error(tmp_path):
    """Seams are looked for at the borders of patches."""
    plan = make_plan(Grid(8, 8, 8), np.array([[2]]))
    path = saved_with(tmp_path / "plan.json", plan, tiles=[[2, 0, 0, 8, 3], [2, 0, 3, 8, 8]])
    assert "within a patch" in assert_damaged(path)


def test_check_asks_for_every_pixel_once():
    """The same for a plan made in memory."""
    plan = make_plan()
    for keep in (TILES.branch > 1, np.zeros(len(TILES.branch), bool)):
        fewer = Tiles(TILES.branch[keep], TILES.box[keep], 2, TILES.size)
        with pytest.raises(ValueError, match="do not cover"):
            dataclasses.replace(plan, tiles=fewer).check()


@pytest.mark.parametrize("name", [*GRID, "schema", "tiles", "halo", "branch_map", "grid"])
def test_a_missing_part_is_an_error_that_names_it(tmp_path, name):
    """Of the plan or of its grid."""
    changes = {"grid": {k: v for k, v in GRID.items() if k != name}} if name in GRID else {name: ...}
    assert f"'{name}'" in assert_damaged(saved_with(tmp_path / "plan.json", **changes))


@pytest.mark.parametrize("name", ["model", "scale", "branches", "cost", "macs_largest", "predicted_mse", "note"])
def test_a_missing_field_is_named(tmp_path, name):
    """Even one that has a default in memory."""
    path = saved_with(tmp_path / "plan.json", **{name: ...})
    assert f"{path}: field '{name}' is missing" == assert_damaged(path)


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", "[1, 2]", "null", "3", '"plan"', "\xff\xfe"])
def test_a_file_that_is_no_plan_is_an_error_that_names_it(tmp_path, text):
    """Other JSON, other text, other bytes."""
    path = tmp_path / "plan.json"
    path.write_bytes(text.encode("latin-1"))
    assert_damaged(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_an_error_that_names_it(tmp_path, share):
    """Cut anywhere."""
    path = saved_with(tmp_path / "plan.json")
    text = path.read_text()
    path.write_text(text[: int(len(text) * share)])
    assert_damaged(path)


def test_a_missing_file_is_an_error_that_names_it(tmp_path):
    """And says that there is none."""
    assert "No such file" in assert_damaged(tmp_path / "no.json")
