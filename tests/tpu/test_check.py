"""What is said of a network before it is compiled, and the table of operators behind that."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from arm_sr.errors import ArtefactError, UsageError
from arm_sr.models import load_model
from arm_sr.supernet.backbones import build
from arm_sr.tpu.check import Finding, check_model, report
from arm_sr.tpu.chips import CHIPS
from arm_sr.tpu.compiler import ENVIRONMENT, Compiler
from arm_sr.tpu.graph import bicubic_graph, subnet_graph
from arm_sr.tpu.operator_table import Measured, Table, markdown
from arm_sr.tpu.operators import Network, aspects, input_aspects
from arm_sr.tpu.probe import TARGETS, TOLERANCES, compared, probe_all, text_of
from arm_sr.tpu.probe_nets import NETS

ROOT = Path(__file__).parents[2]
PICTURE = "float[1,3,48,48] x"


def written(folder: Path, nodes: str, given: str = PICTURE, opset: int = 13, domains: str = "", after: str = "",
            **constants: object) -> Path:  # fmt: skip
    """A network in ONNX's text form, as a file; `constants` are its initializers, tuples shapes of weights."""
    text = f'<ir_version: 8, opset_import: ["" : {opset}{domains}]> net ({given}) => (float y) {{ {nodes} }} {after}'
    model = onnx.parser.parse_model(text)
    random = np.random.default_rng(1)
    for name, value in constants.items():
        array = random.normal(size=value).astype(np.float32) if isinstance(value, tuple) else np.asarray(value)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    path = folder / "net.onnx"
    onnx.save(model, path)
    return path


def faults(findings: list[Finding]) -> list[tuple[str, str, str]]:
    return [(each.precision, each.aspect, each.verdict) for each in findings if each.fault]


CONV = "c = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, w)"
UP = "c = ConvTranspose<kernel_shape=[4,4], strides=[2,2], pads=[1,1,1,1]>(x, w)"
SCALES = np.array([1, 1, 2, 2], np.float32)


@pytest.mark.parametrize("chip", CHIPS)
def test_what_this_project_compiles_is_fine(chip: str, tmp_path: Path) -> None:
    card = load_model("plain-x4")
    widths = {name: (subnet.width, subnet.depth) for name, subnet in card.subnets.items()}
    subnet = build("plain", card.scale, widths).subnet("w16")
    graphs = {"w16": subnet_graph(subnet, (48, 48)), "bicubic": bicubic_graph(card.scale, (48, 48))}
    for name, graph in graphs.items():
        path = tmp_path / f"{name}.onnx"
        onnx.save(graph, path)
        findings = check_model(path, chip)
        assert {"ok"} == {each.verdict for each in findings}, report(findings)
        assert 2 * len(graph.graph.node) == len(findings)


def test_a_cubic_resize_is_said_to_become_a_linear_one(tmp_path: Path) -> None:
    path = written(tmp_path, 'y = Resize<mode="cubic">(x, , s)', s=SCALES)
    (finding,) = check_model(path, "bm1684x", "F16")
    assert ("wrong", "Resize cubic half_pixel") == (finding.verdict, finding.aspect)
    assert "linear" in finding.reason
    assert "bicubic_graph" in finding.substitute
    assert "off by up to" in finding.reason  # measured, too


def test_deconvolutions_on_the_oldest_chip(tmp_path: Path) -> None:
    path = written(tmp_path, f"{UP} y = Clip(c, low, high)", w=(3, 3, 4, 4), low=np.float32(0), high=np.float32(255))
    findings = check_model(path, "bm1684")
    clip = [each for each in findings if each.aspect == "Clip after ConvTranspose"]
    assert [("F32", "wrong"), ("INT8", "wrong")] == [(each.precision, each.verdict) for each in clip]
    assert all("clip on the host" in each.substitute for each in clip)
    int8 = [each for each in findings if each.aspect == "ConvTranspose 4x4 stride 2" and each.fault]
    assert ["INT8"] == [each.precision for each in int8]
    assert "DepthToSpace" in int8[0].substitute
    assert "F32 for this node" in int8[0].substitute
    assert [] == faults(check_model(path, "bm1684x"))


def test_an_anchor_by_a_1x1_convolution(tmp_path: Path) -> None:
    ones = np.repeat(np.eye(3, dtype=np.float32), 4, 0).reshape(12, 3, 1, 1)
    path = written(tmp_path, f"{CONV} a = Conv<kernel_shape=[1,1]>(x, ones) y = Add(a, c)", w=(12, 3, 3, 3), ones=ones)
    (found,) = [each for each in check_model(path, "bm1684", "INT8") if each.fault]
    assert found.node.startswith("Conv '' (a)")
    assert "Slice and Concat" in found.substitute
    other = written(tmp_path, "y = Conv<kernel_shape=[1,1]>(x, w)", w=(12, 3, 1, 1))
    assert [] == faults(check_model(other, "bm1684", "INT8"))


def test_an_operator_that_the_compiler_does_not_know(tmp_path: Path) -> None:
    path = written(tmp_path, "y = Multinomial<dtype=1>(x)", "float[1,3] x")
    (finding,) = [each for each in check_model(path, "bm1688", "F16") if each.fault]
    assert "refused" == finding.verdict
    assert "Multinomial" in finding.reason


def test_operators_of_other_domains_are_named(tmp_path: Path) -> None:
    nodes = "a = com.microsoft.FusedConv<kernel_shape=[3,3]>(x, w) y = com.microsoft.Relu(a)"
    path = written(tmp_path, nodes, domains=', "com.microsoft" : 1', w=(3, 3, 3, 3))
    fused, relu = check_model(path, "bm1684x", "F16")
    assert ("refused", "not probed") == (fused.verdict, relu.verdict)
    assert "optimiser" in fused.reason
    assert "com.microsoft" in relu.reason


def test_free_sizes_are_findings_about_the_input(tmp_path: Path) -> None:
    nodes = 'd = DepthToSpace<blocksize=2, mode="CRD">(c) y = Relu(d)'
    path = written(tmp_path, f"{CONV} {nodes}", "float[N,3,H,W] x", w=(12, 3, 3, 3))
    findings = check_model(path, "bm1684", "F32")
    free = [each for each in findings if each.verdict == "free"]
    assert ["input 'x'"] == [each.node for each in free]
    assert "?x3x?x?" in free[0].reason
    assert "DepthToSpace" in free[0].reason
    assert "--input_shapes" in free[0].substitute
    assert [] == faults(findings)


def test_what_follows_from_shapes_is_no_operator_of_the_chip(tmp_path: Path) -> None:
    """As torch exports an interpolation to twice the size of what came in."""
    nodes = """
        shape = Shape(x) side = Slice(shape, two, four) double = Mul(side, factor)
        first = Slice(shape, none, two) sizes = Concat<axis=0>(first, double)
        y = Resize<mode="linear", coordinate_transformation_mode="pytorch_half_pixel">(x, , , sizes)"""
    whole = {"none": [0], "two": [2], "four": [4], "factor": [2]}
    path = written(tmp_path, nodes, "float[N,3,H,W] x", **{name: np.array(value) for name, value in whole.items()})
    (node,) = Network(path).nodes
    assert ["Resize linear pytorch_half_pixel"] == aspects(node)


def test_functions_are_inlined_and_subgraphs_named(tmp_path: Path) -> None:
    own = '<domain: "own", opset_import: ["" : 13]> Twice (a) => (b) { b = Add(a, a) }'
    path = written(tmp_path, "y = own.Twice(x)", domains=', "own" : 1', after=own)
    assert ["Add of two tensors"] == [each.aspect for each in check_model(path, "bm1684x", "F16")]

    inner = "then_branch = one () => (float[1,3,48,48] a) { a = Resize<mode=\"cubic\">(x, , s) }"
    other = "else_branch = two () => (float[1,3,48,48] b) { b = Abs(x) }"
    nodes = f"m = ReduceMax<keepdims=0>(x) c = Cast<to=9>(m) y = If(c) <{inner}, {other}>"
    path = written(tmp_path, nodes, s=SCALES)
    nodes_of = [each.node for each in check_model(path, "bm1684x", "F16")]
    assert any("Resize '' (a) in then_branch of If" in name for name in nodes_of)
    assert any("Abs '' (b) in else_branch of If" in name for name in nodes_of)


@pytest.mark.parametrize(
    ("nodes", "given", "expected"),
    [
        ("y = Conv<group=3, dilations=[2,2], strides=[2,2]>(x, w)", {"w": (3, 1, 3, 3)},
         ["Conv 3x3", "Conv depthwise", "Conv dilated", "Conv strided"]),
        ("y = Conv<pads=[0,0,1,1]>(x, w)", {"w": (8, 3, 5, 3)}, ["Conv 5x5", "Conv with uneven pads"]),
        ("y = Conv(x, w)", {"w": (8, 3, 7, 1)}, ["Conv 1xN"]),
        ("y = Conv(x, w)", {"w": (8, 3, 31, 31)}, ["Conv 31x31"]),
        ("y = ConvTranspose<strides=[3,3]>(x, w)", {"w": (3, 8, 3, 3)}, ["ConvTranspose 3x3 stride 3"]),
        ("y = Div(s, x)", {"s": np.float32(1)}, ["Div of a constant"]),
        ("y = Mul(s, x)", {"s": np.ones((1, 3, 1, 1), np.float32)}, ["Mul by a constant per channel"]),
        ("y = Pow(x, s)", {"s": np.float32(0.5)}, ["Pow 0.5"]),
        ("y = ReduceMean<axes=[-1, -2]>(x)", {}, ["ReduceMean axes 2,3"]),
        ("y = HardSigmoid(x)", {}, ["HardSigmoid of another alpha"]),
        ("y = HardSigmoid<alpha=0.16666667>(x)", {}, ["HardSigmoid"]),
        ("y = Softmax<axis=-3>(x)", {}, ["Softmax axis 1"]),
        ("y = Transpose(x)", {}, ["Transpose 3,2,1,0"]),
        ("y = Concat<axis=-3>(x, x)", {}, ["Concat axis 1"]),
        ("y = Resize(x, , s)", {"s": np.array([1, 1, 1.5, 1.5], np.float32)},
         ["Resize nearest half_pixel round_prefer_floor", "Resize by a fraction"]),
        ('y = Resize<mode="linear">(x, , , s)', {"s": np.array([1, 3, 24, 24])},
         ["Resize linear half_pixel", "Resize to less"]),
    ],
)  # fmt: skip
def test_what_matters_of_a_node(nodes: str, given: dict[str, object], expected: list[str], tmp_path: Path) -> None:
    (node,) = Network(written(tmp_path, nodes, **given)).nodes
    assert expected == aspects(node)


def test_old_files_and_other_inputs(tmp_path: Path) -> None:
    path = written(tmp_path, 'y = Upsample<mode="nearest">(x, s)', "double[4,3,48,48] x", opset=9, s=SCALES)
    network = Network(path)
    assert ["Upsample nearest"] == aspects(network.nodes[0])
    assert ["Input double", "Input of batch 4"] == input_aspects(network.inputs[0])


def test_damaged_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    whole = written(tmp_path, f"{CONV} y = Relu(c)", w=(64, 3, 3, 3)).read_bytes()
    for name, data in {"cut": whole[: len(whole) // 2], "text": b"no network\n", "nothing": b""}.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(data)
        with pytest.raises(ArtefactError, match=rf"{name}\.onnx: .*ONNX model") as raised:
            check_model(path, "bm1684x")
        assert "\n" not in str(raised.value)
    with pytest.raises(ArtefactError, match=r"missing\.onnx"):
        check_model(tmp_path / "missing.onnx", "bm1684x")


def test_chips_and_precisions_that_there_are_not(tmp_path: Path) -> None:
    path = written(tmp_path, "y = Relu(x)")
    with pytest.raises(UsageError, match="bm1685"):
        check_model(path, "bm1685")
    with pytest.raises(UsageError, match="F16"):
        check_model(path, "bm1684", "F16")
    with pytest.raises(UsageError, match="measured in F16 and INT8, not BF16"):
        check_model(path, "bm1684x", "BF16")


def test_the_report_begins_with_the_faults(tmp_path: Path) -> None:
    nodes = f'{CONV} r = Resize<mode="cubic">(c, , s) y = Softmax<axis=0>(r)'
    path = written(tmp_path, nodes, "float[N,3,48,48] x", w=(3, 3, 3, 3), s=SCALES)
    lines = report(check_model(path, "bm1684x")).splitlines()
    assert lines[0].startswith("wrong: Resize '' (r) as Resize cubic half_pixel, bm1684x F16")
    assert any(line.startswith("free: input 'x', bm1684x F16, bm1684x INT8: ") for line in lines)
    assert any(line.startswith("not probed: Softmax '' (y) as Softmax axis 0, ") for line in lines)
    assert "bm1684x F16, nodes: 1 ok, 1 not probed, 1 wrong" == lines[-2]
    assert Counter("".join(lines))["\n"] == 0


def test_each_network_that_is_tried_has_what_it_is_named_after(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    for name, net in NETS.items():
        onnx.save(net.model(), path)
        network = Network(path)
        found = [aspect for node in network.nodes for aspect in aspects(node)]
        assert name in found + [aspect for given in network.inputs for aspect in input_aspects(given)]


def test_the_table_belongs_to_the_networks() -> None:
    table = Table()
    assert re.fullmatch(r"tpu_mlir \d+\.\d+\.\d+", str(table.about["compiler"]))
    assert table.about["tolerances"] == TOLERANCES
    assert {"Conv", "Resize", "DepthToSpace"} < set(table.converted)
    assert set(table.operators) <= set(NETS)
    targets = {" ".join(target) for target in TARGETS}
    for aspect, results in table.operators.items():
        assert text_of(NETS[aspect]) == table.nets[aspect], "tools/probe_operators.py makes it anew"
        assert targets == set(results)
        for target, each in results.items():
            if each.error is None:
                assert each.verdict != "ok"
                assert each.said
            else:
                assert (each.error <= TOLERANCES[target.split()[1]]) == (each.verdict == "ok")
            assert not re.search(r"(^|\s)/\w+/", each.said)


def test_the_page_shows_the_table() -> None:
    page = (ROOT / "docs" / "tpu-operators.md").read_text()
    assert markdown(Table()).strip() == page.strip()


def test_tables_survive_writing_and_others_are_refused(tmp_path: Path) -> None:
    table = Table(tmp_path / "table.json")
    table.about = {"schema": 1, "compiler": "tpu_mlir 1.0.0", "tolerances": TOLERANCES, "converted": ["Relu"]}
    table.operators = {"Relu": {"bm1684 F32": Measured("ok", 0.0, 0.0), "bm1684 INT8": Measured("refused", said="no")}}
    table.nets = {"Relu": "..."}
    table.save()
    again = Table(table.path)
    assert (table.operators, table.nets, table.about) == (again.operators, again.nets, again.about)
    table.path.write_text(table.path.read_text().replace('"schema": 1', '"schema": 9'))
    with pytest.raises(ArtefactError, match="schema 9"):
        Table(table.path)
    table.path.write_text("{")
    with pytest.raises(ArtefactError, match=r"table\.json: not a table"):
        Table(table.path)


def test_what_is_said_of_an_output() -> None:
    expected = np.linspace(0, 10, 11)
    assert Measured("ok", 0.0, 0.0) == compared(expected.reshape(1, 11), expected, "F32")
    assert "wrong" == compared(expected + 0.2, expected, "F16").verdict
    assert Measured("ok", 0.02, 0.02) == compared(expected + 0.2, expected, "INT8")
    assert "finite" in compared(expected * np.nan, expected, "F16").said
    assert "puts out [3]" in compared(expected[:3], expected, "F16").said


@pytest.mark.slow
@pytest.mark.skipif(ENVIRONMENT not in os.environ, reason=f"{ENVIRONMENT} names no folder with the compiler")
def test_a_few_operators_with_the_compiler(tmp_path: Path) -> None:
    table = tmp_path / "own.json"
    names = ["Conv 3x3", "Resize cubic half_pixel", "Einsum bhwc,cd->bhwd"]
    command = [sys.executable, "tools/probe_operators.py", "--table", table, "--only", *names]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    made = Table(table).operators
    assert {"ok"} == {each.verdict for each in made["Conv 3x3"].values()}
    assert {"wrong"} == {each.verdict for each in made["Resize cubic half_pixel"].values()}
    assert {"refused"} == {each.verdict for each in made["Einsum bhwc,cd->bhwd"].values()}
    before = table.read_bytes()
    compiler = Compiler(Path(os.environ[ENVIRONMENT]))
    probe_all(names, compiler, Table(table), tmp_path, 10, lambda *_: pytest.fail("tried again"))
    assert before == table.read_bytes()
