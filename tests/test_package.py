"""The package as a whole: public names, imports, shipped artefacts, packaging and the README's commands."""

import configparser
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import skimage.data
import torch

import arm_sr
from arm_sr import Upscaler
from arm_sr.cli import build_parser
from arm_sr.imaging.resample import lr_bicubic
from arm_sr.lut import EdgeTable
from arm_sr.models import list_models, load_model
from arm_sr.supernet.backbones import build
from arm_sr.supernet.export import EightBit, Quantise
from arm_sr.training.config import Recipe

ROOT = Path(__file__).parent.parent


def test_public_names_are_exactly_these() -> None:
    """Every name in __all__ exists, and every public name is in it."""
    assert [] == [name for name in arm_sr.__all__ if not hasattr(arm_sr, name)]
    homes = [name for names in arm_sr._HOMES.values() for name in names]
    assert sorted(homes) == sorted(arm_sr.__all__)
    with pytest.raises(AttributeError, match="no attribute 'upscail'"):
        arm_sr.upscail  # noqa: B018


def test_upscaling_imports_neither_torch_nor_onnx() -> None:
    """A whole upscale with a time budget and a heat map, in a fresh interpreter without them."""
    code = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'safetensors', 'matplotlib', 'skimage'): sys.modules[name] = None\n"
        "import numpy as np, arm_sr\n"
        "result = arm_sr.Upscaler('plain-x4').upscale(np.zeros((40, 40, 3), np.uint8), '40%')\n"
        "result.heatmap()\n"
        "import arm_sr.cli.upscale, arm_sr.imaging.io, arm_sr.evaluation.quality\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stderr)


@pytest.mark.parametrize("name", list_models())
def test_shipped_models_agree_with_their_weights(name: str) -> None:
    """ONNX, torch supernet and sliced module agree within one 8-bit level on real crops; the card's counts hold."""
    card = load_model(name)
    Recipe.load(card.folder / "recipe.json")
    supernet = build(card.backbone, card.scale, {name: (net.width, net.depth) for name, net in card.subnets.items()})
    supernet.load_state_dict(safetensors.torch.load((card.folder / card.supernet["file"]).read_bytes()))
    backend = Upscaler(name).backend
    photos = [skimage.data.astronaut()[:256, 100:356], skimage.data.coffee()[100:300, 200:440], skimage.data.chelsea()]
    for photo in photos:
        height, width = (side - side % card.scale for side in photo.shape[:2])
        lr = lr_bicubic(np.ascontiguousarray(photo[:height, :width]), card.scale)[None]
        for branch in card.branches[1:]:
            subnet = card.subnets[branch]
            assert subnet.params == supernet.params(branch)
            for figure, value in supernet.complexity(branch)._asdict().items():
                assert getattr(subnet, figure) == value
            with torch.inference_mode():
                sliced = EightBit(supernet.subnet(branch))(torch.from_numpy(lr)).numpy().astype(int)
                x = torch.from_numpy(lr).permute(0, 3, 1, 2).float() / 255
                sr = supernet(x, subnet.width, subnet.depth)
                whole = (sr / Quantise.STEP).clamp(0, 255).round().permute(0, 2, 3, 1).numpy().astype(int)
            # FSRCNN's last layer is another sum of the same numbers in what is exported.
            assert np.abs(sliced - whole).max() <= (card.backbone == "fsrcnn")
            assert np.abs(backend.run(branch, lr).astype(int) - sliced).max() <= 1


@pytest.mark.parametrize("path", sorted((ROOT / "lut").glob("*.json")), ids=lambda p: p.name)
def test_shipped_tables_belong_to_their_models(path: Path) -> None:
    """They load, fit the card, and say that more edges mean a lower PSNR."""
    table = EdgeTable.load(path)
    card = load_model(table.model)
    assert table.rank_correlation == EdgeTable.for_model(card, path).rank_correlation
    assert all(-1 <= value < -0.7 for value in table.rank_correlation.values())
    assert table.psnr[0, -1] > table.psnr[-1, -1]
    if path.name.endswith(".arm.json"):
        assert ("laplacian-mean", 30) == (table.score, len(table.counts))
        assert np.allclose(np.diff(table.edges), np.diff(table.edges)[0])


def test_every_package_is_in_the_wheel() -> None:
    """setup.cfg lists each folder with modules."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    there = {".".join(p.parent.relative_to(ROOT).parts) for p in (ROOT / "arm_sr").rglob("*.py")}
    there.remove("arm_sr.tpu.stand_ins")  # files for another Python
    assert there | {"arm_sr.data.checkpoints", "arm_sr.data.lut"} == listed


DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "lut" / "README.md"]


def documented_commands() -> list[list[str]]:
    """The command lines of the documents, in words, without what follows a `#`."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    commands = [shlex.split(line, comments=True) for line in lines if "&&" not in line]
    return [words for words in commands if words and words[0].startswith(("arm-sr", "tools/"))]


def test_documented_commands_have_the_options_that_exist() -> None:
    """As the parser reads them."""
    commands = [arguments for tool, *arguments in documented_commands() if tool == "arm-sr"]
    assert len(commands) > 20
    for arguments in commands:
        build_parser().parse_args(arguments)


@pytest.mark.slow
def test_documented_tools_have_the_options_that_exist() -> None:
    """By their help, for which each is called once."""
    helps: dict[str, str] = {}
    for tool, *arguments in documented_commands():
        if tool.endswith(".py"):
            subcommand = [word for word in arguments[:1] if tool == "tools/benchmark.py"]
            call = " ".join([tool, *subcommand])
            if call not in helps:
                done = subprocess.run(
                    [sys.executable, ROOT / tool, *subcommand, "--help"], check=True, capture_output=True, text=True
                )
                helps[call] = done.stdout
            for word in arguments:
                if word.startswith("-") and not word[1:2].isdigit():
                    assert re.search(rf"(^|[ ,\[|]){re.escape(word)}\b", helps[call]), (call, word)
    assert len(helps) > 10


def test_the_readme_names_only_what_exists() -> None:
    """Every file that its text and commands use."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "<!-- command: upscale -->" in text
    assert "<!-- command: test -->" in text
    for word in set(text.replace("`", " ").replace(")", " ").replace("(", " ").split()):
        if word.startswith(("tools/", "lut/", "checkpoints/", "tests/", "docs/")) and "NAME" not in word:
            assert (ROOT / word.rstrip(".,;:")).exists(), word
