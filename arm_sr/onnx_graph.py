"""ONNX super-resolution networks as they come, behind the interface of a branch.

They have one input and one output of four axes; what a file does not say of them is measured in `adopt`.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, TensorProto, compose, helper, inliner, numpy_helper, version_converter

from .backends.onnx_runtime import session_options
from .backends.threads import allowed_threads
from .errors import ArtefactError

OPSET = 13
"""Of the operators around a network; older networks are converted to it."""
FLOATS = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16}
INDICES = (TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL)
"""Types of constants that are no weights."""
CONVOLUTIONS = {"Conv": 1, "ConvTranspose": 1, "ConvInteger": 1, "QLinearConv": 3}
"""Which input is the weight."""
PRODUCTS = ("MatMul", "Gemm", "MatMulInteger", "QLinearMatMul")
Layout = Literal["nchw", "nhwc"]


@dataclass(frozen=True)
class Interface:
    """How pictures go into a network and come out."""

    layout: Layout
    """Order of the axes."""
    white: int
    """Its value: 1 or 255; 255 for uint8."""


@dataclass(frozen=True)
class Counts:
    """What the layers with weights of a network cost for a picture."""

    params: int
    macs: int
    activations: int
    layers: int
    """Convolutions and matrix products."""
    width: int
    """The most channels that a layer puts out."""


class Network:
    """An ONNX file with one picture in and one out.

    Raises:
        ArtefactError: names the file and what does not fit.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.model = onnx.load(path)
            onnx.checker.check_model(self.model)
        except Exception as error:  # those of the parser, the checker and the system have no common base
            raise ArtefactError(f"{path}: not an ONNX model ({_first_line(error)})") from error
        self._upgrade()
        self._find_ends()
        self.type = self.source.type.tensor_type.elem_type
        if self.type not in (*FLOATS, TensorProto.UINT8):
            raise self.error(f"takes {TensorProto.DataType.Name(self.type)}, not float or uint8")
        if len(self.source.type.tensor_type.shape.dim) != 4:
            raise self.error("its input must have four axes: batch, channels, height and width")

    def error(self, what: str) -> ArtefactError:
        """An error that names the file."""
        return ArtefactError(f"{self.path}: {what}")

    def _upgrade(self) -> None:
        opset = next((each for each in self.model.opset_import if each.domain in ("", "ai.onnx")), None)
        if opset is not None and opset.version < OPSET:
            try:
                self.model = version_converter.convert_version(self.model, OPSET)
            except Exception as error:  # those of the converter have no common base
                what = f"opset {opset.version} cannot be converted to {OPSET}"
                raise self.error(f"{what} ({_first_line(error)})") from error

    def _find_ends(self) -> None:
        graph = self.model.graph
        weights = {tensor.name for tensor in graph.initializer}
        sources = [value for value in graph.input if value.name not in weights]
        if len(sources) != 1 or len(graph.output) != 1:
            raise self.error(f"needs one input and one output, not {len(sources)} and {len(graph.output)}")
        self.source, self.target = sources[0], graph.output[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the input, 0 where it is free: (4,)."""
        return tuple(dim.dim_value for dim in self.source.type.tensor_type.shape.dim)

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """Those that the input's shape allows; ArtefactError when it has no three channels."""
        places: dict[Layout, int] = {"nchw": 1, "nhwc": 3}
        sure = [layout for layout, axis in places.items() if self.shape[axis] == 3]
        found = sure or [layout for layout in places if not self.shape[1] and not self.shape[3]]
        if not found:
            raise self.error(f"its input of {list(self.shape)} has no three channels; networks must be for RGB")
        return tuple(found)

    def free(self) -> None:
        """Make batch, height, width and all shapes that follow free; whether it then runs must be seen."""
        for value, sides in ((self.source, self.shape), (self.target, None)):
            dims = value.type.tensor_type.shape.dim
            for axis, dim in enumerate(dims):
                if sides is None or axis == 0 or sides[axis] != 3:
                    dim.Clear()
                    dim.dim_param = f"{value.name}_{axis}"
        del self.model.graph.value_info[:]

    def restore(self, model: bytes) -> None:
        """The network as it was when it was written to `model`."""
        self.model.ParseFromString(model)
        self._find_ends()

    def run(self, batch: np.ndarray, interface: Interface) -> np.ndarray:
        """The network as it is, on uint8 RGB (N, H, W, 3): float32 (N, h, w, C) in 0..255, not rounded.

        Raises:
            ArtefactError: the engine refuses, and says why.
        """
        (y,) = self._outputs(self.model, batch, interface)
        if y.ndim != 4:
            raise self.error(f"puts out {y.ndim} axes, not a picture")
        y = y if interface.layout == "nhwc" else y.transpose(0, 2, 3, 1)
        return y.astype(np.float32) * (1 if y.dtype == np.uint8 else 255 / interface.white)

    def _outputs(self, model: ModelProto, batch: np.ndarray, interface: Interface) -> list[np.ndarray]:
        """What `model`, this network or one with further outputs, puts out for uint8 RGB (N, H, W, 3)."""
        x = batch if interface.layout == "nhwc" else batch.transpose(0, 3, 1, 2)
        if self.type != TensorProto.UINT8:
            x = (x.astype(np.float32) * (interface.white / 255)).astype(FLOATS[self.type])
        options = session_options(allowed_threads())
        options.log_severity_level = 4  # a shape that does not fit is an answer here
        try:
            data, providers = model.SerializeToString(), ["CPUExecutionProvider"]
            session = onnxruntime.InferenceSession(data, options, providers=providers)
            results: list[np.ndarray] = session.run(None, {self.source.name: np.ascontiguousarray(x)})
        except Exception as error:  # the engine's exceptions have no common base
            raise self.error(f"onnxruntime cannot run it ({_first_line(error)})") from error
        return results

    def count(self, batch: np.ndarray, interface: Interface) -> Counts:
        """What its convolutions and matrix products cost for pictures, uint8 (N, H, W, 3); ArtefactError when there are
        none."""
        model = inliner.inline_local_functions(self.model)
        layers = [node for node in model.graph.node if node.op_type in (*CONVOLUTIONS, *PRODUCTS)]
        if not layers:
            raise self.error("has no convolution and no matrix product, so that its cost cannot be counted")
        names = list(dict.fromkeys(name for node in layers for name in (*node.input, node.output[0]) if name))
        del model.graph.output[:]
        for number, name in enumerate(names):
            model.graph.node.append(helper.make_node("Shape", [name], [f"shape/{number}"]))
            model.graph.output.append(helper.make_empty_tensor_value_info(f"shape/{number}"))
        results = self._outputs(model, batch, interface)
        shapes = {name: tuple(int(side) for side in shape) for name, shape in zip(names, results, strict=True)}
        macs = activations = width = 0
        for node in layers:
            before, after = shapes[node.input[0]], shapes[node.output[0]]
            activations += math.prod(after)
            if node.op_type in CONVOLUTIONS:
                weight = shapes[node.input[CONVOLUTIONS[node.op_type]]]
                dense = before if node.op_type == "ConvTranspose" else after
                macs += math.prod(weight) * dense[0] * math.prod(dense[2:])
                width = max(width, after[1])
            else:
                turned = any(value.name == "transA" and value.i for value in node.attribute)
                macs += math.prod(after) * before[0 if turned else -1]
                width = max(width, after[-1])
        tensors = list(model.graph.initializer)
        constants = (node for node in model.graph.node if node.op_type == "Constant")
        tensors += [value.t for node in constants for value in node.attribute if value.name == "value"]
        params = sum(math.prod(tensor.dims) for tensor in tensors if tensor.data_type not in INDICES)
        return Counts(params, macs, activations, len(layers), width)

    def branch(self, interface: Interface, shape: tuple[int, int, int]) -> bytes:
        """The network with uint8 RGB in and out, (N, H, W, 3), as every branch: an ONNX model.

        Args:
            interface: of the network.
            shape: batch, height and width of the input, 0 where they are free.
        """
        inner = compose.add_prefix(self.model, "net/")
        inner.ir_version = max(inner.ir_version, 4)  # before, weights were inputs too
        graph, x, y = inner.graph, "net/" + self.source.name, "net/" + self.target.name
        kind = FLOATS.get(self.type)
        before, after = [], []
        last = "lr"
        if interface.layout == "nchw":
            before.append(helper.make_node("Transpose", [last], ["lr_planes"], perm=[0, 3, 1, 2]))
            last = "lr_planes"
        if kind is not None:
            before.append(helper.make_node("Cast", [last], ["lr_float"], to=self.type))
            share = numpy_helper.from_array(np.array(interface.white / 255, kind), "lr_share")
            graph.initializer.append(share)
            before.append(helper.make_node("Mul", ["lr_float", "lr_share"], [x]))
        else:
            before.append(helper.make_node("Identity", [last], [x]))
        last = y
        if self.target.type.tensor_type.elem_type != TensorProto.UINT8:
            after.append(helper.make_node("Cast", [last], ["sr_float"], to=TensorProto.FLOAT))
            step = numpy_helper.from_array(np.array(interface.white / 255, np.float32), "sr_step")
            graph.initializer.extend([step, numpy_helper.from_array(np.array(0, np.uint8), "sr_zero")])
            # Rounds half to even and clips.
            after.append(helper.make_node("QuantizeLinear", ["sr_float", "sr_step", "sr_zero"], ["sr_levels"]))
            last = "sr_levels"
        if interface.layout == "nchw":
            after.append(helper.make_node("Transpose", [last], ["sr"], perm=[0, 2, 3, 1]))
        else:
            after.append(helper.make_node("Identity", [last], ["sr"]))
        nodes = [*before, *graph.node, *after]
        del graph.node[:]
        graph.node.extend(nodes)
        del graph.input[:], graph.output[:]
        names = ("batch", "height", "width")
        sides = [side or name for side, name in zip(shape, names, strict=True)]
        graph.input.append(helper.make_tensor_value_info("lr", TensorProto.UINT8, [*sides, 3]))
        graph.output.append(helper.make_tensor_value_info("sr", TensorProto.UINT8, [None, None, None, 3]))
        return bytes(inner.SerializeToString())


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
