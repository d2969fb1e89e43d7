"""One tiny network for each operator and variant that super-resolution networks are made of.

A network is named by the aspect of a node (`operators.aspects`) that it is there to try.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, helper, numpy_helper

SEED = 5
"""Of weights and inputs."""
Shape = tuple[int, ...]


@dataclass(frozen=True)
class ProbeNet:
    """A network with the output `y`."""

    nodes: str
    """In ONNX's text form; what no node makes and `constants` does not name is a weight or an input."""
    inputs: Mapping[str, Shape] = field(default_factory=lambda: {"x": (1, 8, 16, 16)})
    weights: Mapping[str, Shape] = field(default_factory=dict)
    """Normally distributed."""
    constants: Mapping[str, object] = field(default_factory=dict)
    low: float = -2.0
    high: float = 2.0
    """Range of the inputs, uniformly distributed."""
    type: str = "float"
    """Of the inputs."""
    opset: int = 13

    def model(self) -> ModelProto:
        """The network as a file would have it."""
        inputs = ", ".join(f"{self.type}{list(shape)} {name}" for name, shape in self.inputs.items())
        text = f'<ir_version: 8, opset_import: ["" : {self.opset}]> probe ({inputs}) => (float y) {{ {self.nodes} }}'
        model = onnx.parser.parse_model(text)
        random = np.random.default_rng(SEED)
        tensors = {name: random.normal(size=shape).astype(np.float32) for name, shape in self.weights.items()}
        tensors |= {name: np.asarray(value) for name, value in self.constants.items()}
        model.graph.initializer.extend(numpy_helper.from_array(tensor, name) for name, tensor in tensors.items())
        (y,) = reference(model, self.input(0))
        kind = helper.np_dtype_to_tensor_dtype(y.dtype)
        model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", kind, y.shape))
        onnx.checker.check_model(model, full_check=True)
        return model

    def input(self, number: int) -> dict[str, np.ndarray]:
        """Values for all inputs; one of several such."""
        random = np.random.default_rng((SEED, number))
        kind = helper.tensor_dtype_to_np_dtype(onnx.TensorProto.DataType.Value(self.type.upper()))
        return {name: random.uniform(self.low, self.high, shape).astype(kind) for name, shape in self.inputs.items()}


def reference(model: ModelProto, values: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """What ONNX Runtime computes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs: list[np.ndarray] = session.run(None, dict(values))
    return outputs


def _same(*operators: str, low: float = -2.0, high: float = 2.0, opset: int = 13) -> dict[str, ProbeNet]:
    """Operators of one input and no attributes."""
    return {name: ProbeNet(f"y = {name}(x)", low=low, high=high, opset=opset) for name in operators}


def _conv(attributes: str, weight: Shape, after: str = "", operator: str = "Conv", **more: object) -> ProbeNet:
    last = "c" if after else "y"
    grouped = weight[0] if "group" in attributes else weight[1]
    bias = weight[0] if operator == "Conv" else grouped
    nodes = f"{last} = {operator}<{attributes}>(x, w, b) {after}"
    return ProbeNet(nodes, weights={"w": weight, "b": (bias,)}, **more)  # type: ignore[arg-type]


def _resize(attributes: str, factors: Sequence[float] = (1, 1, 2, 2), shape: Shape = (1, 3, 16, 16)) -> ProbeNet:
    scales = np.array(factors, np.float32)
    return ProbeNet(f"y = Resize<{attributes}>(x, , scales)", {"x": shape}, constants={"scales": scales}, low=0, high=1)


def _binary(operator: str) -> dict[str, ProbeNet]:
    """An operator on two tensors, on ones of different shapes, and with constants."""
    both, low = {"x": (1, 8, 16, 16), "z": (1, 8, 16, 16)}, 0.5 if operator == "Div" else -2.0
    pool = {"x": (1, 8, 16, 16), "z": (1, 8, 1, 1)}
    weight = np.linspace(0.5, 2, 8, dtype=np.float32).reshape(1, 8, 1, 1)
    nets = {
        "of two tensors": ProbeNet(f"y = {operator}(x, z)", both, low=low),
        "by a scalar": ProbeNet(f"y = {operator}(x, s)", constants={"s": np.float32(1.5)}),
    }
    if operator in ("Add", "Mul"):
        nets["of two tensors, broadcast"] = ProbeNet(f"y = {operator}(x, z)", pool)
        nets["by a constant per channel"] = ProbeNet(f"y = {operator}(x, s)", constants={"s": weight})
    if operator in ("Sub", "Div"):
        nets["of a constant"] = ProbeNet(f"y = {operator}(s, x)", constants={"s": np.float32(1.5)}, low=low)
    return {f"{operator} {variant}": net for variant, net in nets.items()}


def _tail(operator: str) -> ProbeNet:
    """A channel attention's pooling or a normalisation: over height and width."""
    return ProbeNet(f"y = {operator}<axes=[2, 3], keepdims=1>(x)")


def _permuted(perm: Shape, shape: Shape) -> dict[str, ProbeNet]:
    name = ",".join(map(str, perm))
    return {f"Transpose {name}": ProbeNet(f"y = Transpose<perm={list(perm)}>(x)", {"x": shape})}


PAD1 = "kernel_shape=[3,3], pads=[1,1,1,1]"
BOUNDS = {"low": np.float32(0), "high": np.float32(1)}
WIDE = {"low": np.float32(0), "high": np.float32(10)}
"""Bounds for sums of so many products that [0, 1] would leave INT8 nothing between them. The compiler makes a clip from
0 on a part of what is before it; others it does not."""
CLIP = "y = Clip(c, low, high)"
UP2 = "kernel_shape=[4,4], strides=[2,2], pads=[1,1,1,1]"
UP4 = "kernel_shape=[9,9], strides=[4,4], pads=[4,4,4,4], output_padding=[3,3]"
ROWS = (1, 64, 16)


def _ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


NETS: dict[str, ProbeNet] = {
    # Convolutions
    "Conv 1x1": _conv("kernel_shape=[1,1]", (12, 8, 1, 1)),
    "Conv 3x3": _conv(PAD1, (12, 8, 3, 3)),
    "Conv 5x5": _conv("kernel_shape=[5,5], pads=[2,2,2,2]", (12, 8, 5, 5)),
    "Conv 9x9": _conv("kernel_shape=[9,9], pads=[4,4,4,4]", (12, 8, 9, 9)),
    "Conv 1xN": _conv("kernel_shape=[1,5], pads=[0,2,0,2]", (12, 8, 1, 5)),
    "Conv depthwise": _conv(f"{PAD1}, group=8", (8, 1, 3, 3)),
    "Conv grouped": _conv(f"{PAD1}, group=2", (12, 4, 3, 3)),
    "Conv dilated": _conv("kernel_shape=[3,3], pads=[2,2,2,2], dilations=[2,2]", (12, 8, 3, 3)),
    "Conv strided": _conv(f"{PAD1}, strides=[2,2]", (12, 8, 3, 3)),
    "Conv with uneven pads": _conv("kernel_shape=[3,3], pads=[0,1,2,1]", (12, 8, 3, 3)),
    "Conv with auto_pad": _conv('kernel_shape=[3,3], auto_pad="SAME_UPPER"', (12, 8, 3, 3)),
    "Conv over one axis": _conv("kernel_shape=[3], pads=[1,1]", (12, 8, 3), inputs={"x": (1, 8, 64)}),
    "Conv with computed weights": ProbeNet(f"k = Tanh(z) y = Conv<{PAD1}>(x, k)",
                                           {"x": (1, 8, 16, 16), "z": (12, 8, 3, 3)}),
    "ConvTranspose 2x2 stride 2": _conv("kernel_shape=[2,2], strides=[2,2]", (8, 6, 2, 2), operator="ConvTranspose"),
    "ConvTranspose 3x3 stride 2": _conv(f"{PAD1}, strides=[2,2], output_padding=[1,1]", (8, 6, 3, 3),
                                        operator="ConvTranspose"),
    "ConvTranspose 4x4 stride 2": _conv(UP2, (8, 6, 4, 4), operator="ConvTranspose"),
    "ConvTranspose 9x9 stride 4": _conv(UP4, (8, 3, 9, 9), operator="ConvTranspose"),
    "ConvTranspose grouped": _conv(f"{UP2}, group=8", (8, 1, 4, 4), operator="ConvTranspose"),
    "Conv 1x1 that repeats channels": ProbeNet(
        f'a = Conv<kernel_shape=[1,1]>(x, ones) c = Conv<{PAD1}>(x, k) s = Add(a, c) '
        'y = DepthToSpace<blocksize=2, mode="CRD">(s)', {"x": (1, 3, 16, 16)}, low=0, high=255, constants={
            "ones": np.repeat(np.eye(3, dtype=np.float32), 4, 0).reshape(12, 3, 1, 1),
            "k": np.random.default_rng(SEED).normal(0, 0.02, (12, 3, 3, 3)).astype(np.float32)}),
    # Activations
    **_same("Relu", "Sigmoid", "Tanh", "Elu", "Selu", "Softplus", "Erf", "Abs", "Neg", "Exp"),
    **_same("HardSwish", opset=14),
    **_same("Mish", opset=18),
    **_same("Log", "Sqrt", "Reciprocal", low=0.2),
    "HardSigmoid": ProbeNet("y = HardSigmoid<alpha=0.16666667>(x)"),
    "HardSigmoid of another alpha": ProbeNet("y = HardSigmoid(x)"),
    "LeakyRelu": ProbeNet("y = LeakyRelu<alpha=0.1>(x)"),
    "PRelu": ProbeNet("y = PRelu(x, s)", constants={"s": np.linspace(0.1, 0.4, 8, dtype=np.float32).reshape(8, 1, 1)}),
    "Erf in a GELU": ProbeNet("a = Div(x, root) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, half)",
                              constants={"root": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)}),
    "Sigmoid in a SiLU": ProbeNet("s = Sigmoid(x) y = Mul(x, s)"),
    "Clip": ProbeNet(CLIP.replace("c,", "x,"), constants=BOUNDS),
    "Clip after Conv": _conv(PAD1, (12, 8, 3, 3), CLIP, constants=WIDE),
    "Clip after ConvTranspose": _conv(UP2, (8, 6, 4, 4), CLIP, "ConvTranspose", constants=WIDE),
    "Clip after Add": ProbeNet("c = Add(x, z) " + CLIP, {"x": (1, 8, 16, 16), "z": (1, 8, 16, 16)}, constants=BOUNDS),
    "Clip after DepthToSpace": ProbeNet('c = DepthToSpace<blocksize=2, mode="CRD">(x) ' + CLIP, constants=BOUNDS),
    "Relu after Conv": _conv(PAD1, (12, 8, 3, 3), "y = Relu(c)"),
    "Relu after ConvTranspose": _conv(UP2, (8, 6, 4, 4), "y = Relu(c)", "ConvTranspose"),
    "Relu after Add": ProbeNet("c = Add(x, z) y = Relu(c)", {"x": (1, 8, 16, 16), "z": (1, 8, 16, 16)}),
    "LeakyRelu after Conv": _conv(PAD1, (12, 8, 3, 3), "y = LeakyRelu<alpha=0.1>(c)"),
    # Arithmetic
    **_binary("Add"), **_binary("Sub"), **_binary("Mul"), **_binary("Div"),
    **_binary("Min"), **_binary("Max"),
    "Pow 2": ProbeNet("y = Pow(x, p)", constants={"p": np.float32(2)}),
    "Pow 0.5": ProbeNet("y = Pow(x, p)", constants={"p": np.float32(0.5)}, low=0.2),
    "Where": ProbeNet("c = Greater(x, z) y = Where(c, x, z)", {"x": (1, 8, 16, 16), "z": (1, 8, 16, 16)}),
    "Greater": ProbeNet("c = Greater(x, z) y = Cast<to=1>(c)", {"x": (1, 8, 16, 16), "z": (1, 8, 16, 16)}),
    "Less": ProbeNet("c = Less(x, z) y = Cast<to=1>(c)", {"x": (1, 8, 16, 16), "z": (1, 8, 16, 16)}),
    "Cast": ProbeNet("i = Cast<to=6>(x) y = Cast<to=1>(i)", low=-50, high=50),
    "Not": ProbeNet("c = Less(x, s) d = Not(c) y = Cast<to=1>(d)", constants={"s": np.float32(0.3)}),
    "Equal": ProbeNet("r = Floor(x) c = Equal(r, s) y = Cast<to=1>(c)", constants={"s": np.float32(1)}),
    **_same("Round", "Floor", "Ceil", "Sign"),
    # Shapes
    "Concat axis 1": ProbeNet("a = Abs(x) y = Concat<axis=1>(x, a, x)"),
    "Concat axis 3": ProbeNet("a = Abs(x) y = Concat<axis=3>(x, a)"),
    "Slice axis 1": ProbeNet("y = Slice(x, a, b, c)", constants={"a": _ints(2), "b": _ints(5), "c": _ints(1)}),
    "Slice axis 3": ProbeNet("y = Slice(x, a, b, c)", constants={"a": _ints(2), "b": _ints(9), "c": _ints(3)}),
    "Slice with steps": ProbeNet("y = Slice(x, a, b, c, d)", constants={
        "a": _ints(0, 1), "b": _ints(16, 16), "c": _ints(2, 3), "d": _ints(2, 2)}),
    "Slice with negative steps": ProbeNet("y = Slice(x, a, b, c, d)", constants={
        "a": _ints(15), "b": _ints(-17), "c": _ints(3), "d": _ints(-1)}),
    "Split axis 1": ProbeNet("a, b = Split<axis=1>(x) y = Sub(b, a)"),
    "DepthToSpace CRD": ProbeNet('y = DepthToSpace<blocksize=2, mode="CRD">(x)', {"x": (1, 12, 16, 16)}),
    "DepthToSpace DCR": ProbeNet('y = DepthToSpace<blocksize=2, mode="DCR">(x)', {"x": (1, 12, 16, 16)}),
    "DepthToSpace CRD by 4": ProbeNet('y = DepthToSpace<blocksize=4, mode="CRD">(x)', {"x": (1, 48, 16, 16)}),
    "DepthToSpace CRD by 3": ProbeNet('y = DepthToSpace<blocksize=3, mode="CRD">(x)', {"x": (1, 27, 16, 16)}),
    "SpaceToDepth": ProbeNet("y = SpaceToDepth<blocksize=2>(x)"),
    "Reshape": ProbeNet("y = Reshape(x, s)", constants={"s": _ints(1, 8, 256)}),
    "Flatten": ProbeNet("y = Flatten(x)"),
    "Unsqueeze": ProbeNet("y = Unsqueeze(x, a)", constants={"a": _ints(2)}),
    "Tile": ProbeNet("y = Tile(x, r)", constants={"r": _ints(1, 2, 1, 1)}),
    "Expand": ProbeNet("y = Expand(x, s)", {"x": (1, 8, 1, 1)}, constants={"s": _ints(1, 8, 16, 16)}),
    "Gather axis 1": ProbeNet("y = Gather<axis=1>(x, i)", constants={"i": _ints(0, 0, 3, 1)}),
    **_permuted((0, 2, 3, 1), (1, 8, 16, 16)), **_permuted((0, 3, 1, 2), (1, 16, 16, 8)),
    **_permuted((0, 2, 1), ROWS), **_permuted((0, 2, 1, 3), (1, 8, 16, 16)), **_permuted((0, 1, 3, 2), (1, 8, 16, 16)),
    **_permuted((0, 1, 3, 2, 4), (1, 8, 2, 8, 8)), **_permuted((0, 1, 3, 2, 4, 5), (1, 2, 4, 2, 4, 8)),
    **_permuted((2, 0, 3, 1, 4), (1, 16, 3, 2, 8)),
    "Transpose 0,1,4,2,5,3": ProbeNet("a = Reshape(x, s) b = Transpose<perm=[0,1,4,2,5,3]>(a) y = Reshape(b, t)",
                                      {"x": (1, 12, 16, 16)},
                                      constants={"s": _ints(1, 3, 2, 2, 16, 16), "t": _ints(1, 3, 32, 32)}),
    "Transpose 0,3,4,1,5,2": ProbeNet("a = Reshape(x, s) b = Transpose<perm=[0,3,4,1,5,2]>(a) y = Reshape(b, t)",
                                      {"x": (1, 12, 16, 16)},
                                      constants={"s": _ints(1, 2, 2, 3, 16, 16), "t": _ints(1, 3, 32, 32)}),
    "Pad constant": ProbeNet("y = Pad(x, p)", constants={"p": _ints(0, 0, 2, 1, 0, 0, 1, 2)}),
    "Pad edge": ProbeNet('y = Pad<mode="edge">(x, p)', constants={"p": _ints(0, 0, 2, 1, 0, 0, 1, 2)}),
    "Pad reflect": ProbeNet('y = Pad<mode="reflect">(x, p)', constants={"p": _ints(0, 0, 2, 1, 0, 0, 1, 2)}),
    # Interpolation
    "Resize nearest asymmetric floor": _resize('mode="nearest", coordinate_transformation_mode="asymmetric", '
                                               'nearest_mode="floor"'),
    "Resize nearest half_pixel round_prefer_floor": _resize('mode="nearest"'),
    "Resize linear half_pixel": _resize('mode="linear"'),
    "Resize linear pytorch_half_pixel": _resize('mode="linear", coordinate_transformation_mode="pytorch_half_pixel"'),
    "Resize linear align_corners": _resize('mode="linear", coordinate_transformation_mode="align_corners"'),
    "Resize linear asymmetric": _resize('mode="linear", coordinate_transformation_mode="asymmetric"'),
    "Resize cubic half_pixel": _resize('mode="cubic", cubic_coeff_a=-0.75'),
    "Resize cubic pytorch_half_pixel": _resize('mode="cubic", coordinate_transformation_mode="pytorch_half_pixel"'),
    "Resize cubic align_corners": _resize('mode="cubic", coordinate_transformation_mode="align_corners"'),
    "Resize by 4": _resize('mode="linear"', (1, 1, 4, 4)),
    "Resize by a fraction": _resize('mode="linear"', (1, 1, 1.5, 1.5)),
    "Resize to less": _resize('mode="linear"', (1, 1, 0.5, 0.5)),
    "Resize nearest to less": _resize('mode="nearest", coordinate_transformation_mode="asymmetric", '
                                      'nearest_mode="floor"', (1, 1, 0.5, 0.5)),
    "Upsample nearest": ProbeNet('y = Upsample<mode="nearest">(x, s)', opset=9,
                                 constants={"s": np.array([1, 1, 2, 2], np.float32)}),
    "Upsample linear": ProbeNet('y = Upsample<mode="linear">(x, s)', opset=9,
                                constants={"s": np.array([1, 1, 2, 2], np.float32)}),
    "GridSample": ProbeNet("t = Tanh(z) y = GridSample<align_corners=1>(x, t)",
                           {"x": (1, 8, 16, 16), "z": (1, 16, 16, 2)}, opset=16),
    # Pooling, reduction, normalisation, products
    "GlobalAveragePool": ProbeNet("y = GlobalAveragePool(x)"),
    "AveragePool": ProbeNet("y = AveragePool<kernel_shape=[2,2], strides=[2,2]>(x)"),
    "MaxPool": ProbeNet("y = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x)"),
    "ReduceMean axes 2,3": _tail("ReduceMean"), "ReduceMax axes 2,3": _tail("ReduceMax"),
    "ReduceMean axis 1": ProbeNet("y = ReduceMean<axes=[1], keepdims=1>(x)"),
    "ReduceMean last axis": ProbeNet("y = ReduceMean<axes=[-1], keepdims=1>(x)", {"x": ROWS}),
    "ReduceSum axes 2,3": ProbeNet("y = ReduceSum<keepdims=1>(x, a)", constants={"a": _ints(2, 3)}),
    "BatchNormalization": ProbeNet("y = BatchNormalization(x, g, b, m, v)", weights={"g": (8,), "b": (8,), "m": (8,)},
                                   constants={"v": np.linspace(0.5, 2, 8, dtype=np.float32)}),
    "InstanceNormalization": ProbeNet("y = InstanceNormalization(x, g, b)", weights={"g": (8,), "b": (8,)}),
    "LayerNormalization": ProbeNet("y = LayerNormalization<axis=-1>(x, g, b)", {"x": ROWS}, {"g": (16,), "b": (16,)},
                                   opset=17),
    "GroupNormalization": ProbeNet("y = GroupNormalization<num_groups=2>(x, g, b)",
                                   weights={"g": (8,), "b": (8,)}, opset=21),
    "Softmax last axis": ProbeNet("y = Softmax<axis=-1>(x)", {"x": (1, 2, 16, 16)}),
    "Softmax axis 1": ProbeNet("y = Softmax<axis=1>(x)"),
    "MatMul by a constant": ProbeNet("y = MatMul(x, w)", {"x": ROWS}, {"w": (16, 24)}),
    "MatMul of two tensors": ProbeNet("y = MatMul(x, z)", {"x": (1, 2, 16, 8), "z": (1, 2, 8, 16)}),
    "Gemm": ProbeNet("y = Gemm<transB=1>(x, w, b)", {"x": (1, 16)}, {"w": (24, 16), "b": (24,)}),
    "Einsum bhwc,cd->bhwd": ProbeNet('y = Einsum<equation="bhwc,cd->bhwd">(x, w)', {"x": (1, 16, 16, 8)},
                                     {"w": (8, 12)}),
    "Einsum bchw,bc->bhw": ProbeNet('y = Einsum<equation="bchw,bc->bhw">(x, z)', {"x": (1, 8, 16, 16), "z": (1, 8)}),
    "TopK": ProbeNet("y, i = TopK<axis=-1>(x, k)", {"x": ROWS}, constants={"k": _ints(4)}),
    "QuantizeLinear": ProbeNet("q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)",
                               constants={"s": np.float32(2 / 127), "z": np.int8(0)}),
    # Inputs
    "Input uint8": ProbeNet("y = Cast<to=1>(x)", {"x": (1, 3, 16, 16)}, low=0, high=255, type="uint8"),
    "Input float16": ProbeNet("f = Cast<to=1>(x) y = Abs(f)", type="float16"),
    "Input double": ProbeNet("f = Cast<to=1>(x) y = Abs(f)", type="double"),
    "Input int64": ProbeNet("f = Cast<to=1>(x) y = Abs(f)", low=-100, high=100, type="int64"),
    "Input of batch 4": ProbeNet(f"y = Conv<{PAD1}>(x, w)", {"x": (4, 8, 16, 16)}, {"w": (12, 8, 3, 3)}),
    "Input of 5 axes": ProbeNet("y = Abs(x)", {"x": (1, 3, 4, 16, 16)}),
    "Input of 3 axes": ProbeNet("y = Abs(x)", {"x": ROWS}),
    "Input of 2 axes": ProbeNet("y = Abs(x)", {"x": (16, 16)}),
}  # fmt: skip
"""By aspect."""
