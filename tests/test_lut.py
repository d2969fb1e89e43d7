"""The edge-to-PSNR table: lookup, files, damaged files and tables of other models."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import BRANCHES, few, make_card

from arm_sr.errors import ArtefactError
from arm_sr.lut import EdgeTable, place_of_table, table_path
from arm_sr.models import load_model


def make_table(card=None, **changes):
    """A table of three bins for `card`."""
    card = card or make_card()
    psnr = np.array([[40, 41, 42, 43], [30, 32, 33, 33.5], [20, 23, 24.123456, 25]], float)
    values = {
        "model": card.name,
        "model_sha256": card.sha256,
        "patch": 32,
        "score": "laplacian4-energy",
        "interpolator": "opencv-cubic",
        "branches": card.branches,
        "edges": np.array([0.0, 10.0, 100.5, 9000.0]),
        "counts": np.array([5, 3, 1]),
        "psnr": psnr,
        "mse": np.round(255**2 / 10 ** (psnr / 10), 6),
        "rank_correlation": dict.fromkeys(card.branches, -0.9),
        "data": {"name": "toy", "pictures": 1, "patches": 9},
    }
    return EdgeTable(**{**values, **changes})


def assert_same(expected: EdgeTable, actual: EdgeTable):
    """Equal field by field."""
    for field in dataclasses.fields(EdgeTable):
        wanted, found = getattr(expected, field.name), getattr(actual, field.name)
        if isinstance(wanted, np.ndarray):
            assert wanted.dtype == found.dtype, field.name
            np.testing.assert_array_equal(wanted, found, err_msg=field.name)
        else:
            assert wanted == found, field.name


def saved_with(path, **changes):
    """`path` after a table with some fields of its JSON replaced, or dropped where the value is `...`."""
    make_table().save(path)
    data = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in data.items() if value is not ...}))
    return path


# Lookup


@pytest.mark.parametrize(
    ("score", "expected"),
    [(-1, 0), (0, 0), (9.999, 0), (10, 1), (100.4, 1), (100.5, 2), (9000, 2), (1e9, 2), (np.inf, 2)],
)
def test_a_score_falls_into_its_bin(score, expected):
    """Borders belong to the bin above; scores beyond the ends fall into the first and last bin."""
    assert expected == make_table().bins_of(np.array([score]))[0]


@few
@given(
    st.lists(st.integers(0, 20), min_size=2, max_size=8).map(sorted),
    st.lists(st.integers(-5, 25), min_size=1, max_size=30),
)
def test_bins_are_those_of_a_loop(edges, scores):
    """Any ascending borders, repeated ones too."""
    bins = len(edges) - 1
    psnr = np.ones((bins, 4))
    table = make_table(edges=np.array(edges, float), counts=np.ones(bins, int), psnr=psnr, mse=psnr)
    expected = [sum(score >= border for border in edges[1:-1]) for score in scores]
    assert expected == table.bins_of(np.array(scores, float)).tolist()


def test_bins_keep_the_shape_of_the_scores():
    """A map of scores gives a map of rows."""
    assert (4, 7) == make_table().bins_of(np.zeros((4, 7))).shape


# Files


def test_what_is_saved_is_loaded_again(tmp_path):
    """Equal field by field."""
    make_table().save(tmp_path / "lut.json")
    assert_same(make_table(), EdgeTable.load(tmp_path / "lut.json"))


def test_saving_keeps_six_decimals_and_then_nothing_changes(tmp_path):
    """A file loaded and saved again is the same file."""
    exact = make_table(edges=np.array([0, np.pi, np.e * 2, 50]))
    exact.save(tmp_path / "first.json")
    loaded = EdgeTable.load(tmp_path / "first.json")
    np.testing.assert_allclose(loaded.edges, exact.edges, rtol=0, atol=5.1e-7)
    loaded.save(tmp_path / "second.json")
    assert (tmp_path / "first.json").read_bytes() == (tmp_path / "second.json").read_bytes()


FIELDS = [field.name for field in dataclasses.fields(EdgeTable) if field.name != "schema"]
DAMAGE = {
    "one edge too few": {"edges": [0, 1, 2]},
    "unsorted edges": {"edges": [0, 100, 10, 9000]},
    "NaN edge": {"edges": [0, float("nan"), 100, 9000]},
    "infinite edge": {"edges": [0, 10, 100, float("inf")]},
    "edges are text": {"edges": "0 1 2 3"},
    "edges are null": {"edges": None},
    "no bins": {"edges": [0], "counts": [], "psnr": [], "mse": []},
    "counts of two dimensions": {"counts": [[5], [3], [1]]},
    "counts are a number": {"counts": 9},
    "negative count": {"counts": [5, -3, 1]},
    "count beyond an integer": {"counts": [5, 10**30, 1]},
    "infinite count": {"counts": [5, float("inf"), 1]},
    "a row of psnr is missing": {"psnr": [[1, 2, 3, 4], [1, 2, 3, 4]]},
    "a row of psnr is short": {"psnr": [[1, 2, 3, 4], [1, 2, 3], [1, 2, 3, 4]]},
    "a column of mse is missing": {"mse": [[1, 2, 3]] * 3},
    "NaN psnr": {"psnr": [[1, 2, 3, float("nan")]] * 3},
    "infinite mse": {"mse": [[1, 2, 3, float("inf")]] * 3},
    "mse beyond a float": {"mse": [[1, 2, 3, 10**400]] * 3},
    "negative mse": {"mse": [[1, 2, 3, -0.5]] * 3},
    "one branch too many": {"branches": [*BRANCHES, "w128"]},
    "branches are null": {"branches": None},
    "patch 0": {"patch": 0},
    "patch is a fraction": {"patch": 31.5},
    "patch is text": {"patch": "32"},
    "digest is a number": {"model_sha256": 7},
    "unknown score": {"score": "sobel"},
    "other schema": {"schema": 2},
    "unknown field": {"colour": "red"},
}


@pytest.mark.parametrize("changes", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_table_is_an_error_that_names_the_file(tmp_path, changes):
    """Whatever field is wrong."""
    path = saved_with(tmp_path / "lut.json", **changes)
    with pytest.raises(ArtefactError) as error:
        EdgeTable.load(path)
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize("name", FIELDS)
def test_a_missing_field_is_named(tmp_path, name):
    """The message holds the file and the field."""
    path = saved_with(tmp_path / "lut.json", **{name: ...})
    with pytest.raises(ArtefactError) as error:
        EdgeTable.load(path)
    assert str(error.value).startswith(f"{path}: ")
    assert f"'{name}'" in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "[1, 2]", "null", "3", '"lut"', "\xff\xfe", "{}"])
def test_a_file_that_is_no_table_is_an_error_that_names_it(tmp_path, text):
    """Other JSON, other text, other bytes."""
    path = tmp_path / "lut.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ArtefactError) as error:
        EdgeTable.load(path)
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_an_error_that_names_it(tmp_path, share):
    """Cut anywhere."""
    path = tmp_path / "lut.json"
    make_table().save(path)
    text = path.read_text()
    path.write_text(text[: int(len(text) * share)])
    with pytest.raises(ArtefactError) as error:
        EdgeTable.load(path)
    assert str(error.value).startswith(f"{path}: ")


def test_a_missing_file_says_how_to_build_one(tmp_path):
    """File, reason, remedy."""
    path = tmp_path / "no.json"
    with pytest.raises(ArtefactError, match=r"No such file.*build_lut") as error:
        EdgeTable.load(path)
    assert str(error.value).startswith(f"{path}: ")


def test_a_folder_is_an_error_that_names_it(tmp_path):
    """A table is a file."""
    with pytest.raises(ArtefactError) as error:
        EdgeTable.load(tmp_path)
    assert str(error.value).startswith(f"{tmp_path}: ")


# The model it belongs to


def test_the_table_of_a_model_is_found_beside_its_card(tmp_path):
    """`lut.json` in the model's folder comes first."""
    card = make_card(tmp_path)
    make_table(card).save(tmp_path / "lut.json")
    assert_same(make_table(card), EdgeTable.for_model(card))


def test_a_model_without_a_table_is_an_error_that_names_the_file_looked_for(tmp_path):
    """Beside the card, or among the shipped ones for a model that is there."""
    with pytest.raises(ArtefactError, match=rf"{tmp_path / 'lut.json'}: "):
        EdgeTable.for_model(make_card(tmp_path, name="no-such-model"))
    shipped = load_model("plain-x4")
    assert place_of_table(shipped) == table_path(shipped)
    renamed = dataclasses.replace(shipped, name="no-such-model")
    assert ("lut", "no-such-model.json") == table_path(renamed).parts[-2:]


def test_columns_may_stand_in_any_order(tmp_path):
    """They are looked up by name."""
    card = make_card(tmp_path)
    make_table(card, branches=card.branches[::-1]).save(tmp_path / "given.json")
    assert card.branches[::-1] == EdgeTable.for_model(card, tmp_path / "given.json").branches


def test_a_table_of_another_model_is_an_error_that_names_both_sides(tmp_path):
    """The file and its model, the folder and its model."""
    mine, other = make_card(tmp_path / "mine", "mine", "1"), make_card(tmp_path / "other", "other", "2")
    path = tmp_path / "lut.json"
    make_table(other).save(path)
    with pytest.raises(ArtefactError) as error:
        EdgeTable.for_model(mine, path)
    for part in (str(path), str(mine.folder), "'mine'", "'other'", mine.sha256[:12], other.sha256[:12]):
        assert part in str(error.value)


def test_a_table_of_other_branches_is_an_error(tmp_path):
    """Even when the digest is right."""
    card = make_card(tmp_path)
    make_table(card, branches=("bicubic", "w16", "w32", "w48")).save(tmp_path / "lut.json")
    with pytest.raises(ArtefactError, match="build it again"):
        EdgeTable.for_model(card)
