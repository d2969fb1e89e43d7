"""The manifest of compiled sub-nets: files, what is wrong with them, and the costs in them."""

import dataclasses
import json
import math

import numpy as np
import pytest
from strategies import make_card

from arm_sr.bmodels import Bmodels, Net, chip_of, covering, overlap_of
from arm_sr.cost import TILES, CostTable
from arm_sr.errors import ArtefactError, UsageError
from arm_sr.fixed_tiles import origins

GATE = {"max_levels": 4.5, "mean_levels": 0.4, "loss_db": 0.02, "crops": 12}


def net(branch="w16", tile=(48, 48), **values):
    """A net that costs 1e-5 ms a pixel of its tile and 0.01 for itself, w32 twice and w64 four times as much."""
    ms = (0.01 + 1e-5 * math.prod(tile)) * {"w16": 1, "w32": 2, "w64": 4}.get(branch, 0.1)
    name = f"{branch}_{tile[0]}x{tile[1]}"
    given = {"chip": "bm1688", "precision": "INT8", "branch": branch, "tile": tile, "net": name,
             "file": f"{branch}.bmodel", "sha256": "0" * 64, "cycles": round(ms * 9e5), "ms": ms}  # fmt: skip
    return Net(**{**given, **values})


def bmodels(folder, nets=None, **values):
    """Of the card of `strategies`, one size of a tile."""
    card = make_card()
    nets = tuple(net(branch) for branch in card.subnets) if nets is None else tuple(nets)
    given = {"model": card.name, "model_sha256": card.sha256, "scale": card.scale, "compiler": "tpu_mlir 1.30.2",
             "libraries": "/opt/tpu/lib", "nets": nets, "folder": folder}  # fmt: skip
    return Bmodels(**given | values)


def test_what_is_saved_is_loaded_again(tmp_path):
    """Measured or not; tiles need not be square."""
    expected = bmodels(tmp_path, [net("w16", (48, 64), **GATE), net("bicubic"), net("w16", precision="F16")])
    expected.save()
    assert expected == Bmodels.load(tmp_path)
    data = json.loads((tmp_path / "bmodels.json").read_text())
    assert (1, [48, 64], 12, None) == (data["format"], data["nets"][0]["tile"], data["nets"][0]["crops"],
                                       data["nets"][1]["loss_db"])  # fmt: skip


WRONG = {
    "format": [2, None, "1"],
    "model": [3, ...],
    "model_sha256": [None, ...],
    "scale": [0, 2.0, "4", True, ...],
    "compiler": [1, ...],
    "libraries": [None, ...],
    "nets": [3, [3], ...],
    "surplus": [1],
}
WRONG_NET = {
    "chip": ["bm1690", 1, ...],
    "precision": ["", 8, ...],
    "branch": ["", ...],
    "tile": [[48], [48, 0], [48, 48.0], "48", 48, [48, True], ...],
    "net": [None, "", ...],
    "file": ["../w16.bmodel", "/tmp/w16.bmodel", "", ...],
    "sha256": [1, ...],
    "cycles": [0, 1.5, "1", ...],
    "ms": [0, -1, "1", float("nan"), True, ...],
    "max_levels": ["1", float("inf")],
    "mean_levels": [[]],
    "loss_db": ["0"],
    "crops": [0, 1.5],
    "surplus": [1],
}


def written(folder, of_all=None, of_net=None):
    """A manifest with some fields changed, those of `...` left out."""
    bmodels(folder).save()
    path = folder / "bmodels.json"
    data = json.loads(path.read_text())
    for where, changes in ((data, of_all), (data["nets"][1], of_net)):
        for name, value in (changes or {}).items():
            where[name] = value
            if value is ...:
                del where[name]
    path.write_text(json.dumps(data))
    return path


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_field_is_named_with_the_file(tmp_path, name, value):
    """Whether it is missing, of a wrong kind, out of range or unknown."""
    path = written(tmp_path, of_all={name: value})
    with pytest.raises(ArtefactError) as caught:
        Bmodels.load(tmp_path)
    assert str(path) in str(caught.value)
    assert name in str(caught.value) or (name, value) == ("nets", 3)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG_NET.items() for value in values])
def test_a_wrong_field_of_a_net_is_named_with_the_file(tmp_path, name, value):
    """And with the number of the net."""
    path = written(tmp_path, of_net={name: value})
    with pytest.raises(ArtefactError) as caught:
        Bmodels.load(tmp_path)
    assert f"{path}: " in str(caught.value) and "nets[1]" in str(caught.value) and name in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", b"\xff\xfe"])
def test_a_damaged_manifest_is_refused(tmp_path, text):
    """By its name."""
    (tmp_path / "bmodels.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ArtefactError, match=r"bmodels\.json: "):
        Bmodels.load(tmp_path)


def test_a_folder_without_a_manifest_is_refused(tmp_path):
    """With what it should hold."""
    with pytest.raises(ArtefactError, match="holds no compiled sub-nets"):
        Bmodels.load(tmp_path / "nothing")


def test_names_are_those_of_one_net(tmp_path):
    """Among those that go into a runtime together; and a file has one hash."""
    with pytest.raises(ValueError, match=r"nets\[1\]\.net: bm1688 INT8 has two nets called 'a'"):
        bmodels(tmp_path, [net("w16", net="a"), net("w32", net="a")])
    bmodels(tmp_path, [net("w16", net="a"), net("w16", net="a", precision="F16")])
    with pytest.raises(ValueError, match=r"nets\[1\]\.sha256: another net says otherwise of all\.bmodel"):
        bmodels(tmp_path, [net("w16", file="all.bmodel"), net("w32", file="all.bmodel", sha256="1" * 64)])


def test_nets_are_found_by_chip_and_precision(tmp_path):
    """A single precision need not be named; sizes come smallest first."""
    sizes = [net(branch, tile) for tile in ((128, 128), (48, 48)) for branch in ("w16", "w32", "w64")]
    found = bmodels(tmp_path, [*sizes, net("bicubic"), net("w16", chip="bm1684", precision="F32")])
    card = make_card()
    precision, nets = found.choose("bm1688", None, card)
    assert ("INT8", ["w16", "w32", "w64"]) == (precision, list(nets))
    assert [(48, 48), (128, 128)] == [each.tile for each in nets["w32"]]
    both = bmodels(tmp_path, [*sizes, *(net(branch, precision="F16") for branch in card.subnets)])
    assert "F16" == both.choose("bm1688", "F16", card)[0]
    with pytest.raises(UsageError, match="bm1688 has F16, INT8; name one, such as sophon:bm1688:F16"):
        both.choose("bm1688", None, card)
    with pytest.raises(ArtefactError, match="bm1684 F32 has no net of w32, w64"):
        found.choose("bm1684", None, card)


@pytest.mark.parametrize("change", [{"sha256": "another"}, {"scale": 3}])
def test_another_model_s_are_refused(tmp_path, change):
    """Both are named."""
    card = make_card()
    of_other = {"model_sha256": "abc", "model": "other"} if "sha256" in change else {"scale": 3, "model": "other"}
    with pytest.raises(ArtefactError, match=f"compiled of model 'other'.*not of this '{card.name}'"):
        bmodels(tmp_path, **of_other).choose("bm1688", "INT8", card)


def test_a_rectangle_costs_the_tiles_that_cover_it():
    """Of the size for which that is least."""
    small, large = net(tile=(48, 48)), net(tile=(128, 96))
    for height, width in ((1, 1), (48, 48), (49, 48), (90, 91), (128, 96), (130, 300), (400, 20)):
        counts = {}
        for each in (small, large):
            overlap = overlap_of(each, 3)
            sides = zip((height, width), each.tile, strict=True)
            counts[each.tile] = math.prod(len(origins(max(side, tile), tile, overlap)) for side, tile in sides)
        best, ms = covering([small, large], height, width, 3)
        expected = {each.tile: counts[each.tile] * each.ms for each in (small, large)}
        assert min(expected.values()) == pytest.approx(ms) == pytest.approx(expected[best.tile])
    assert small.tile == covering([small, large], 40, 40, 3)[0].tile
    assert large.tile == covering([small, large], 128, 96, 3)[0].tile


def test_overlap_leaves_room_in_small_tiles():
    """Twice the halo, or half of the tile."""
    assert [6, 4] == [overlap_of(net(tile=tile), 3) for tile in ((48, 48), (8, 48))]


def test_costs_are_those_of_covering_tiles(tmp_path):
    """The fitted ones are near what rectangles of plans cost, and interpolation costs the chip nothing."""
    card = make_card()
    sizes = [net(branch, tile) for tile in ((38, 38), (128, 128)) for branch in card.subnets]
    table = bmodels(tmp_path, sizes).cost_table(card, "bm1688")
    assert ("ms", card.branches) == (table.unit, table.branches)
    assert "modelled by tpu_mlir 1.30.2 from cycles of bm1688 INT8" in table.source
    assert 0 == table.per_call[0] == table.per_pixel[0]
    np.testing.assert_allclose(2 * table.per_call[1], table.per_call[2])
    np.testing.assert_allclose(4 * table.per_pixel[1], table.per_pixel[3])
    nets, errors = [each for each in sizes if each.branch == "w32"], []
    for group in TILES:
        ms = sum(covering(nets, height, width, card.halo)[1] for height, width in group)
        errors.append(sum(table.one_pass(2, height * width) for height, width in group) / ms - 1)
    assert abs(np.mean(errors)) < 0.1 and np.max(np.abs(errors)) < 0.4
    table.save(tmp_path / "cost.json")
    assert table.source == CostTable.load(tmp_path / "cost.json", card).source


def test_larger_tiles_beside_small_ones_never_cost_more(tmp_path):
    """What a rectangle costs is the least of all sizes."""
    card = make_card()
    one = [net(branch, (38, 38)) for branch in card.subnets]
    two = [*one, *(net(branch, (160, 160)) for branch in card.subnets)]
    few, many = (bmodels(tmp_path, nets).cost_table(card, "bm1688") for nets in (one, two))
    assert many.one_pass(3, 320 * 180) <= few.one_pass(3, 320 * 180)


@pytest.mark.parametrize("data", [b"", b"hello", bytes(64), bytes.fromhex("eeaa55ff40000000c00f0000") + bytes(60)])
def test_what_is_no_bmodel_is_refused(tmp_path, data):
    """By its name, whether it begins as one or not."""
    path = tmp_path / "a.bmodel"
    path.write_bytes(data)
    with pytest.raises(ArtefactError, match=r"a\.bmodel: not a bmodel"):
        chip_of(path)
    with pytest.raises(ArtefactError, match="sha256"):
        dataclasses.replace(bmodels(tmp_path)).checked_file(net(file="a.bmodel"))
    with pytest.raises(ArtefactError, match=r"although bmodels\.json names it"):
        bmodels(tmp_path).checked_file(net(file="b.bmodel"))
