"""The nodes of an ONNX file as the TPU's compiler meets them, and what matters of each for whether it can take it.

As the compiler does, local functions are inlined, sizes are fixed, and what follows from constants and shapes alone is
computed before.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, inliner, numpy_helper
from onnx.reference import ReferenceEvaluator

from ..errors import ArtefactError

SIDE = 48
"""Stands in for a free height or width."""
SMALL = 4096
"""Elements of the largest tensor that is computed here; all larger ones are weights."""
ROUNDS = 20
"""Of shapes that follow from values that follow from shapes."""
NOT_FOLDED = ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "If", "Loop", "Scan")
NOTHING = ("Identity", "Dropout", "Constant")
"""Operators that compute nothing when a network is used."""

Shape = tuple[int, ...]


@dataclass
class Scope:
    """What is known of the tensors of a graph, by name."""

    constants: dict[str, np.ndarray | None] = field(default_factory=dict)
    """None for those whose values were not computed."""
    shapes: dict[str, Shape] = field(default_factory=dict)
    makers: dict[str, NodeProto] = field(default_factory=dict)
    users: dict[str, list[NodeProto]] = field(default_factory=dict)


@dataclass(frozen=True)
class Node:
    """A node that is left when constants are folded."""

    proto: NodeProto
    scope: Scope
    where: str = ""
    """Subgraphs around it."""

    @property
    def operator(self) -> str:
        """Its type, with the domain if that is not ONNX's."""
        domain = self.proto.domain
        return self.proto.op_type if domain in ("", "ai.onnx") else f"{domain}.{self.proto.op_type}"

    def __str__(self) -> str:
        return f"{self.operator} '{self.proto.name}' ({', '.join(filter(None, self.proto.output))}){self.where}"

    def attribute(self, name: str, otherwise: object = None) -> object:
        """Value of an attribute; text as str."""
        for attribute in self.proto.attribute:
            if attribute.name == name:
                value = helper.get_attribute_value(attribute)
                return value.decode() if isinstance(value, bytes) else value
        return otherwise

    def integers(self, name: str, otherwise: list[int]) -> list[int]:
        """Value of an attribute that is a list of integers."""
        value = self.attribute(name)
        return [int(each) for each in value] if isinstance(value, list | tuple) else otherwise

    def input(self, number: int) -> str:
        """Name of an input, "" when it is not given."""
        return self.proto.input[number] if number < len(self.proto.input) else ""

    def is_constant(self, number: int) -> bool:
        """Whether an input is given and always the same."""
        return self.input(number) in self.scope.constants

    def constant(self, number: int) -> np.ndarray | None:
        """Value of such an input; None when it is not one or too large to have been computed."""
        return self.scope.constants.get(self.input(number))

    def shape(self, number: int = 0) -> Shape | None:
        """Of an input; None when it is not known."""
        value = self.constant(number)
        return value.shape if value is not None else self.scope.shapes.get(self.input(number))

    def maker(self, number: int = 0) -> str:
        """Type of the node that makes an input, "" for inputs of the network."""
        maker = self.scope.makers.get(self.input(number))
        return maker.op_type if maker else ""

    def users(self) -> list[NodeProto]:
        """Nodes that take its first output."""
        return self.scope.users.get(self.proto.output[0], [])


@dataclass(frozen=True)
class Input:
    """An input of a network."""

    name: str
    type: str
    """float, uint8, ..."""
    shape: Shape | None
    """0 where it is free; None when the file does not say."""


class Network:
    """An ONNX file's nodes and inputs.

    Args:
        path: any ONNX file, of whatever IR and opset; ArtefactError when it is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        model = self._load()
        graph = model.graph
        weights = {tensor.name for tensor in graph.initializer}
        weights |= {tensor.values.name for tensor in graph.sparse_initializer}
        sources = [value for value in graph.input if value.name not in weights]
        self.inputs = [_input(value) for value in sources]
        for value in sources:
            _fix(value)
        scope = self._fold(model)
        self.nodes = list(_nodes(graph, scope, ""))

    def _load(self) -> ModelProto:
        try:
            model = onnx.load(self.path)
            onnx.checker.check_model(model)
            model = inliner.inline_local_functions(model) if model.functions else model
        except Exception as error:  # those of the parser, the checker and the system have no common base
            raise ArtefactError(f"{self.path}: not an ONNX model ({_line(error)})") from error
        if not model.graph.node:
            raise ArtefactError(f"{self.path}: an ONNX model without any node")
        return model

    def _fold(self, model: ModelProto) -> Scope:
        """Take out what is constant, and say what is known of the rest."""
        graph, scope = model.graph, Scope()
        for tensor in graph.initializer:
            # Not all are read: the weights are most of the file.
            small = int(np.prod(tensor.dims)) <= SMALL
            scope.constants[tensor.name] = numpy_helper.to_array(tensor) if small else None
            scope.shapes[tensor.name] = tuple(tensor.dims)
        for sparse in graph.sparse_initializer:
            scope.constants[sparse.values.name] = None
        # What the file says of sizes was said before they were fixed.
        del graph.value_info[:]
        for value in graph.output:
            value.type.tensor_type.ClearField("shape")
        opsets = list(model.opset_import)
        for _ in range(ROUNDS):
            try:
                inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
            except Exception as error:  # as above
                raise ArtefactError(f"{self.path}: the shapes in it cannot be found out ({_line(error)})") from error
            scope.shapes |= _shapes(inferred.graph)
            folded = [node for node in graph.node if _folds(node, scope, opsets)]
            for node in folded:
                for name in filter(None, node.output):
                    computed = scope.constants[name]
                    if computed is not None:
                        graph.initializer.append(numpy_helper.from_array(computed, name))
            if not folded:
                graph.CopyFrom(inferred.graph)  # with the shapes inside subgraphs
                return scope
            # Those whose values are not known stay, for the shapes that follow from them.
            kept = [node for node in graph.node if node not in folded or _unknown(node, scope)]
            del graph.node[:]
            graph.node.extend(kept)
        return scope


def _line(error: Exception) -> str:
    """The first of its message."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _unknown(node: NodeProto, scope: Scope) -> bool:
    return any(scope.constants.get(name) is None for name in node.output if name)


def _input(value: onnx.ValueInfoProto) -> Input:
    kind = value.type.tensor_type
    shape = tuple(dim.dim_value for dim in kind.shape.dim) if kind.HasField("shape") else None
    return Input(value.name, TensorProto.DataType.Name(kind.elem_type).lower(), shape)


def _fix(value: onnx.ValueInfoProto) -> None:
    """Give free sizes some that a picture has."""
    dims = value.type.tensor_type.shape.dim
    for axis, dim in enumerate(dims):
        if not dim.dim_value:
            channels = len(dims) == 4 and axis == 1 and dims[3].dim_value != 3
            dim.dim_value = 1 if axis == 0 else 3 if channels else SIDE


def _shapes(graph: GraphProto) -> dict[str, Shape]:
    shapes = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        if kind.HasField("shape") and all(dim.HasField("dim_value") for dim in kind.shape.dim):
            shapes[value.name] = tuple(dim.dim_value for dim in kind.shape.dim)
    return shapes


def _folds(node: NodeProto, scope: Scope, opsets: list[onnx.OperatorSetIdProto]) -> bool:
    """Whether a node's outputs are constant and were not known to be; now they are."""
    if node.op_type in NOT_FOLDED or node.output[0] in scope.constants:
        return False
    if any(attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for attribute in node.attribute):
        return False
    given = [name for name in node.input if name]
    if node.op_type == "Shape" and given[0] in scope.shapes:
        shape = np.array(scope.shapes[given[0]], np.int64)
        first, last = (helper.get_node_attr_value(node, name) if any(a.name == name for a in node.attribute) else None
                       for name in ("start", "end"))  # fmt: skip
        scope.constants[node.output[0]] = shape[first:last]
        return True
    if not all(name in scope.constants for name in given):
        return False
    values = {name: scope.constants[name] for name in given}
    made = [name for name in node.output if name]
    results: list[Any] = [None] * len(made)
    if all(value is not None for value in values.values()):
        ends = [helper.make_empty_tensor_value_info(name) for name in dict.fromkeys(given)]
        outputs = [helper.make_empty_tensor_value_info(name) for name in made]
        graph = helper.make_graph([node], "one", ends, outputs)
        try:
            results = [*ReferenceEvaluator(helper.make_model(graph, opset_imports=opsets)).run(None, values)]
        except Exception:  # an operator that the reference lacks: constant all the same
            results = [None] * len(made)
    for name, result in zip(made, results, strict=True):
        small = isinstance(result, np.ndarray | np.generic) and np.size(result) <= SMALL
        scope.constants[name] = np.asarray(result) if small else None
    return True


def _nodes(graph: GraphProto, scope: Scope, where: str) -> Iterator[Node]:
    """Those of a graph and of the graphs inside it."""
    for node in graph.node:
        scope.makers.update(dict.fromkeys(node.output, node))
        for name in node.input:
            scope.users.setdefault(name, []).append(node)
    for node in graph.node:
        if node.op_type in NOTHING or all(name in scope.constants for name in node.output if name):
            continue
        yield Node(node, scope, where)
        for attribute in node.attribute:
            graphs = [attribute.g] if attribute.type == AttributeProto.GRAPH else list(attribute.graphs)
            for inner in graphs:
                constants: dict[str, np.ndarray | None] = {
                    tensor.name: numpy_helper.to_array(tensor) for tensor in inner.initializer
                }
                for each in inner.node:
                    if each.op_type == "Constant":
                        constants[each.output[0]] = _value(each)
                inside = Scope({**scope.constants, **constants}, scope.shapes | _shapes(inner))
                yield from _nodes(inner, inside, f" in {attribute.name} of {node.op_type} '{node.name}'{where}")


def _value(node: NodeProto) -> np.ndarray | None:
    """Of a Constant."""
    attribute = node.attribute[0]
    value = helper.get_attribute_value(attribute)
    return numpy_helper.to_array(value) if attribute.name == "value" else np.asarray(value)


# What matters of a node: names of networks in `probe_nets`.


def aspects(node: Node) -> list[str]:
    """What a node asks of the compiler, one name for each thing that was measured alone: `Conv 3x3`, `Conv dilated`."""
    of_kind = ASPECTS.get(node.operator)
    found = of_kind(node) if of_kind else [node.operator]
    before = node.maker()
    if before in FUSED.get(node.operator, ()) and (node.operator != "Clip" or _from_zero(node)):
        found = [*found, f"{node.operator} after {before}"]
    return found


def input_aspects(given: Input) -> list[str]:
    """The same of an input of the network."""
    found = [] if given.type == "float" else [f"Input {given.type}"]
    if given.shape is not None:
        found += ["Input of batch 4"] if len(given.shape) == 4 and given.shape[0] > 1 else []
        found += [] if len(given.shape) == 4 else [f"Input of {len(given.shape)} axes"]
    return found


FUSED = {"Clip": ("Conv", "ConvTranspose", "Add", "DepthToSpace"), "Relu": ("Conv", "ConvTranspose", "Add"),
         "LeakyRelu": ("Conv",)}  # fmt: skip
"""Activations that the compiler makes a part of what is before them."""
KERNELS = (1, 3, 5, 9)
"""Sides that were measured; others count as the next larger."""


def _from_zero(clip: Node) -> bool:
    """Whether its lower bound is 0: the compiler fuses no other."""
    bound = clip.constant(1)
    return bool(clip.attribute("min", None) == 0) if bound is None else bool(bound == 0)



def _kernel(node: Node) -> list[int]:
    shape = node.shape(1)
    return node.integers("kernel_shape", list(shape[2:]) if shape else [])


def _uneven(node: Node) -> bool:
    pads = node.integers("pads", [])
    return pads[: len(pads) // 2] != pads[len(pads) // 2 :]


def _conv(node: Node) -> list[str]:
    kernel, weight, group = _kernel(node), node.shape(1), int(str(node.attribute("group", 1)))
    found = []
    if len(kernel) == 2:
        size = next((size for size in KERNELS if max(kernel) <= size), None)
        found.append(f"Conv {size}x{size}" if size else f"Conv {kernel[0]}x{kernel[1]}")
        if min(kernel) == 1 < max(kernel):
            found = ["Conv 1xN"]
    else:
        found.append({1: "Conv over one axis"}.get(len(kernel), f"Conv over {len(kernel)} axes"))
    if group > 1:
        found.append("Conv depthwise" if weight is None or weight[1] == 1 else "Conv grouped")
    found += ["Conv dilated"] if max(node.integers("dilations", [1])) > 1 else []
    found += ["Conv strided"] if max(node.integers("strides", [1])) > 1 else []
    found += ["Conv with uneven pads"] if _uneven(node) else []
    found += ["Conv with auto_pad"] if str(node.attribute("auto_pad", "NOTSET")).startswith("SAME") else []
    found += [] if node.is_constant(1) else ["Conv with computed weights"]
    values = node.constant(1)
    if found[0] == "Conv 1x1" and values is not None and group == 1:
        one_each = (values != 0).sum(1) == 1
        if values.shape[0] > values.shape[1] and one_each.all() and len(np.unique(values)) == 2:
            found.append("Conv 1x1 that repeats channels")
    return found


def _conv_transpose(node: Node) -> list[str]:
    kernel, strides, weight = _kernel(node), node.integers("strides", [1, 1]), node.shape(1)
    found = [f"ConvTranspose {'x'.join(map(str, kernel))} stride {'x'.join(map(str, sorted(set(strides))))}"]
    group = int(str(node.attribute("group", 1)))
    if group > 1:
        same = weight is None or (weight[0] == group and weight[1] == 1)
        found.append("ConvTranspose grouped" if same else "ConvTranspose in groups of several channels")
    return found


def _binary(node: Node) -> list[str]:
    """Of two tensors, or one and a constant."""
    name = node.operator
    for number, variant in ((1, ""), (0, "of a constant")):
        if node.is_constant(number):
            if variant and name in ("Sub", "Div"):
                return [f"{name} {variant}"]
            size = int(np.prod(node.shape(number) or ()))
            alone = name not in ("Add", "Mul")
            return [f"{name} {'by a scalar' if size == 1 or alone else 'by a constant per channel'}"]
    shapes = node.shape(0), node.shape(1)
    spread = None not in shapes and shapes[0] != shapes[1] and name in ("Add", "Mul")
    return [f"{name} of two tensors{', broadcast' if spread else ''}"]


def _pow(node: Node) -> list[str]:
    exponent = node.constant(1)
    if exponent is None or exponent.size != 1:
        return ["Pow with computed exponents"]
    return [f"Pow {exponent.item():g}"]


def _axis(node: Node, otherwise: int = 0) -> int:
    """An axis, counted from the front."""
    axis, shape = int(str(node.attribute("axis", otherwise))), node.shape()
    return axis % len(shape) if shape else axis


def _axes(number: int) -> Callable[[Node], list[int]]:
    """Axes that are an attribute, and in later opsets an input, counted from the front."""

    def of(node: Node) -> list[int]:
        value, shape = node.constant(number), node.shape()
        axes = [int(axis) for axis in value.ravel()] if value is not None else node.integers("axes", [])
        axes = axes or list(range(len(shape or ())))
        return sorted(axis % len(shape) for axis in axes) if shape else sorted(axes)

    return of


def _reduced(node: Node) -> list[str]:
    axes, shape = _axes(1)(node), node.shape()
    if shape and len(shape) == 4 and axes == [2, 3]:
        return [f"{node.operator} axes 2,3"]
    if shape and axes == [len(shape) - 1] and node.operator == "ReduceMean":
        return [f"{node.operator} last axis"]
    return [f"{node.operator} axis {axes[0]}" if len(axes) == 1 else f"{node.operator} axes {','.join(map(str, axes))}"]


def _slice(node: Node) -> list[str]:
    steps = node.constant(4)
    if steps is not None and (steps < 0).any():
        return ["Slice with negative steps"]
    if steps is not None and (steps != 1).any():
        return ["Slice with steps"]
    # Height and width are alike.
    return [f"Slice axis {3 if axis == 2 else axis}" for axis in _axes(3)(node)]


def _depth_to_space(node: Node) -> list[str]:
    mode, block = str(node.attribute("mode", "DCR")), int(str(node.attribute("blocksize", 0)))
    return [f"DepthToSpace {mode}", *([f"DepthToSpace CRD by {block}"] if block > 2 and mode == "CRD" else [])]


def _transpose(node: Node) -> list[str]:
    perm = node.integers("perm", list(range(len(node.shape() or ())))[::-1])
    return [f"Transpose {','.join(map(str, perm))}"]


def _pad(node: Node) -> list[str]:
    return [f"Pad {node.attribute('mode', 'constant')}"]


def _factors(node: Node) -> list[float] | None:
    """Of a Resize, by its scales or its sizes; None when they are computed."""
    scales, sizes, shape = node.constant(1 if len(node.proto.input) == 2 else 2), node.constant(3), node.shape()
    if scales is not None and scales.size:
        return [float(each) for each in scales]
    if sizes is None or shape is None or len(sizes) != len(shape):
        return None
    return [float(size) / side for size, side in zip(sizes, shape, strict=True)]


def _resize(node: Node) -> list[str]:
    mode = str(node.attribute("mode", "nearest"))
    # Before opset 11 there was but one.
    old = "asymmetric" if len(node.proto.input) == 2 else "half_pixel"
    position = str(node.attribute("coordinate_transformation_mode", old))
    rounding = f" {node.attribute('nearest_mode', 'round_prefer_floor' if old == 'half_pixel' else 'floor')}"
    factors = _factors(node)
    found = [f"Resize {mode} {position}{rounding if mode == 'nearest' else ''}"]
    if factors is None:
        return [*found, "Resize with computed sizes"]
    if min(factors) < 1:
        return [*found, "Resize nearest to less" if mode == "nearest" else "Resize to less"]
    if any(not factor.is_integer() for factor in factors):
        return [*found, "Resize by a fraction"]
    return [*found, "Resize by 4"] if max(factors) > 2 else found


def _upsample(node: Node) -> list[str]:
    return [f"Upsample {node.attribute('mode', 'nearest')}"]


def _erf(node: Node) -> list[str]:
    """The compiler knows a GELU by its nodes."""
    pattern = [node.maker(), *(user.op_type for user in node.users())]
    return ["Erf in a GELU" if pattern in (["Div", "Add"], ["Mul", "Add"]) else "Erf"]


def _hard_sigmoid(node: Node) -> list[str]:
    """The compiler knows torch's slope only, not that of ONNX, 0.2."""
    alpha = float(str(node.attribute("alpha", 0.2)))
    return ["HardSigmoid" if abs(alpha - 1 / 6) < 1e-4 else "HardSigmoid of another alpha"]


def _sigmoid(node: Node) -> list[str]:
    source = node.input(0)
    silu = any(user.op_type == "Mul" and source in user.input for user in node.users())
    return ["Sigmoid in a SiLU" if silu else "Sigmoid"]


def _softmax(node: Node) -> list[str]:
    axis, shape = _axis(node, -1), node.shape()
    return ["Softmax last axis" if shape is None or axis == len(shape) - 1 else f"Softmax axis {axis}"]


def _along(node: Node) -> list[str]:
    """Axes of pictures: height and width are alike."""
    axis = _axis(node)
    return [f"{node.operator} axis {3 if axis == 2 and node.operator == 'Concat' else axis}"]


def _products(node: Node) -> list[str]:
    return ["MatMul by a constant" if node.is_constant(1) else "MatMul of two tensors"]


def _einsum(node: Node) -> list[str]:
    return [f"Einsum {str(node.attribute('equation', '')).replace(' ', '')}"]


def _clip(node: Node) -> list[str]:
    bounds = [number for number in (1, 2) if node.input(number) and not node.is_constant(number)]
    return ["Clip with computed bounds" if bounds else "Clip"]


ASPECTS: Mapping[str, Callable[[Node], list[str]]] = {
    "Conv": _conv, "ConvTranspose": _conv_transpose, "Pow": _pow, "Slice": _slice, "DepthToSpace": _depth_to_space,
    "Transpose": _transpose, "Pad": _pad, "Resize": _resize, "Upsample": _upsample, "Erf": _erf, "Sigmoid": _sigmoid,
    "HardSigmoid": _hard_sigmoid,
    "Softmax": _softmax, "MatMul": _products, "Einsum": _einsum, "Clip": _clip,
    "DequantizeLinear": lambda _: ["QuantizeLinear"],
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Min", "Max"), _binary),
    **dict.fromkeys(("ReduceMean", "ReduceMax", "ReduceSum", "ReduceMin", "ReduceProd", "ReduceL2"), _reduced),
    **dict.fromkeys(("Concat", "Split", "Gather"), _along),
}  # fmt: skip
"""By operator; of others it is their name."""
