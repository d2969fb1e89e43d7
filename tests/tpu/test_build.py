"""A folder of bmodels from nets that a compiler would have made."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from strategies import make_card, run_python

from arm_sr.bmodels import Bmodels
from arm_sr.cost import CostTable
from arm_sr.tpu.build import build, report
from arm_sr.tpu.compiler import Compiler
from arm_sr.tpu.compiling import Compilation, Compiled, Target
from arm_sr.tpu.gate import Accuracy
from arm_sr.tpu.profile import OperatorCost, Profile

BRANCHES = ("bicubic", "w16", "w32", "w64")
CYCLES = {"": 1000, "float tail": 800, "uint8": 500}


class Made(Compilation):
    """Gives every net bytes and a cost of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def compile(self, targets: Sequence[Target]) -> list[Compiled]:
        """See `Compilation.compile`."""
        made = []
        for target in targets:
            bmodel = self.folder / f"{target.name}.bmodel"
            bmodel.write_bytes(target.name.encode())
            cycles = CYCLES[target.variant] * target.tile[0] // 48 * (1 + BRANCHES.index(target.branch))
            profile = Profile(cycles, cycles / 1e6, (OperatorCost("Conv2D", "head", "compute", cycles),))
            made.append(Compiled(target, bmodel, profile))
        return made


class Joined(Compiler):
    """Puts files together as the compiler's tool does, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.version, self.libraries = "tpu_mlir 0", folder

    def run(self, tool: str, arguments: Sequence[object], folder: Path, model: Path | None = None) -> str:
        """See `Compiler.run`."""
        combine, *sources, option, file = arguments
        assert ("model_tool", "--combine", "-o") == (tool, combine, option)
        (folder / str(file)).write_bytes(b"".join(Path(str(source)).read_bytes() for source in sources))
        return ""


def made(
    tmp_path: Path, losses: dict[str, float], kinds: Sequence[tuple[str, str]]
) -> tuple[Path, list[tuple[str, bool]]]:
    """A folder, and what was checked for it: name of the net, and whether on one crop only."""
    checked: list[tuple[str, bool]] = []

    def check(compiled: Compiled, one: bool) -> Accuracy:
        checked.append((compiled.target.name, one))
        return Accuracy(2, None if one else 5, 0.5, losses[compiled.target.variant], 1 if one else 8)

    (tmp_path / "made").mkdir()
    out = tmp_path / "out"
    out.mkdir()
    tools = Joined(tmp_path), Made(tmp_path / "made"), check
    built = build(*tools, make_card(), BRANCHES, kinds, [(48, 48), (96, 96)], out)
    assert len(kinds) * 2 * len(BRANCHES) == len(built) == report(built).count("\n") - 1
    return out, checked


def test_the_fast_variant_is_taken_where_it_loses_little(tmp_path: Path) -> None:
    out, checked = made(tmp_path, {"float tail": 0.01, "uint8": 0.04}, [("bm1688", "INT8")])
    nets = Bmodels.load(out).of("bm1688", "INT8")["w16"]
    assert [(48, 1000), (96, 2000)] == [(net.tile[0], net.cycles) for net in nets]
    assert (5, 0.04, 8) == (nets[0].max_levels, nets[0].loss_db, nets[0].crops)
    # Both on all crops of the first tile, the one that was taken on one crop of the other.
    assert [
        ("bm1688_INT8_w16_48x48_uint8", False),
        ("bm1688_INT8_w16_48x48_float_tail", False),
        ("bm1688_INT8_w16_96x96_uint8", True),
    ] == [one for one in checked if "w16" in one[0]]


@pytest.mark.parametrize(("losses", "cycles"), [((0.04, 0.06), 1600), ((0.08, 0.07), 1000)])
def test_the_accurate_variant_is_taken_otherwise(tmp_path: Path, losses: tuple[float, float], cycles: int) -> None:
    out, _ = made(tmp_path, dict(zip(("float tail", "uint8"), losses, strict=True)), [("bm1688", "INT8")])
    assert cycles == Bmodels.load(out).of("bm1688", "INT8")["w16"][0].cycles


def test_files_and_costs_of_every_kind(tmp_path: Path) -> None:
    out, _ = made(tmp_path, {"": 0.0}, [("bm1684x", "F16"), ("bm1684", "F32")])
    bmodels = Bmodels.load(out)
    assert {"bm1684x_F16.bmodel"} == {net.file for net in bmodels.nets if net.chip == "bm1684x"}
    alone = {net.file for net in bmodels.nets if net.chip == "bm1684"}  # which takes no file with all of them
    assert 8 == len(alone) and "bm1684_F32_w16_48x48.bmodel" in alone
    for net in bmodels.nets:
        assert f"{net.chip}_{net.precision}_{net.net}".encode() in bmodels.checked_file(net).read_bytes()
    card = make_card()
    for kind in ("bm1684x_F16", "bm1684_F32"):
        cost = CostTable.load(out / f"cost_{kind}.json", card)
        assert card.branches == cost.branches and cost.per_call[0] == cost.per_pixel[0] == 0
        assert "w64_96x96" in (out / f"profile_{kind}.html").read_text()
    assert "tpu_mlir 0" == json.loads((out / "bmodels.json").read_text())["compiler"]


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--data", "photos", "-o", "out", "--chip", "bm1684", "--precision", "F16"], 2, "bm1684 has F16"),
        (["--chip", "bm1684"], 2, "--data"),
        (["--data", "photos", "-o", "out", "--environment", "nowhere"], 1, "--setup"),
        (["--tile", "4"], 2, "--tile"),
        (["--chip", "bm9"], 2, "--chip"),
    ],
)
def test_wrong_options_of_the_tool(options: list[str], status: int, message: str) -> None:
    done = run_python("tools/compile_bmodel.py", *options)
    assert status == done.returncode and message in done.stderr
    assert "Traceback" not in done.stderr
