"""From weights to a checkpoint folder, and back through every reader of it."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.torch
import torch

from arm_sr.errors import ArtefactError
from arm_sr.models import ModelCard
from arm_sr.supernet.backbones import Supernet, build
from arm_sr.supernet.export import EightBit, onnx_bytes, write_checkpoint
from arm_sr.training.config import Recipe, Stage

SUBNETS = {"w4": (4, 1), "w8": (8, 2)}
RECIPE = Recipe(name="export-x2", backbone="plain", scale=2, subnets=SUBNETS, stages=(Stage(steps=1),))
SOURCES = [{"source": "nowhere", "licence": "CC0", "images": 3}]

Checkpoint = tuple[Supernet, ModelCard]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A random network, and the card that was returned for its folder."""
    torch.manual_seed(3)
    net = build(RECIPE.backbone, RECIPE.scale, RECIPE.subnets)
    with torch.no_grad():
        for p in (net.tail.weight, *(p for p in net.parameters() if p.ndim == 1)):
            p.normal_(std=0.03)
    return net, write_checkpoint(net, RECIPE, SOURCES, tmp_path_factory.mktemp("runs") / "new" / "export-x2")


@pytest.fixture
def folder(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    """A copy of the checkpoint that a test may damage."""
    return Path(shutil.copytree(checkpoint[1].folder, tmp_path / "model"))


def crops(photo: np.ndarray) -> list[np.ndarray]:
    """Batches of real pictures, (N, H, W, 3)."""
    sizes = [(1, 1), (1, 17), (16, 1), (2, 3), (24, 24), (37, 50)]
    single = [np.ascontiguousarray(photo[None, 90 : 90 + h, 200 : 200 + w]) for h, w in sizes]
    return [*single, np.stack([photo[y : y + 20, y : y + 33] for y in (0, 150, 300)])]


def levels_apart(first: np.ndarray, second: np.ndarray) -> int:
    """Largest difference of two uint8 pictures of one shape."""
    assert (first.dtype, first.shape) == (second.dtype, second.shape) and first.dtype == np.uint8
    return int(np.abs(first.astype(int) - second).max())


def test_the_folder_has_the_card_and_the_files_it_names(checkpoint):
    """And nothing else, no temporary file in particular."""
    _, card = checkpoint
    onnx_files = {"w4.onnx", "w8.onnx", "w4.planes.onnx", "w8.planes.onnx"}
    expected = {"model.json", "recipe.json", "supernet.safetensors"} | onnx_files
    assert expected == {file.name for file in card.folder.iterdir()}
    assert list(card.subnets) == ["w4", "w8"]
    assert list(card.branches) == ["bicubic", "w4", "w8"]


def test_the_card_reads_back_as_it_was_returned(checkpoint):
    """Field by field, the recipe and the sources among them."""
    _, card = checkpoint
    again = ModelCard.load(card.folder)
    assert card == again
    assert card.to_json() == again.to_json() == (card.folder / "model.json").read_text()
    assert again.training["data"] == SOURCES


def test_the_recipe_beside_the_card_is_the_one_trained(checkpoint):
    """In the file, and inside the card."""
    _, card = checkpoint
    assert Recipe.load(card.folder / "recipe.json") == RECIPE
    assert json.loads(RECIPE.to_json()) == card.training["recipe"]


def test_hashes_are_those_of_the_files(checkpoint):
    """SHA-256 of both files of every sub-net and of the supernet."""
    _, card = checkpoint
    named = {card.supernet["file"]: card.supernet["sha256"]} | {s.file: s.sha256 for s in card.subnets.values()}
    named |= {s.planes: s.planes_sha256 for s in card.subnets.values()}
    assert named == {file: hashlib.sha256((card.folder / file).read_bytes()).hexdigest() for file in named}


def test_the_card_describes_each_subnet(checkpoint):
    """Shape, weights, MACs and radius, by hand."""
    _, card = checkpoint
    for name, (width, depth) in SUBNETS.items():
        subnet = card.subnets[name]
        assert 27 * width + width + depth * (9 * width**2 + width) + 12 * 9 * width + 12 == subnet.params
        assert 9 * (3 * width + depth * width**2 + width * 12) == subnet.macs_per_lr_pixel
        assert (width, depth, depth + 2) == (subnet.width, subnet.depth, subnet.receptive_radius)
    assert (card.scale, card.backbone, card.halo) == (2, "plain", 3)


def test_a_halo_is_never_wider_than_the_receptive_field(tmp_path):
    """Context that cannot change an output is no use."""
    net = build("plain", 2, {"w4": (4, 0)})
    assert net.receptive_radius == 2 == write_checkpoint(net, RECIPE, SOURCES, tmp_path).halo


def test_the_weights_build_the_supernet_again(checkpoint, photo):
    """From what the card says alone."""
    net, card = checkpoint
    again = build(card.backbone, card.scale, {name: (s.width, s.depth) for name, s in card.subnets.items()})
    again.load_state_dict(safetensors.torch.load_file(card.folder / card.supernet["file"]))
    x = torch.from_numpy(photo[:16, :16]).permute(2, 0, 1)[None] / 255
    for shape in SUBNETS.values():
        assert torch.equal(net(x, *shape), again(x, *shape))


@pytest.mark.parametrize("name", SUBNETS)
def test_supernet_subnet_and_onnx_give_the_same_picture(checkpoint, photo, name):
    """Within one level of 8 bits, on crops of many sizes."""
    net, card = checkpoint
    subnet = EightBit(net.subnet(name))
    session = onnxruntime.InferenceSession(card.subnet_bytes(name), providers=["CPUExecutionProvider"])
    for batch in crops(photo):
        with torch.no_grad():
            sr = net(torch.from_numpy(batch).permute(0, 3, 1, 2) / 255, *SUBNETS[name]).permute(0, 2, 3, 1)
            torch_sr = subnet(torch.from_numpy(batch)).numpy()
        expected = np.clip(np.rint(sr.numpy() * 255), 0, 255).astype(np.uint8)
        n, h, w, _ = batch.shape
        assert (n, 2 * h, 2 * w, 3) == expected.shape
        assert levels_apart(expected, torch_sr) <= 1
        assert levels_apart(expected, session.run(None, {"lr": batch})[0]) <= 1


def test_the_sub_nets_give_different_pictures(checkpoint, photo):
    """Or the test above would compare nothing."""
    net, _ = checkpoint
    batch = torch.from_numpy(photo[None, :40, 200:240].copy())
    small, large = (EightBit(net.subnet(name))(batch).numpy() for name in SUBNETS)
    assert levels_apart(small, large) > 1


def test_values_beyond_8_bits_are_clipped():
    """To 0 and 255, and the others rounded, before the cast that would wrap and cut them."""

    class Fixed(torch.nn.Module):
        scale, has_planes = 1, True

        def sub_pixels(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tensor([-0.5, 1.6 / 255, 300.0]).reshape(1, 1, 3, 1, 1)

    assert EightBit(Fixed())(torch.zeros(1, 1, 1, 3, dtype=torch.uint8)).flatten().tolist() == [0, 2, 255]


def test_engines_clip_and_round_alike():
    """From one end of the levels to the other, in torch and as exported."""

    class Steep(torch.nn.Module):
        scale, has_planes = 1, True

        def sub_pixels(self, x: torch.Tensor) -> torch.Tensor:
            return 2.3 * x[:, None] - 0.9

    levels = np.arange(256, dtype=np.uint8)[None, None, :, None].repeat(3, axis=3)
    expected = np.clip(np.rint(2.3 * levels.astype(float) - 0.9 * 255), 0, 255)
    session = onnxruntime.InferenceSession(onnx_bytes(Steep()), providers=["CPUExecutionProvider"])
    for sr in (EightBit(Steep())(torch.from_numpy(levels)).numpy(), session.run(None, {"lr": levels})[0]):
        assert levels_apart(expected.astype(np.uint8), sr) <= 1
        assert {0, 255} <= set(sr.ravel().tolist()) and len(np.unique(sr)) > 100


@pytest.mark.parametrize("name", SUBNETS)
def test_the_onnx_interface_is_uint8_nhwc_of_any_size(checkpoint, name):
    """One input `lr` and one output `sr`; batch, height and width are free, and no node is unknown to ONNX."""
    _, card = checkpoint
    model = onnx.load_from_string(card.subnet_bytes(name))
    onnx.checker.check_model(model, full_check=True)
    assert ([v.name for v in model.graph.input], [v.name for v in model.graph.output]) == (["lr"], ["sr"])
    for value in (*model.graph.input, *model.graph.output):
        tensor = value.type.tensor_type
        assert tensor.elem_type == onnx.TensorProto.UINT8
        assert len(tensor.shape.dim) == 4
        assert all(dim.dim_param and not dim.dim_value for dim in tensor.shape.dim[:3])
    assert model.graph.input[0].type.tensor_type.shape.dim[3].dim_value == 3


@pytest.mark.parametrize("name", SUBNETS)
def test_the_planes_are_the_sub_pixels_of_any_size(checkpoint, name):
    """One picture of floats, with operators that every importer knows: no size is computed in the graph."""
    net, card = checkpoint
    file = card.planes_file(name)
    operators = {node.op_type for node in onnx.load(file).graph.node}
    assert operators <= {"Conv", "Relu", "Concat", "Add", "Identity"}
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    for height, width in ((1, 1), (9, 14)):
        x = torch.rand(1, 3, height, width)
        with torch.no_grad():
            expected = net.subnet(name).sub_pixels(x).flatten(1, 2)
        assert np.allclose(expected, session.run(None, {"lr": x.numpy()})[0], atol=1e-5)


def test_damaged_planes_are_refused_by_name(folder):
    """The sub-net itself stays usable."""
    card = ModelCard.load(folder)
    (folder / "w4.planes.onnx").write_bytes(b"")
    with pytest.raises(ArtefactError, match=str(folder / "w4.planes.onnx")):
        card.planes_file("w4")
    assert card.subnet_bytes("w4")


def test_a_model_of_an_earlier_version_has_no_planes(folder):
    """It reads all the same, and says why."""
    data = json.loads((folder / "model.json").read_text())
    for subnet in data["subnets"].values():
        del subnet["planes"], subnet["planes_sha256"]
    (folder / "model.json").write_text(json.dumps(data))
    card = ModelCard.load(folder)
    assert card.subnet_bytes("w4")
    with pytest.raises(ArtefactError, match=r"model\.json: 'w4' has no planes: .*an earlier version exported it"):
        card.planes_file("w4")


@pytest.mark.parametrize("name", SUBNETS)
def test_every_convolution_has_constant_weights(checkpoint, name):
    """Engines arrange those beforehand; weights that are cut at run time took half as long again."""
    graph = onnx.load_from_string(checkpoint[1].subnet_bytes(name)).graph
    constant = {weight.name for weight in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == SUBNETS[name][1] + 2
    assert {source for node in convolutions for source in node.input[1:]} <= constant


@pytest.mark.parametrize("offset", [0, 1000, -1])
def test_a_file_changed_by_one_byte_is_refused_by_name(folder, offset):
    """Wherever the byte is; the other file stays usable."""
    card = ModelCard.load(folder)
    data = bytearray((folder / "w4.onnx").read_bytes())
    data[offset] ^= 1
    (folder / "w4.onnx").write_bytes(data)
    with pytest.raises(ArtefactError, match=str(folder / "w4.onnx")):
        card.subnet_bytes("w4")
    assert (folder / "w8.onnx").read_bytes() == card.subnet_bytes("w8")


def test_a_missing_subnet_file_is_refused_by_name(folder):
    """The card reads all the same: files are opened when they are needed."""
    (folder / "w8.onnx").unlink()
    with pytest.raises(ArtefactError, match=str(folder / "w8.onnx")):
        ModelCard.load(folder).subnet_bytes("w8")


def test_a_folder_without_card_is_no_model(folder):
    """The message names the file that should be there."""
    (folder / "model.json").unlink()
    with pytest.raises(ArtefactError, match=str(folder / "model.json")):
        ModelCard.load(folder)


@pytest.mark.parametrize(
    "field",
    ["name", "scale", "backbone", "halo", "subnets", "supernet", "training", "subnets/w4/sha256", "subnets/w4/depth"],
)
def test_a_card_without_a_field_is_refused_by_name(folder, field):
    """The message names the file and the field."""
    data = json.loads((folder / "model.json").read_text())
    *path, last = field.split("/")
    place = data
    for key in path:
        place = place[key]
    del place[last]
    (folder / "model.json").write_text(json.dumps(data))
    with pytest.raises(ArtefactError, match=rf"{folder}/model\.json.*'{last}'"):
        ModelCard.load(folder)


@pytest.mark.parametrize(
    "change",
    [
        [],
        "text",
        None,
        3,
        {"subnets": []},
        {"subnets": None},
        {"subnets": {}},
        {"subnets": {"w4": 4}},
        {"subnets": {"w4": {"width": 4}}},
        {"subnets": "bicubic"},
        {"surprise": 1},
        {"config": {"scale": 2, "widths": [4, 8], "depth": 2}},
    ],
)
def test_a_card_of_the_wrong_shape_is_refused_by_name(folder, change):
    """Valid JSON that is no card."""
    data = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(data | change if isinstance(change, dict) else change))
    with pytest.raises(ArtefactError, match=str(folder / "model.json")):
        ModelCard.load(folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [("width", 0), ("width", "4"), ("depth", -1), ("depth", 1.5), ("depth", None), ("params", 0), ("sha256", 7)],
)
def test_a_wrong_number_of_a_subnet_is_refused_by_name(folder, field, value):
    """The message names the file and the field."""
    data = json.loads((folder / "model.json").read_text())
    data["subnets"]["w4"][field] = value
    (folder / "model.json").write_text(json.dumps(data))
    with pytest.raises(ArtefactError, match=rf"{folder}/model\.json: .*{field}"):
        ModelCard.load(folder)


def test_a_card_cut_anywhere_is_refused_by_name(folder):
    """As a copy that was interrupted leaves it."""
    text = (folder / "model.json").read_bytes().rstrip()
    for length in range(0, len(text), 97):
        (folder / "model.json").write_bytes(text[:length])
        with pytest.raises(ArtefactError, match=str(folder / "model.json")):
            ModelCard.load(folder)


def test_a_card_that_is_no_text_is_refused_by_name(folder):
    """Bytes that are not UTF-8."""
    (folder / "model.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(ArtefactError, match=str(folder / "model.json")):
        ModelCard.load(folder)
