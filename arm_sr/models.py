"""Models on disk: where they are, and the card that describes one."""

import dataclasses
import hashlib
import json
import math
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from .errors import ArtefactError, ModelError
from .json_text import parse_json

CARD = "model.json"
BICUBIC = "bicubic"
"""Name of the interpolation branch, branch 0 of every model."""
INTERPOLATOR = "opencv-cubic"
"""What that branch is; tables say which one they measured."""


@dataclass(frozen=True)
class SubNet:
    """One sub-net as it lies on disk."""

    width: int
    """Channels."""
    depth: int
    """Body layers."""
    params: int
    """Weights."""
    macs_per_lr_pixel: int
    """Multiply-accumulates for each LR pixel."""
    activations_per_lr_pixel: int
    """Values that the convolutions put out for each LR pixel."""
    convs: int
    """Convolutions, and matrix products of adopted networks."""
    receptive_radius: int
    """LR pixels away that an input can change an output; of adopted networks: by more than a level, as measured."""
    file: str
    """ONNX file in the model's folder: uint8 NHWC in and out, free batch and size unless `shape` says otherwise."""
    sha256: str
    """Of that file."""
    planes: str = ""
    """ONNX file of its convolutions alone, for engines that know no other interface: float RGB in 0..1, (1, 3, H, W),
    to the sub-pixels of every LR pixel, row by row, (1, scale * scale * 3, H, W). Models of earlier versions
    and backbones that also compute at the size of the SR picture have none."""
    planes_sha256: str = ""
    """Of that one."""
    shape: tuple[int, int, int] = (0, 0, 0)
    """Batch, height and width of the only pictures that `file` takes; 0 where it takes any."""

    def __post_init__(self) -> None:
        for name in ("width", "params", "macs_per_lr_pixel", "activations_per_lr_pixel", "convs"):
            _whole(name, getattr(self, name), 1)
        for name in ("depth", "receptive_radius"):
            _whole(name, getattr(self, name), 0)
        for name in ("file", "sha256", "planes", "planes_sha256"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name} must be text")
        if len(self.shape) != 3 or bool(self.shape[1]) != bool(self.shape[2]) or (self.shape[1] and not self.shape[0]):
            raise ValueError(f"shape must be batch, height and width, not {self.shape!r}")
        for side in self.shape:
            _whole("shape", side, 0)
        object.__setattr__(self, "shape", tuple(self.shape))  # JSON has lists


@dataclass(frozen=True)
class ModelCard:
    """The card `model.json` of a model directory."""

    name: str
    scale: int
    backbone: str
    halo: int
    """LR pixels of context around a tile."""
    subnets: dict[str, SubNet]
    """By name, cheapest first."""
    supernet: dict[str, str]
    """`file` and `sha256` of the weights of all sub-nets together; empty for networks that were adopted."""
    training: dict[str, Any]
    """`recipe`, and `data`: sources and licences; or where the weights were imported from."""
    folder: Path = field(compare=False)
    """Where the files are; not part of the file."""
    precisions: dict[str, dict[str, float]] = field(default_factory=dict)
    """By engine and precision, such as `openvino bf16`: what it changes against fp32 on pictures with ground truth,
    `levels` (the largest difference of a pixel) and `loss_db` (RGB PSNR over all pixels of the worst sub-net)."""

    def __post_init__(self) -> None:
        _whole("scale", self.scale, 1)
        _whole("halo", self.halo, 0)
        for name, change in self.precisions.items():
            if set(change) != {"levels", "loss_db"} or not all(isinstance(v, int | float) for v in change.values()):
                raise ValueError(f"precisions: '{name}' needs the numbers levels and loss_db, not {change!r}")
        if not self.subnets or BICUBIC in self.subnets:
            raise ValueError("there must be at least one sub-net, none of them called bicubic")

    @cached_property
    def branches(self) -> tuple[str, ...]:
        """Names of all branches, `bicubic` first, cheapest to dearest."""
        return (BICUBIC, *sorted(self.subnets, key=lambda name: self.subnets[name].macs_per_lr_pixel))

    def branch_number(self, name: str) -> int:
        """Place of a branch in `branches`; ModelError when there is none of that name."""
        if name not in self.branches:
            raise ModelError(f"unknown branch '{name}'; model '{self.name}' has {', '.join(self.branches)}")
        return self.branches.index(name)

    def loss_db(self, backend: str, precision: str) -> float:
        """What an engine and precision lose against fp32, in dB; infinite where that was not measured."""
        change = self.precisions.get(f"{backend} {precision}")
        return change["loss_db"] if change else math.inf

    @property
    def receptive_radius(self) -> int:
        """LR pixels around one that its result depends on at most, by any sub-net."""
        return max(subnet.receptive_radius for subnet in self.subnets.values())

    @property
    def largest(self) -> str:
        """Name of the dearest sub-net."""
        return self.branches[-1]

    @cached_property
    def sha256(self) -> str:
        """One digest of every sub-net's file: what a table belongs to."""
        return digest("".join(self.subnets[name].sha256 for name in self.branches[1:]).encode())

    def subnet_bytes(self, name: str) -> bytes:
        """Contents of the sub-net's ONNX file; ArtefactError when it is not the one the card describes."""
        subnet = self.subnets[name]
        return checked_bytes(self.folder / subnet.file, subnet.sha256)

    def planes_file(self, name: str) -> Path:
        """Where the sub-net's convolutions alone are; ArtefactError when there are none, or it is not the file that the
        card describes."""
        subnet = self.subnets[name]
        if not self.supernet:
            raise ArtefactError(f"{self.folder / CARD}: '{name}' was adopted, so that there are no planes of it")
        if not subnet.planes:
            raise ArtefactError(
                f"{self.folder / CARD}: '{name}' has no planes: its backbone computes at the size of the SR picture "
                "too, or an earlier version exported it"
            )
        checked_bytes(self.folder / subnet.planes, subnet.planes_sha256)
        return self.folder / subnet.planes

    def to_json(self) -> str:
        """The card as JSON text."""
        data = dataclasses.asdict(self)
        del data["folder"]
        return json.dumps(data, indent=2) + "\n"

    @classmethod
    def load(cls, folder: Path) -> "ModelCard":
        """Read the card in `folder`; ArtefactError names the file and what is wrong."""
        path = Path(folder) / CARD
        try:
            data = parse_json(path.read_text(encoding="utf-8"))
            data["subnets"] = {name: SubNet(**values) for name, values in data["subnets"].items()}
            return cls(**data, folder=Path(folder))
        except FileNotFoundError as error:
            raise ArtefactError(f"{path}: no such file, so {folder} is not a model directory") from error
        except KeyError as error:
            raise ArtefactError(f"{path}: field {error} is missing") from error
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ArtefactError(f"{path}: not a model card ({error})") from error


def _whole(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number of {least} or more, not {value!r}")


def digest(data: bytes) -> str:
    """SHA-256 as hexadecimal text."""
    return hashlib.sha256(data).hexdigest()


def checked_bytes(path: Path, sha256: str) -> bytes:
    """Contents of `path`; ArtefactError when it is missing or its hash is not `sha256`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ArtefactError(f"{path}: {error.strerror or error}, although the card names it") from error
    if digest(data) != sha256:
        raise ArtefactError(f"{path}: its sha256 is not the card's; the file is damaged or of another model")
    return data


def data_folder(name: str) -> Path:
    """`checkpoints` or `lut`: inside an installed package, else at the top of the clone."""
    package = Path(__file__).parent
    installed = package / "data" / name
    return installed if installed.is_dir() else package.parent / name


def list_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(card.parent.name for card in data_folder("checkpoints").glob(f"*/{CARD}"))


def load_model(name: str) -> ModelCard:
    """The model called `name`, or the one in the directory `name`; ModelError when there is neither."""
    shipped = list_models()
    if name in shipped:
        return ModelCard.load(data_folder("checkpoints") / name)
    if os.path.isdir(name):
        return ModelCard.load(Path(name))
    raise ModelError(f"unknown model '{name}': not a directory, nor one of {', '.join(shipped) or 'none'}")
