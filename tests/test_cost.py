"""Cost tables: MACs of a card, files and damaged files."""

import json

import numpy as np
import pytest
from strategies import BRANCHES, make_card, make_cost

from arm_sr.cost import CostTable
from arm_sr.errors import ArtefactError

ROWS = {
    "bicubic": {"per_call": 0.0, "per_lr_pixel": 0.001},
    "w16": {"per_call": 0.5, "per_lr_pixel": 0.01},
    "w32": {"per_call": 0.6, "per_lr_pixel": 0.03},
    "w64": {"per_call": 0.7, "per_lr_pixel": 0.09},
}
GOOD = {"unit": "ms", "source": "by hand", "branches": ROWS}


def with_row(name, **values):
    """`ROWS` with one row changed; a value of `...` drops the field."""
    row = {key: value for key, value in {**ROWS[name], **values}.items() if value is not ...}
    return {"branches": {**ROWS, name: row}}


def load(path, data):
    """What `CostTable.load` makes of `data`, written as it is when it is text."""
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return CostTable.load(path, make_card())


def test_macs_are_the_card_s_cheapest_branch_first():
    """Interpolation and calls count nothing."""
    table = CostTable.of_macs(make_card())
    assert ("MAC", BRANCHES) == (table.unit, table.branches)
    assert [0, 1600, 3200, 6400] == table.per_pixel.tolist()
    assert [0, 0, 0, 0] == table.per_call.tolist()


def test_one_pass_is_a_call_and_its_pixels():
    """Of any branch, the largest counted from the end."""
    table = make_cost([1, 2, 3], [0.5, 1, 2])
    assert 1 + 0.5 * 10 == table.one_pass(0, 10)
    assert 2 + 1 * 10 == table.one_pass(1, 10)
    assert 3 + 2 * 10 == table.one_pass(-1, 10)
    assert 3 == table.one_pass(2, 0)


@pytest.mark.parametrize("unit", ["MAC", "ms"])
def test_what_is_saved_is_loaded_again(tmp_path, unit):
    """To the last bit."""
    numbers = np.random.default_rng(1).random((2, 4))
    table = CostTable(unit, BRANCHES, *numbers, source="noise")
    table.save(tmp_path / "cost.json")
    actual = CostTable.load(tmp_path / "cost.json", make_card())
    assert (unit, BRANCHES, "noise") == (actual.unit, actual.branches, actual.source)
    np.testing.assert_array_equal(table.per_call, actual.per_call)
    np.testing.assert_array_equal(table.per_pixel, actual.per_pixel)


def test_rows_may_stand_in_any_order(tmp_path):
    """They are looked up by name."""
    table = load(tmp_path / "cost.json", {**GOOD, "branches": dict(reversed(ROWS.items()))})
    assert BRANCHES == table.branches
    assert [0.001, 0.01, 0.03, 0.09] == table.per_pixel.tolist()


def test_interpolation_costs_nothing_when_it_is_left_out(tmp_path):
    """A table of the sub-nets alone will do."""
    table = load(tmp_path / "cost.json", {**GOOD, "branches": {n: r for n, r in ROWS.items() if n != "bicubic"}})
    assert 0 == table.one_pass(0, 1000)


def test_a_table_without_source_is_named_after_its_file(tmp_path):
    """So that a report can say where the costs came from."""
    table = load(tmp_path / "cost.json", {"unit": "ms", "branches": ROWS})
    assert str(tmp_path / "cost.json") == table.source


DAMAGE = {
    "a branch is missing": {"branches": {n: r for n, r in ROWS.items() if n != "w32"}},
    "a branch too many": {"branches": {**ROWS, "w128": ROWS["w64"]}},
    "another name": {"branches": {("w48" if n == "w32" else n): r for n, r in ROWS.items()}},
    "branches are a list": {"branches": list(ROWS)},
    "branches are null": {"branches": None},
    "a row is a number": {"branches": {**ROWS, "w16": 3}},
    "negative call": with_row("w16", per_call=-1),
    "negative pixel": with_row("bicubic", per_lr_pixel=-0.1),
    "NaN call": with_row("w32", per_call=float("nan")),
    "infinite pixel": with_row("w32", per_lr_pixel=float("inf")),
    "beyond a float": with_row("w32", per_call=10**400),
    "text for a number": with_row("w32", per_call="cheap"),
    "null for a number": with_row("w32", per_call=None),
    "unknown unit": {"unit": "cycles"},
    "unit is null": {"unit": None},
}


@pytest.mark.parametrize("changes", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_table_is_an_error_that_names_the_file(tmp_path, changes):
    """Whatever field is wrong; the message says which model it should have been for."""
    path = tmp_path / "cost.json"
    with pytest.raises(ArtefactError, match="'toy-x4'") as error:
        load(path, {**GOOD, **changes})
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("unit", {"branches": ROWS}),
        ("branches", {"unit": "ms"}),
        ("per_call", {**GOOD, **with_row("w32", per_call=...)}),
        ("per_lr_pixel", {**GOOD, **with_row("bicubic", per_lr_pixel=...)}),
    ],
)
def test_a_missing_field_is_named(tmp_path, name, data):
    """The message holds the file and the field."""
    path = tmp_path / "cost.json"
    with pytest.raises(ArtefactError) as error:
        load(path, data)
    assert f"{path}: field '{name}' is missing" == str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", '"ms"', json.dumps(GOOD)[:-20]])
def test_a_file_that_is_no_table_is_an_error_that_names_it(tmp_path, text):
    """Truncated, or other JSON."""
    path = tmp_path / "cost.json"
    with pytest.raises(ArtefactError) as error:
        load(path, text)
    assert str(error.value).startswith(f"{path}: ")


def test_a_table_of_another_model_lists_both_sets_of_branches(tmp_path):
    """What the file names, and what the model has."""
    with pytest.raises(ArtefactError, match=r"it names bicubic, w8, the model has bicubic, w16, w32, w64"):
        load(tmp_path / "cost.json", {**GOOD, "branches": {"bicubic": ROWS["bicubic"], "w8": ROWS["w16"]}})


def test_a_missing_file_is_an_error_that_names_it(tmp_path):
    """And says that there is none."""
    path = tmp_path / "no.json"
    with pytest.raises(ArtefactError, match="No such file") as error:
        CostTable.load(path, make_card())
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("call", "pixel", "unit"),
    [([0], [1, 2], "ms"), ([0, 0], [1, -2], "ms"), ([0, np.nan], [1, 2], "ms"), ([0, 0], [1, 2], "MACs")],
)
def test_wrong_costs_are_refused_when_built(call, pixel, unit):
    """Numbers, their count and the unit are checked where they enter."""
    with pytest.raises(ValueError, match=r"per_call and per_pixel|unit|inhomogeneous"):
        make_cost(call, pixel, unit)
