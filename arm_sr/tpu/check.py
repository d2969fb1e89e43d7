"""Before compiling: what a TPU's compiler will make of every node of an ONNX file.

It is looked up in the table of what was measured (`probe`) by what a node asks of the compiler (`operators`); why it
fails, where that is known, and what to write instead is in `WORDS`. No compiler is needed.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import UsageError
from .chips import chip_of
from .operator_table import TABLE, Measured, Table
from .operators import Input, Network, Node, aspects, input_aspects

Verdict = Literal["ok", "refused", "wrong", "not probed", "free"]
ORDER: tuple[Verdict, ...] = ("refused", "wrong", "free", "not probed", "ok")
"""From the worst."""


@dataclass(frozen=True)
class Finding:
    """What one node, or input, comes to in one precision."""

    node: str
    """Operator, name and outputs, as `Resize 'up' (up_1)`."""
    aspect: str
    """What of it, as `Resize cubic half_pixel`; "" for all of it."""
    chip: str
    precision: str
    verdict: Verdict
    """ok, refused by the compiler, computed wrongly, not probed; or a free size, which must be fixed."""
    reason: str = ""
    substitute: str = ""
    """What to write instead."""

    @property
    def of_node(self) -> bool:
        """Whether it is about a node, not an input."""
        return not self.node.startswith("input ")

    @property
    def fault(self) -> bool:
        """Whether the network cannot be used as it is."""
        return self.verdict in ("refused", "wrong")


CUBIC = ("lowered to linear without a word", "a 5x5 grouped convolution on a picture with a repeated border, and a "
         "DepthToSpace (arm_sr.tpu.graph.bicubic_graph)")  # fmt: skip
WORDS: tuple[tuple[str, str, str], ...] = (
    ("Resize cubic", *CUBIC),
    ("Upsample cubic", *CUBIC),
    ("Clip after ConvTranspose", "made a part of the deconvolution and then ignored, which the compiler's own "
     "comparison passes", "clip on the host, too; or Conv and DepthToSpace instead of the deconvolution"),
    ("ConvTranspose", "", "Conv to scale**2 times the channels, and DepthToSpace"),
    ("Conv 1x1 that repeats channels", "an anchor by a 1x1 convolution", "Slice and Concat of the channels, and Add"),
    ("Conv with uneven pads", "", "a Pad before a convolution without"),
    ("Conv dilated", "", "a larger kernel with zeros in it"),
    ("Conv with computed weights", "", "weights that are constant: the compiler has to pack them"),
    ("Resize with computed sizes", "sizes that depend on values are not known to a compiler for one shape",
     "constant scales"),
    ("Resize linear", "", "another coordinate_transformation_mode, half_pixel for instance, or a convolution and a "
     "DepthToSpace"),
    ("Resize nearest", "", "asymmetric with floor, which for whole factors is the same; or Concat of copies and "
     "DepthToSpace"),
    ("Resize", "", "a convolution and a DepthToSpace"),
    ("Upsample", "", "Resize (opset 11 and later), or a convolution and a DepthToSpace"),
    ("GridSample", "", "warping on the host"),
    ("Pad", "", "a border that is added on the host, or zeros"),
    ("Einsum", "", "Transpose, Reshape and MatMul"),
    ("HardSigmoid of another alpha", "taken for that of torch, with alpha 1/6", "Mul, Add and Clip"),
    ("Elu", "", "LeakyRelu or PRelu"),
    ("Selu", "", "LeakyRelu or PRelu"),
    ("Erf", "", "the GELU of tanh, or a ReLU"),
    ("GroupNormalization", "", "Reshape, InstanceNormalization, Reshape, Mul and Add, as exports of opset 17 have it"),
    ("Gelu", "", "its parts, as exports of opset 17 have them"),
    ("Mish", "", "Softplus, Tanh and Mul"),
    ("Input of batch", "", "a batch of 1, which is no slower"),
    ("Input of", "", "a Reshape on the host to (batch, channels, height, width)"),
    ("Input ", "", "an input of type float, or of uint8 by the compiler's --quant_input"),
    ("If", "a branch that depends on values", "one network for each branch"),
    ("Loop", "a number of rounds that depends on values", "the rounds one after the other"),
    ("Scan", "", "the steps one after the other"),
    ("LSTM", "", "convolutions: recurrent layers are not for super-resolution"),
    ("GRU", "", "convolutions: recurrent layers are not for super-resolution"),
    ("QuantizeLinear", "", "the network in floats: the compiler quantises by itself, from a calibration"),
    ("DequantizeLinear", "", "the network in floats: the compiler quantises by itself, from a calibration"),
    ("QLinear", "", "the network in floats: the compiler quantises by itself, from a calibration"),
    ("ConvInteger", "", "the network in floats: the compiler quantises by itself, from a calibration"),
    ("com.microsoft.", "made by ONNX Runtime's optimiser", "the file as it was exported, not as it was optimised"),
)  # fmt: skip
"""Beginning of an aspect, why it fails where that is known, and what to write instead; the first that fits."""


def check_model(path: Path, chip: str, precision: str | None = None, table: Table | None = None) -> list[Finding]:
    """What the compiler will make of every node and input of a network.

    Args:
        path: ONNX file; ArtefactError when it is none.
        chip: that it is for; UsageError when there is no such.
        precision: only this one; UsageError when it was not measured for the chip. By default all that were.
        table: of what was measured; the package's by default.

    Returns:
        The inputs, then the nodes in their order; one finding for each precision, the worst of what a node asks.
    """
    chip_of(chip, precision)
    table = table or Table(TABLE)
    measured = [name for other, name in table.targets if other == chip]
    if precision is not None and precision not in measured:
        raise UsageError(f"operators on {chip} were measured in {' and '.join(measured) or 'nothing'}, not {precision}")
    network = Network(path)
    shuffle = any(node.operator == "DepthToSpace" for node in network.nodes)
    findings = []
    for name in [precision] if precision else measured:
        findings += [each for given in network.inputs for each in _of_input(given, chip, name, shuffle, table)]
        findings += [_of_node(node, chip, name, table) for node in network.nodes]
    return findings


def report(findings: list[Finding]) -> str:
    """The findings as lines: what is at fault first, and at the end how many nodes are fine."""
    alike: dict[tuple[str, str, Verdict, str, str], list[str]] = {}
    for each in findings:
        if each.verdict != "ok":
            key = (each.node, each.aspect, each.verdict, each.reason, each.substitute)
            alike.setdefault(key, []).append(f"{each.chip} {each.precision}")
    lines = []
    by_verdict = sorted(alike.items(), key=lambda one: ORDER.index(one[0][2]))
    for (node, aspect, verdict, reason, substitute), where in by_verdict:
        what = "" if not aspect or node.startswith(f"{aspect} ") else f" as {aspect}"
        lines.append(f"{verdict}: {node}{what}, {', '.join(where)}: {reason}")
        if substitute:
            lines.append(f"    instead: {substitute}")
    nodes = Counter((f"{each.chip} {each.precision}", each.verdict) for each in findings if each.of_node)
    for target in dict.fromkeys(f"{each.chip} {each.precision}" for each in findings):
        counts = (f"{nodes[target, verdict]} {verdict}" for verdict in reversed(ORDER) if nodes[target, verdict])
        lines.append(f"{target}, nodes: {', '.join(counts) or 'none'}")
    return "\n".join(lines)


def _of_input(given: Input, chip: str, precision: str, shuffle: bool, table: Table) -> Iterator[Finding]:
    node = f"input '{given.name}'"
    if given.shape is None or 0 in given.shape:
        sizes = "of unknown shape" if given.shape is None else f"has free sizes: {_shown(given.shape)}"
        reason = f"{sizes}; the compiler takes one shape"
        if shuffle:
            reason += "; with --dynamic a DepthToSpace fails on bm1684 and ends the compiler on bm1684x"
        yield Finding(node, "", chip, precision, "free", reason, "--input_shapes, once for each size of tile")
    for aspect in input_aspects(given):
        yield _judged(node, aspect, chip, precision, table)


def _shown(shape: tuple[int, ...]) -> str:
    return "x".join(str(side or "?") for side in shape)


def _of_node(node: Node, chip: str, precision: str, table: Table) -> Finding:
    """The worst of what a node asks."""
    if node.proto.op_type not in table.converted:
        reason = f"the compiler has nothing for {node.operator}"
        why, substitute = _words(node.operator)
        return Finding(str(node), "", chip, precision, "refused", "; ".join(filter(None, (reason, why))), substitute)
    if node.operator != node.proto.op_type:
        reason = f"of the domain {node.proto.domain}; the compiler goes by the name alone and may take it for ONNX's"
        return Finding(str(node), "", chip, precision, "not probed", reason, _words(node.operator)[1])
    found = [_judged(str(node), aspect, chip, precision, table) for aspect in aspects(node)]
    return min(found, key=lambda each: ORDER.index(each.verdict))


def _judged(node: str, aspect: str, chip: str, precision: str, table: Table) -> Finding:
    """What was measured, or is known, of one thing that a node asks."""
    results = table.operators.get(aspect, {})
    measured = results.get(f"{chip} {precision}")
    why, substitute = _words(aspect)
    if measured is None:
        return Finding(node, aspect, chip, precision, "not probed", why or "not among what was measured", substitute)
    if measured.verdict == "ok":
        return Finding(node, aspect, chip, precision, "ok")
    floats = chip_of(chip).floats
    in_floats = results.get(f"{chip} {floats}")
    if precision == "INT8" and measured.verdict == "wrong" and in_floats is not None and in_floats.verdict == "ok":
        by_line = f"{floats} for this node, by a line in --quantize_table"
        substitute = f"{substitute}; or {by_line}" if substitute else by_line
    reason = f"{why}{_figures(measured)}".removeprefix("; ")
    return Finding(node, aspect, chip, precision, measured.verdict, reason, substitute)


def _figures(measured: Measured) -> str:
    """What was measured, as an end of a reason."""
    if measured.error is None:
        return f"; {measured.said}"
    rms = f" ({measured.rms:.1%} RMS)" if measured.rms is not None else ""
    return f"; off by up to {measured.error:.0%} of the range of the output{rms}"


def _words(aspect: str) -> tuple[str, str]:
    return next(((why, instead) for start, why, instead in WORDS if aspect.startswith(start)), ("", ""))
