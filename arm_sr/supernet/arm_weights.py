"""Weights of the reference repository's ARM (Chen et al., ECCV 2022) as supernets of ours.

Its state files name the parameters of the widest FSRCNN, CARN-M or SRResNet, in which the narrow ones lie as in ours.
"""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import ArtefactError
from .backbones import Supernet, build
from .backbones.carn import RGB_MEAN

Names = dict[str, str]
"""From a parameter's name there to its name here."""
WEIGHT, BIAS = ".weight", ".bias"


class ReferenceNet(NamedTuple):
    """How the weights of a network of theirs lie in a state file."""

    backbone: str
    widths: tuple[int, ...]
    """Of ARM's sub-nets."""
    first: str
    """Name of a parameter (width, ...) that only this network has."""
    names: Callable[[Mapping[str, Tensor]], tuple[Names, int, int]]
    """From the tensors to the names, the scale and the depth."""


def _layers(pairs: Mapping[str, str]) -> Names:
    """Names of weight and bias of layers."""
    return {theirs + part: ours + part for theirs, ours in pairs.items() for part in (WEIGHT, BIAS)}


def _last(state: Mapping[str, Tensor], prefix: str) -> int:
    """The largest number that follows `prefix` in a name, 0 where there is none."""
    numbers = (name.removeprefix(prefix).partition(".")[0] for name in state if name.startswith(prefix))
    return max((int(number) for number in numbers if number.isdigit()), default=0)


def _fsrcnn(state: Mapping[str, Tensor]) -> tuple[Names, int, int]:
    mapping = max(1, _last(state, "body_conv.") - 2)
    end = mapping + 2
    layers = {"head_conv.0": "head", "body_conv.0.0": "shrink", f"body_conv.{end}.0": "expand", "tail_conv": "tail"}
    layers |= {f"body_conv.{number + 1}": f"body.{number}.0" for number in range(mapping)}
    slopes = {"head_conv.1": "head_slope", "body_conv.0.1": "shrink_slope", f"body_conv.{end}.1": "expand_slope"}
    # One slope after all mapping layers, where the paper has one after each.
    slopes |= {f"body_conv.{mapping + 1}": f"body.{mapping - 1}.1"}
    names = _layers(layers) | {theirs + WEIGHT: ours + WEIGHT for theirs, ours in slopes.items()}
    return names, 4, mapping  # its padding is right for x4 only


def _carn(state: Mapping[str, Tensor]) -> tuple[Names, int, int]:
    layers = {"entry": "head", "exit": "tail.{last}"}
    for block in range(3):
        there, here = f"b{block + 1}", f"body.{block}"
        layers |= {f"{there}.b1.body.{2 * n}": f"{here}.residual.conv{n + 1}" for n in range(3)}
        layers |= {f"{there}.c{n + 1}.0": f"{here}.cascade.{n}" for n in range(3)}
        layers |= {f"c{block + 1}.0": f"cascade.{block}"}
    up = "upsample.up.body.{}"
    steps = 1 + (up.format(3) + WEIGHT in state)
    layers |= {up.format(3 * n): f"tail.{n}" for n in range(steps)}
    names = _layers({theirs: ours.format(last=steps) for theirs, ours in layers.items()})
    return names, _scale(state, up.format(0), steps), 3


def _srresnet(state: Mapping[str, Tensor]) -> tuple[Names, int, int]:
    blocks = _last(state, "recon_trunk.") + 1
    steps = 1 + ("upconv2.weight" in state)
    layers = {"conv_first": "head", "HRconv": f"tail.{steps}", "conv_last": f"tail.{steps + 1}"}
    layers |= {f"recon_trunk.{n}.conv{k}": f"body.{n}.conv{k}" for n in range(blocks) for k in (1, 2)}
    layers |= {f"upconv{n + 1}": f"tail.{n}" for n in range(steps)}
    return _layers(layers), _scale(state, "upconv1", steps), blocks


def _scale(state: Mapping[str, Tensor], layer: str, steps: int) -> int:
    """By how much a layer before PixelShuffle multiplies the channels decides; x2 twice is x4."""
    if steps == 2:
        return 4
    tensor = state.get(layer + BIAS)
    width = state.get("entry.bias", state.get("conv_first.bias"))
    return 3 if tensor is not None and width is not None and len(tensor) == 9 * len(width) else 2


REFERENCE_NETS = (
    ReferenceNet("fsrcnn", (16, 36, 56), "head_conv.0.weight", _fsrcnn),
    ReferenceNet("carn", (36, 52, 64), "entry.weight", _carn),
    ReferenceNet("srresnet", (36, 54, 64), "conv_first.weight", _srresnet),
)


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a PyTorch state file by name, read without running any code in it, `module.` taken off the names.

    Raises:
        ArtefactError: names the file when it is none, damaged, or holds anything but tensors.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols, before the error
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ArtefactError(f"{path}: no such file") from error
    except Exception as error:  # those of a damaged file have no common base
        raise ArtefactError(f"{path}: not a PyTorch state file, or one with more than tensors in it") from error
    if not isinstance(state, dict) or not state:
        raise ArtefactError(f"{path}: must hold the parameters of a network by name, not {type(state).__name__}")
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise ArtefactError(f"{path}: '{name}' is no parameter; the weights are wanted, not a training state")
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def supernet_of(state: Mapping[str, Tensor], widths: tuple[int, ...] | None = None) -> tuple[str, Supernet]:
    """The backbone's name and the supernet with the weights of `state`.

    Args:
        state: parameters by ARM's names, those of its widest sub-net.
        widths: of the sub-nets, the widest included (default: those of the paper).

    Raises:
        ArtefactError: names the first parameter that is not as in any of ARM's networks.
    """
    net_there = next((each for each in REFERENCE_NETS if each.first in state), None)
    if net_there is None:
        raise ArtefactError(f"parameter '{next(iter(state))}' is of none of ARM's networks: FSRCNN, CARN, SRResNet")
    if state[net_there.first].ndim != 4:
        raise ArtefactError(f"parameter '{net_there.first}' must have four axes, not {state[net_there.first].ndim}")
    names, scale, depth = net_there.names(state)
    width = state[net_there.first].shape[0]
    sub_widths = widths or (*(w for w in net_there.widths if w < width), width)
    if max(sub_widths) != width:
        raise ArtefactError(f"the weights are {width} wide, so that must be the largest width, not {max(sub_widths)}")
    net = build(net_there.backbone, scale, {f"w{w}": (w, depth) for w in sub_widths})
    wanted = net.state_dict()
    given = dict(state)
    if net_there.backbone == "carn":
        _check_mean_shifts(given)
    mine = {ours: _fitted(given, theirs, wanted[ours], net_there.backbone) for theirs, ours in names.items()}
    for name in given:
        if name not in names:
            raise ArtefactError(f"parameter '{name}' is not in ARM's {net_there.backbone}")
    # What it does not have are slopes of mapping layers: none.
    net.load_state_dict({name: mine.get(name, torch.ones_like(tensor)) for name, tensor in wanted.items()})
    return net_there.backbone, net


def _fitted(state: Mapping[str, Tensor], name: str, wanted: Tensor, backbone: str) -> Tensor:
    """The parameter `name` with the shape of `wanted`; one slope for all channels becomes one for each."""
    if name not in state:
        raise ArtefactError(f"parameter '{name}' of ARM's {backbone} is missing")
    tensor = state[name]
    if not torch.isfinite(tensor).all():
        raise ArtefactError(f"parameter '{name}' has values that are not finite")
    if wanted.ndim == 1 and tensor.shape == (1,) and not name.endswith(BIAS):
        return tensor.float().expand(wanted.shape).clone()
    if tensor.shape != wanted.shape:
        has, should = tuple(tensor.shape), tuple(wanted.shape)
        raise ArtefactError(f"parameter '{name}' is {has}, where ARM's {backbone} has {should}")
    return tensor.float()


def _check_mean_shifts(state: dict[str, Tensor]) -> None:
    """Take the layers that subtract and add the mean out of `state`; they are constants here."""
    for layer, sign in (("sub_mean", -1), ("add_mean", 1)):
        expected = {WEIGHT: torch.eye(3).reshape(3, 3, 1, 1), BIAS: sign * torch.tensor(RGB_MEAN)}
        for part, constant in expected.items():
            tensor = state.pop(layer + part, None)
            if tensor is None:
                raise ArtefactError(f"parameter '{layer + part}' of ARM's carn is missing")
            if tensor.shape != constant.shape or not torch.allclose(tensor.float(), constant, atol=1e-5):
                raise ArtefactError(f"parameter '{layer + part}' is not the constant of ARM's carn")
