"""Reading the compiler's profile."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from arm_sr.errors import ArtefactError
from arm_sr.tpu.profile import OperatorCost, Profile, profile_page, read_profile

TEXT = """--------------------------------------
s: start time, b: bd_id, g: gdma_id, e: end time, t: cmd cost time, dr: direction, sz: memsize, bw: bandwidth
ENGINE_BD                                 ENGINE_GDMA
                                          Load_31|GDMA_TENSOR|s:0|b:0|g:1|e:510|t:511|dr:0|sz:27648|bw:50.39
Conv2D_41|CONV|s:655|b:2|g:1|e:726|t:72   Load_36|GDMA_TENSOR|s:655|b:6|g:2|e:957|t:303|dr:0|sz:1024|bw:3.15
Conv2D_41|AR|s:727|b:3|g:1|e:798|t:8
                                          |TENSOR_GDMA|s:120857|b:19|g:67|e:121147|t:291|dr:3|sz:9216
API_END total_cycle:86284|b:389|g:32
flops: 109080576, runtime: 0.086284ms, ComputationAbility: 1.264204T
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    profile, locations = tmp_path / "compiler_profile_0.txt", tmp_path / "net.bmodel.json"
    profile.write_text(TEXT)
    names = {31: "load_lr", 41: "head.relu_Relu", 36: "load_weight"}
    made = [{"file-line": line, "results": [{"name": name}]} for line, name in names.items()]
    locations.write_text(json.dumps([*made, {"file-line": 50, "results": []}]))
    return profile, locations


def test_cycles_by_operator_and_unit(files: tuple[Path, Path]) -> None:
    profile = read_profile(*files)
    assert (86284, 0.086284) == (profile.cycles, profile.ms)
    assert (
        OperatorCost("Load", "load_lr", "transfer", 511),
        OperatorCost("Conv2D", "head.relu_Relu", "compute", 80),
        OperatorCost("Load", "load_weight", "transfer", 303),
        OperatorCost("Move", "", "transfer", 291),
    ) == profile.operators


def test_a_file_that_is_none(files: tuple[Path, Path]) -> None:
    files[0].write_text("something else")
    with pytest.raises(ArtefactError, match="not a profile"):
        read_profile(*files)
    with pytest.raises(ArtefactError, match="No such file"):
        read_profile(files[0].with_name("none"), files[1])


def test_the_page_is_whole_and_says_it_all(files: tuple[Path, Path]) -> None:
    profile = read_profile(*files)
    page = profile_page("plain & simple", [("w16", profile), ("w<64>", Profile(1000, 0.5))])
    opened: list[str] = []

    class Check(HTMLParser):
        def handle_starttag(self, tag: str, attributes: object) -> None:
            if tag not in ("meta",):
                opened.append(tag)
            assert "http" not in str(attributes)

        def handle_endtag(self, tag: str) -> None:
            assert tag == opened.pop()

    check = Check()
    check.feed(page)
    assert not opened
    for text in ("plain &amp; simple", "w&lt;64&gt;", "<b>86,284</b> cycles, 0.086 ms", "80 (0.1%)", "head.relu_Relu"):
        assert text in page
