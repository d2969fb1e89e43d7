"""Compiled sub-nets of a model: what lies beside the bmodels in a folder, `bmodels.json`.

A bmodel is what the compiler of Sophgo's TPUs makes of a network, for one chip, one precision, pictures of one shape.
"""

import dataclasses
import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from .atomic import write_bytes
from .cost import TILES, CostTable, fit_cost, tile_sizes
from .errors import ArtefactError, UsageError
from .fixed_tiles import tiles_along
from .json_text import parse_json
from .models import BICUBIC, ModelCard, digest
from .tpu.chips import CHIPS

MANIFEST = "bmodels.json"
FORMAT = 1
MAGIC, CHIP_FIELD = 0xFF55AAEE, 3
"""How a bmodel begins, and which field of its description names the chip."""

_Kind = TypeVar("_Kind", "Net", "Bmodels")


@dataclass(frozen=True)
class Net:
    """One compiled sub-net."""

    chip: str
    """One of `CHIPS`."""
    precision: str
    """As the compiler calls it: `F32`, `F16`, `BF16`, `INT8`."""
    branch: str
    """Sub-net of the model, or `bicubic`."""
    tile: tuple[int, int]
    """Height and width in LR pixels of the only pictures that it takes."""
    net: str
    """Its name inside the bmodel."""
    file: str
    """The bmodel, in the folder of the manifest; several nets may share one."""
    sha256: str
    """Of that file."""
    cycles: int
    """Of the chip for one tile, by the compiler's model."""
    ms: float
    """What they take at the chip's clock, without transfers."""
    max_levels: float | None = None
    """Largest and"""
    mean_levels: float | None = None
    """mean difference to the network in fp32, in 8-bit levels, on the crops of the accuracy gate;"""
    loss_db: float | None = None
    """what it loses against it in RGB PSNR there;"""
    crops: int | None = None
    """and how many those were. None where that was not measured."""

    def __post_init__(self) -> None:
        for name in ("precision", "branch", "net", "file", "sha256"):
            if not isinstance(value := getattr(self, name), str) or not value:
                raise ValueError(f"{name} must be text, not {value!r}")
        if self.chip not in CHIPS:
            raise ValueError(f"chip must be one of {', '.join(CHIPS)}, not {self.chip!r}")
        if Path(self.file).name != self.file:
            raise ValueError(f"file must be a name in the folder of the manifest, not {self.file!r}")
        if not isinstance(self.tile, list | tuple) or len(self.tile) != 2 or not all(_whole(n, 1) for n in self.tile):
            raise ValueError(f"tile must be height and width in LR pixels, not {self.tile!r}")
        object.__setattr__(self, "tile", tuple(self.tile))  # JSON has lists
        if not _whole(self.cycles, 1):
            raise ValueError(f"cycles must be a whole number of 1 or more, not {self.cycles!r}")
        if not _number(self.ms) or self.ms <= 0:
            raise ValueError(f"ms must be a number above 0, not {self.ms!r}")
        for name in ("max_levels", "mean_levels", "loss_db"):
            if (value := getattr(self, name)) is not None and not _number(value):
                raise ValueError(f"{name} must be a number or null, not {value!r}")
        if self.crops is not None and not _whole(self.crops, 1):
            raise ValueError(f"crops must be a whole number of 1 or more or null, not {self.crops!r}")


@dataclass(frozen=True)
class Bmodels:
    """What was compiled of one model."""

    model: str
    """Name of the model,"""
    model_sha256: str
    """and `ModelCard.sha256` of it."""
    scale: int
    """Its upscaling factor."""
    compiler: str
    """Name and version."""
    libraries: str
    """Folder with the compiler's runtime and simulators, as it was where it compiled; empty where there are none."""
    nets: tuple[Net, ...]
    """In any order."""
    folder: Path = field(compare=False)
    """Where the files are; not part of the file."""

    def __post_init__(self) -> None:
        for name in ("model", "model_sha256", "compiler", "libraries"):
            if not isinstance(value := getattr(self, name), str):
                raise ValueError(f"{name} must be text, not {value!r}")
        if not _whole(self.scale, 1):
            raise ValueError(f"scale must be a whole number of 1 or more, not {self.scale!r}")
        object.__setattr__(self, "nets", tuple(self.nets))
        hashes: dict[str, str] = {}
        taken: set[tuple[str, str, str]] = set()
        for number, net in enumerate(self.nets):
            if hashes.setdefault(net.file, net.sha256) != net.sha256:
                raise ValueError(f"nets[{number}].sha256: another net says otherwise of {net.file}")
            # All of a chip and precision are loaded into one runtime, where a name is a net's alone.
            key = (net.chip, net.precision, net.net)
            if key in taken:
                raise ValueError(f"nets[{number}].net: {net.chip} {net.precision} has two nets called '{net.net}'")
            taken.add(key)

    @property
    def path(self) -> Path:
        """The manifest itself."""
        return self.folder / MANIFEST

    def precisions(self, chip: str) -> tuple[str, ...]:
        """What there is for `chip`."""
        return tuple(sorted({net.precision for net in self.nets if net.chip == chip}))

    def of(self, chip: str, precision: str) -> dict[str, tuple[Net, ...]]:
        """The nets of a chip and precision by branch, each from the smallest tile to the largest."""
        nets: dict[str, tuple[Net, ...]] = {}
        for net in sorted(self.nets, key=lambda net: math.prod(net.tile)):
            if (net.chip, net.precision) == (chip, precision):
                nets[net.branch] = (*nets.get(net.branch, ()), net)
        return nets

    def choose(self, chip: str, precision: str | None, card: ModelCard) -> tuple[str, dict[str, tuple[Net, ...]]]:
        """The precision, and what is there for every sub-net of `card`.

        Args:
            chip: one of `tpu.chips.CHIPS`.
            precision: one that was compiled for it; None where there is only one.
            card: the model.

        Raises:
            ArtefactError: the folder is of another model, or a sub-net is missing.
            UsageError: nothing was compiled for the chip and precision, or several precisions were and none is named.
        """
        if self.model_sha256 != card.sha256 or self.scale != card.scale:
            raise ArtefactError(
                f"{self.path}: compiled of model '{self.model}' x{self.scale} ({self.model_sha256[:12]}), not of this "
                f"'{card.name}' x{card.scale} ({card.sha256[:12]}); compile it anew"
            )
        there = self.precisions(chip)
        if not there:
            chips = ", ".join(sorted({net.chip for net in self.nets})) or "none"
            raise UsageError(f"{self.path}: nothing was compiled for the chip '{chip}', only for {chips}")
        if precision is None and len(there) > 1:
            raise UsageError(f"{self.path}: {chip} has {', '.join(there)}; name one, such as sophon:{chip}:{there[0]}")
        precision = precision or there[0]
        if precision not in there:
            raise UsageError(f"{self.path}: {chip} has no precision '{precision}', only {', '.join(there)}")
        nets = self.of(chip, precision)
        missing = [name for name in card.branches[1:] if name not in nets]
        if missing:
            raise ArtefactError(f"{self.path}: {chip} {precision} has no net of {', '.join(missing)}; compile all")
        return precision, {name: nets[name] for name in card.branches[1:]}

    def cost_table(self, card: ModelCard, chip: str, precision: str | None = None) -> CostTable:
        """What the compiler's model says that the chip spends, in milliseconds; errors as of `choose`.

        A tile costs the same however much of it is used, and a rectangle of a plan as many tiles as cover it. The table
        has the call and the LR pixel that fit rectangles as plans have them best, those by which an engine is measured.
        Transfers and launches are not in it, nor is interpolation, which runs on the host.
        """
        precision, nets = self.choose(chip, precision, card)
        costs = {BICUBIC: (0.0, 0.0)}
        for branch, mine in nets.items():
            halo = min(card.halo, card.subnets[branch].receptive_radius)
            ms = [sum(covering(mine, *rectangle, halo)[1] for rectangle in group) for group in TILES]
            costs[branch] = fit_cost(tile_sizes(), ms)
        per_call, per_pixel = np.array([costs[name] for name in card.branches]).T
        source = f"modelled by {self.compiler} from cycles of {chip} {precision}, without transfers"
        return CostTable("ms", card.branches, per_call, per_pixel, source)

    def checked_file(self, net: Net) -> Path:
        """The bmodel of `net`; ArtefactError when it is missing, truncated or another one."""
        path = self.folder / net.file
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ArtefactError(f"{path}: {error.strerror or error}, although {MANIFEST} names it") from error
        if digest(data) != net.sha256:
            raise ArtefactError(f"{path}: its sha256 is not that in {MANIFEST}; the file is truncated, or another one")
        return path

    def save(self) -> None:
        """Write the manifest into its folder, in one step."""
        data = dataclasses.asdict(self)
        del data["folder"]
        write_bytes(self.path, (json.dumps({"format": FORMAT, **data}, indent=2) + "\n").encode())

    @classmethod
    def load(cls, folder: Path) -> "Bmodels":
        """Read the manifest in `folder`; ArtefactError names the file and the field that is wrong."""
        path = Path(folder) / MANIFEST
        try:
            data = parse_json(path.read_text(encoding="utf-8"))
            if data.pop("format") != FORMAT:
                raise ValueError(f"format must be {FORMAT}; compile anew, or update arm_sr")
            nets = [_net(number, values) for number, values in enumerate(data.pop("nets"))]
            return _filled(cls, {**data, "nets": tuple(nets), "folder": Path(folder)})
        except FileNotFoundError as error:
            raise ArtefactError(f"{path}: no such file, so {folder} holds no compiled sub-nets") from error
        except KeyError as error:
            raise ArtefactError(f"{path}: field {error} is missing") from error
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ArtefactError(f"{path}: not a list of compiled sub-nets ({error})") from error


def chip_of(path: Path) -> str:
    """The chip that a bmodel says it is for, in small letters; ArtefactError when `path` is none.

    The file has a header of four numbers (magic, sizes of header, description and data), and then a FlatBuffers table
    whose fourth field is the chip.
    """
    try:
        with path.open("rb") as stream:
            magic, header, size, _ = struct.unpack("<4I", stream.read(16))
            if magic != MAGIC:
                raise ValueError("another beginning")
            stream.seek(header)
            data = stream.read(size)
        (root,) = struct.unpack_from("<I", data)
        fields = root - struct.unpack_from("<i", data, root)[0]
        at = root + struct.unpack_from("<H", data, fields + 4 + 2 * CHIP_FIELD)[0]
        start = at + struct.unpack_from("<I", data, at)[0]
        (length,) = struct.unpack_from("<I", data, start)
        return data[start + 4 : start + 4 + length].decode().lower()
    except (OSError, ValueError, struct.error) as error:
        raise ArtefactError(f"{path}: not a bmodel ({error})") from error


def covering(nets: Sequence[Net], height: int, width: int, halo: int) -> tuple[Net, float]:
    """Of `nets`, which differ by their tiles, the one that computes a picture for least, and the milliseconds."""

    def ms(net: Net) -> float:
        return math.prod(int(n) for n in tiles_along(np.array([height, width]), np.array(net.tile),
                                                     overlap_of(net, halo))) * net.ms  # fmt: skip

    best = min(nets, key=ms)
    return best, ms(best)


def overlap_of(net: Net, halo: int) -> int:
    """LR pixels that neighbouring tiles share, so that either has so many of real picture around its own part."""
    return min(2 * halo, min(net.tile) // 2)


def _net(number: int, values: dict[str, Any]) -> Net:
    try:
        return _filled(Net, values)
    except (ValueError, TypeError) as error:
        raise ValueError(f"nets[{number}]: {error}") from error


def _filled(kind: type[_Kind], values: dict[str, Any]) -> _Kind:
    """Of those fields; ValueError names one that is missing or unknown."""
    fields = {each.name: each for each in dataclasses.fields(kind)}
    for name in sorted(set(values) - set(fields)):
        raise ValueError(f"field '{name}' is unknown")
    for name, each in fields.items():
        if name not in values and each.default is dataclasses.MISSING:
            raise ValueError(f"field '{name}' is missing")
    return kind(**values)


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
