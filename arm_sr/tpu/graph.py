"""Networks as the TPU's compiler likes them: static shapes, 8-bit levels in and out, few kinds of operators.

Input `lr` and output `sr` are RGB in 0..255, float32, (1, 3, H, W) and (1, 3, scale * H, scale * W), the output clipped
and not rounded. The division by 255 is in the first convolution and its opposite in the last one. The anchor is
repeated by Slice and Concat, added, arranged and clipped by nodes of their own: a 1x1 convolution instead, or a clip
fused into what is before, is computed wrongly in INT8 on some chips.
"""

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ..errors import ModelError
from ..imaging.resample import cubic_kernel
from ..supernet.backbones import Supernet
from ..supernet.backbones.plain import Plain
from ..supernet.layers import USConv2d

OPSET = 13
"""Of ONNX; the compiler's own version of it knows no later one in all operators."""
IR_VERSION = 8
A = -0.75
"""Of the cubic kernel, as OpenCV's interpolation has it."""


def subnet_graph(net: Supernet, tile: tuple[int, int]) -> ModelProto:
    """A sub-net for pictures of one shape.

    Args:
        net: one sub-net, as of `Supernet.subnet`; ModelError for a backbone other than `plain`.
        tile: height and width in LR pixels.
    """
    if not isinstance(net, Plain):
        raise ModelError(f"a {type(net).__name__} cannot be compiled for a TPU, only the backbone plain")
    layers = [("head", net.head), *((f"body.{i}", conv) for i, conv in enumerate(_body(net))), ("tail", net.tail)]
    nodes: list[NodeProto] = []
    weights: dict[str, np.ndarray] = {}
    last = "lr"
    for name, conv in layers:
        weight, bias = conv.weight.detach().numpy().copy(), conv.get_parameter("bias").detach().numpy().copy()
        if name == "head":
            weight /= 255
        if name == "tail":
            # Channels by colour and then by sub-pixel, as PixelShuffle takes them.
            order = np.arange(3 * net.scale**2).reshape(net.scale**2, 3).T.ravel()
            weight, bias = 255 * weight[order], 255 * bias[order]
        weights |= {f"{name}.weight": weight, f"{name}.bias": bias}
        inputs = [last, f"{name}.weight", f"{name}.bias"]
        nodes.append(helper.make_node("Conv", inputs, [name], name, kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
        last = name
        if name != "tail":
            nodes.append(helper.make_node("Relu", [name], [f"{name}.relu"], f"{name}.relu"))
            last = f"{name}.relu"
    for number, colour in enumerate("rgb"):
        weights |= {f"{colour}.{end}": np.array([value]) for end, value in (("from", number), ("to", number + 1))}
        inputs = ["lr", f"{colour}.from", f"{colour}.to", "channels"]
        nodes.append(helper.make_node("Slice", inputs, [f"anchor.{colour}"], f"anchor.{colour}"))
    weights["channels"] = np.array([1])
    repeated = [f"anchor.{colour}" for colour in "rgb" for _ in range(net.scale**2)]
    nodes.append(helper.make_node("Concat", repeated, ["anchor"], "anchor", axis=1))
    nodes.append(helper.make_node("Add", ["tail", "anchor"], ["sub_pixels"], "sub_pixels"))
    return _model("sub_pixels", nodes, weights, net.scale, tile)


def _body(net: Plain) -> list[USConv2d]:
    return [conv for conv in net.body if isinstance(conv, USConv2d)]


def bicubic_graph(scale: int, tile: tuple[int, int]) -> ModelProto:
    """Cubic interpolation of pictures of one shape, as OpenCV's, but not rounded on the way.

    The compiler takes a Resize for linear, so it is a 5x5 convolution of each colour on a picture whose border is
    repeated, and a PixelShuffle.
    """
    offsets = (np.arange(scale) + 0.5) / scale - 0.5
    taps = cubic_kernel(np.arange(-2, 3) - offsets[:, None], A)
    kernels = np.einsum("iy,jx->ijyx", taps, taps).reshape(scale**2, 1, 5, 5)
    weights = {
        "kernels": np.tile(kernels, (3, 1, 1, 1)).astype(np.float32),
        "border": np.array([0, 0, 2, 2, 0, 0, 2, 2]),
    }
    nodes = [
        helper.make_node("Pad", ["lr", "border"], ["bordered"], "bordered", mode="edge"),
        helper.make_node("Conv", ["bordered", "kernels"], ["sub_pixels"], "sub_pixels", kernel_shape=[5, 5], group=3),
    ]
    return _model("sub_pixels", nodes, weights, scale, tile)


def _model(last: str, nodes: list[NodeProto], weights: dict[str, np.ndarray], scale: int,
           tile: tuple[int, int]) -> ModelProto:  # fmt: skip
    """`nodes` followed by what every network ends with."""
    (height, width), level = tile, np.float32
    weights |= {"black": np.array(0, level), "white": np.array(255, level)}
    nodes += [
        helper.make_node("DepthToSpace", [last], ["picture"], "picture", blocksize=scale, mode="CRD"),
        helper.make_node("Clip", ["picture", "black", "white"], ["sr"], "sr"),
    ]
    graph = helper.make_graph(
        nodes,
        "arm_sr",
        [helper.make_tensor_value_info("lr", TensorProto.FLOAT, [1, 3, height, width])],
        [helper.make_tensor_value_info("sr", TensorProto.FLOAT, [1, 3, scale * height, scale * width])],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return model
