"""The graphs for the compiler are the sub-nets and the interpolation of everybody else."""

from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest

from arm_sr.errors import ArtefactError, ModelError
from arm_sr.models import ModelCard
from arm_sr.supernet.backbones import build
from arm_sr.supernet.export import load_supernet
from arm_sr.tpu.gate import reference
from arm_sr.tpu.graph import bicubic_graph, subnet_graph


def levels(first: np.ndarray, second: np.ndarray) -> int:
    return int(np.abs(first.astype(int) - second).max())


@pytest.mark.parametrize("branch", ["w4", "w8"])
def test_a_subnet_is_the_one_of_the_card(tiny_model: Path, photo: np.ndarray, branch: str) -> None:
    card = ModelCard.load(tiny_model)
    tile = photo[None, 100:124, 200:232]
    graph = subnet_graph(load_supernet(card).subnet(branch), (24, 32))
    expected = onnxruntime.InferenceSession(card.subnet_bytes(branch)).run(None, {"lr": tile})[0]
    assert levels(reference(graph.SerializeToString())(tile), expected) <= 1


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_is_that_of_opencv(photo: np.ndarray, scale: int) -> None:
    tile = photo[100:124, 200:232]
    graph = bicubic_graph(scale, (24, 32)).SerializeToString()
    expected = cv2.resize(tile, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    assert levels(reference(graph)(tile[None])[0], expected) <= 1


def test_operators_are_those_that_the_chips_compute_right(tiny_model: Path) -> None:
    graph = subnet_graph(load_supernet(ModelCard.load(tiny_model)).subnet("w8"), (16, 16))
    used = {node.op_type for node in graph.graph.node}
    assert {"Conv", "Relu", "Slice", "Concat", "Add", "DepthToSpace", "Clip"} == used
    assert [1, 3, 16, 16] == [side.dim_value for side in graph.graph.input[0].type.tensor_type.shape.dim]
    onnx.checker.check_model(graph, full_check=True)


def test_other_backbones_are_refused() -> None:
    with pytest.raises(ModelError, match="Fsrcnn cannot be compiled"):
        subnet_graph(build("fsrcnn", 2, {"w8": (8, 1)}), (16, 16))


def test_weights_that_are_not_those_of_the_card(tiny_model: Path, tmp_path: Path) -> None:
    for file in tiny_model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "supernet.safetensors").write_bytes(b"something else")
    with pytest.raises(ArtefactError, match="sha256"):
        load_supernet(ModelCard.load(tmp_path))
