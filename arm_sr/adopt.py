"""Any super-resolution network in an ONNX file as a branch: what its pictures look like, its scale, cost and halo are
found by running it."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from .atomic import write_bytes
from .errors import ArtefactError, UsageError
from .imaging.metrics import psnr
from .imaging.resample import lr_bicubic
from .models import BICUBIC, CARD, ModelCard, SubNet, digest
from .onnx_graph import FLOATS, Counts, Interface, Layout, Network
from .stitch import interpolate

log = logging.getLogger(__name__)

WINDOW = 144
"""Side in LR pixels of what networks of free size are run on."""
SHIFTS = (0.26, 0.2)
"""By what share of its sides the second of two windows is moved, whose results are compared where they overlap."""
LEAST_PSNR = 18.0
"""dB against the ground truth that a network must reach to count as super-resolution; interpolation has about 26."""
CLEARLY = 1.0
"""dB that another order of axes or range of values must be better than those before it. A network for 0..1 hardly
changes with 0..255, where its biases count for nothing; one for 0..255 is lost with 0..1."""
SAME = 0.5
"""Levels by which a picture may change when the shape of the input is made free."""
HALO_MSE = 0.05
"""Squared levels by which pixels at the rim of a tile may differ from those of a whole picture: at 30 dB it costs less
than 0.004 dB there."""


@dataclass(frozen=True)
class Adopted:
    """A network and what was found of it."""

    name: str
    """Of the branch."""
    network: Network
    interface: Interface
    scale: int
    shape: tuple[int, int, int]
    """Batch, height and width that it takes; 0 where they are free."""
    halo: int
    """LR pixels of context that a tile needs."""
    receptive_radius: int
    """LR pixels of context with which it was within a level, whatever lay beyond."""
    counts: Counts
    """What it costs for a picture of so many"""
    pixels: int
    """LR pixels."""


def adopt(files: Sequence[Path], out: Path, layout: Layout | None = None, white: int | None = None) -> ModelCard:
    """Make a model directory of ONNX networks.

    Args:
        files: networks of one scale, for RGB; the name of a branch is that of its file.
        out: the model directory.
        layout: order of the axes, where it should not be found by trying.
        white: the value of white in pictures of floats, 1 or 255, likewise.

    Raises:
        ArtefactError: names a file that is no such network, and says why.
        UsageError: two files of one name.
    """
    names = [re.sub(r"[^\w.-]", "-", file.stem) or "net" for file in files]
    if len(set(names)) < len(names) or BICUBIC in names:
        raise UsageError(f"every file needs a name of its own, not bicubic: {', '.join(names)}")
    found = [_examined(name, file, layout, white) for name, file in zip(names, files, strict=True)]
    for net in found:
        if net.scale != found[0].scale:
            raise ArtefactError(
                f"{net.network.path}: enlarges by {net.scale}, {found[0].network.path} by {found[0].scale}; "
                "the networks of a model must have one scale"
            )
    out = Path(out)
    for name in names:
        target = out / f"{name}.onnx"
        if target.exists() and any(target.samefile(file) for file in files):
            raise UsageError(f"{target} would be overwritten; give the model a directory of its own")
    origin = [{"file": net.network.path.name, "sha256": digest(net.network.path.read_bytes())} for net in found]
    out.mkdir(parents=True, exist_ok=True)
    subnets = {}
    for net in sorted(found, key=lambda net: net.counts.macs / net.pixels):
        data = net.network.branch(net.interface, net.shape)
        write_bytes(out / f"{net.name}.onnx", data)
        subnets[net.name] = SubNet(
            width=max(1, net.counts.width),
            depth=max(0, net.counts.layers - 2),
            params=max(1, net.counts.params),
            macs_per_lr_pixel=max(1, round(net.counts.macs / net.pixels)),
            activations_per_lr_pixel=max(1, round(net.counts.activations / net.pixels)),
            convs=net.counts.layers,
            receptive_radius=net.receptive_radius,
            file=f"{net.name}.onnx",
            sha256=digest(data),
            shape=net.shape,
        )
    card = ModelCard(
        name=out.resolve().name,
        scale=found[0].scale,
        backbone="onnx",
        halo=max(net.halo for net in found),
        subnets=subnets,
        supernet={},
        training={"adopted": origin},
        folder=out,
    )
    write_bytes(out / CARD, card.to_json().encode())
    return card


def _examined(name: str, file: Path, layout: Layout | None, white: int | None) -> Adopted:
    network = Network(file)
    fixed = network.shape
    interface, scale, quality = _interface(network, layout, white)
    shape = _freed(network, interface, scale, fixed)
    halo, radius = _context(network, interface, scale, shape)
    sides = "any size" if not any(shape[1:]) else f"{shape[1]}x{shape[2]}"
    log.info(
        "%s: x%d, %s 0..%d, %s, %.1f dB on the test picture; halo %d, exact with %d",
        name, scale, interface.layout, interface.white, sides, quality, halo, radius,
    )  # fmt: skip
    if any(shape[1:]):
        log.warning("%s: runs on %dx%d only; budgets in MACs do not count what else its tiles hold", name, *shape[1:])
    batch, height, width = shape[0] or 1, shape[1] or WINDOW, shape[2] or WINDOW
    counts = network.count(np.zeros((batch, height, width, 3), np.uint8), interface)
    return Adopted(name, network, interface, scale, shape, halo, radius, counts, batch * height * width)


def _interface(network: Network, layout: Layout | None, white: int | None) -> tuple[Interface, int, float]:
    """The interface with which the network comes closest to the ground truth, its scale and the PSNR in dB."""
    layouts = [layout] if layout else list(network.layouts)
    whites = [255] if network.type not in FLOATS else [white] if white else [1, 255]
    best: tuple[float, Interface, int] | None = None
    refused: ArtefactError | None = None
    for interface in (Interface(order, value) for order in layouts for value in whites):
        height, width = (side or WINDOW for side in _sides(network.shape, interface.layout))
        lr = _pair(height, width, 1)[1]
        try:
            scale = _scale(network, lr, _upscaled(network, interface, lr, network.shape[0]))
            hr, lr = _pair(height, width, scale)
            sr = _upscaled(network, interface, lr, network.shape[0])
        except ArtefactError as error:
            refused = refused or error
            continue
        levels = np.clip(np.rint(np.nan_to_num(sr)), 0, 255).astype(np.uint8)
        quality = psnr(levels, hr, scale)
        if best is None or quality > best[0] + CLEARLY:
            best = quality, interface, scale
    if best is None:
        raise refused or network.error("cannot be run")
    quality, interface, scale = best
    if quality < LEAST_PSNR:
        plain = psnr(interpolate(lr, scale), hr, scale)
        raise network.error(
            f"no super-resolution: {quality:.1f} dB on a picture on which interpolation has {plain:.1f}, with any "
            "order of axes and range of values that was tried"
        )
    return interface, scale, quality


def _scale(network: Network, lr: np.ndarray, sr: np.ndarray) -> int:
    """By how much the picture `sr` is larger."""
    if sr.shape[2] != 3:
        raise network.error(f"puts out {sr.shape[2]} channels, not RGB")
    scale = sr.shape[0] // lr.shape[0]
    if scale < 2 or sr.shape[:2] != (scale * lr.shape[0], scale * lr.shape[1]):
        size = " to ".join(f"{each.shape[1]}x{each.shape[0]}" for each in (lr, sr))
        raise network.error(f"no super-resolution: it takes {size}, which is no multiple of 2 or more")
    return scale


def _sides(shape: tuple[int, ...], layout: Layout) -> tuple[int, ...]:
    """Height and width of the pictures that a network of this `shape` takes, 0 where they are free."""
    return shape[2:] if layout == "nchw" else shape[1:3]


def _upscaled(network: Network, interface: Interface, picture: np.ndarray, batch: int) -> np.ndarray:
    """One picture, as often as the network wants in a `batch`, 0 where that is free; see `Network.run`."""
    return network.run(np.stack([picture] * max(1, batch)), interface)[0]


def _freed(network: Network, interface: Interface, scale: int, fixed: tuple[int, ...]) -> tuple[int, int, int]:
    """Make as much of the input's shape free as works; returns batch, height and width, 0 where they are."""
    sides = _sides(fixed, interface.layout)
    height, width = (side or WINDOW for side in sides)
    first = _pair(height, width, 1)[1]
    second = np.ascontiguousarray(first[::-1])
    other = np.ascontiguousarray(np.concatenate([first, second[: height // 3]])[:, : width - 3])
    expected = _upscaled(network, interface, first, fixed[0])
    model = network.model.SerializeToString()
    network.free()
    why = ""
    # Any batch, else that of the file; a file that does not fix it may still mean one.
    for batch in (0, fixed[0] or 1):
        try:
            alike = network.run(np.stack([first] * batch or [first, second]), interface)[0]
            enlarged = _upscaled(network, interface, other, batch)
            if alike.shape == expected.shape and np.abs(alike - expected).max() <= SAME:
                if _scale(network, other, enlarged) == scale:
                    return batch, 0, 0
                why = "enlarges it by another factor"
            else:
                why = "gives another picture than before"
        except ArtefactError as error:
            why = str(error).removeprefix(f"{network.path}: ")
    if not any(sides):  # the file says that any size will do
        raise network.error(f"free in size by its file, but on {other.shape[1]}x{other.shape[0]} it fails: {why}")
    network.restore(model)
    return max(1, fixed[0]), height, width


def _context(network: Network, interface: Interface, scale: int, shape: tuple[int, int, int]) -> tuple[int, int]:
    """Halo and receptive radius by running two windows that overlap; ArtefactError when their results never agree.

    The halo is for a picture that goes on outside of a window. The radius also bounds what an outside of another kind
    changes: black beside the first window's part of the overlap, white beside the second's.
    """
    height, width = shape[1] or WINDOW, shape[2] or WINDOW
    down, right = (max(1, int(share * side)) | 1 for share, side in zip(SHIFTS, (height, width), strict=True))
    picture = _pair(height + down, width + right, 1)[1]
    rows, columns = (np.arange(scale * side) // scale for side in (height - down, width - right))
    # LR pixels to the rim of a window, 0 at it: that of the first is below and right, of the second above and left.
    away = np.minimum.outer(np.minimum(rows, rows[::-1]), np.minimum(columns, columns[::-1]))
    reach = int(away.max())

    def differences(outsides: tuple[int, int] | None) -> tuple[np.ndarray, np.ndarray]:
        """The largest and the mean squared difference of pixels so far away or farther: (reach + 1,) each."""
        first, second = picture[:height, :width].copy(), picture[down:, right:].copy()
        if outsides:
            first[:down], first[:, :right] = outsides[0], outsides[0]
            second[height - down :], second[:, width - right :] = outsides[1], outsides[1]
        results = (_upscaled(network, interface, window, shape[0]) for window in (first, second))
        one, two = (np.clip(sr, 0, 255) for sr in results)
        difference = np.abs(one[scale * down :, scale * right :] - two[: len(rows), : len(columns)]).max(axis=2)
        at = [difference[away == distance] for distance in range(reach + 1)]
        farther = np.array([[values.max(), np.square(values).mean()] for values in at])[::-1]
        worst, squared = np.maximum.accumulate(farther, axis=0)[::-1].T
        return worst, squared

    worst, squared = differences(None)
    elsewhere, _ = differences((0, 255))
    at_last = max(worst[-1], elsewhere[-1])
    if at_last > 1.0 or squared[-1] > HALO_MSE:
        raise network.error(
            f"cannot be cut into tiles: {reach} LR pixels from where a picture is cut it still differs by "
            f"{at_last:.1f} levels; it looks at the whole picture, or at where in it a pixel is"
        )
    radius = int(np.argmax(np.maximum(worst, elsewhere) <= 1.0))
    return min(int(np.argmax(squared <= HALO_MSE)), radius), radius


def _pair(height: int, width: int, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """A test picture with gradients, edges and texture, and the LR picture of that size: uint8 RGB."""
    rng = np.random.default_rng(0)
    tall, wide = height * scale, width * scale
    y, x = np.mgrid[0:tall, 0:wide] / scale
    waves = [np.sin(x / a + y / b + c) for a, b, c in ((9, 23, 0), (31, 7, 2), (17, -13, 4))]
    picture = np.ascontiguousarray(np.stack(waves, axis=-1) * 40 + 128).astype(np.float32)
    for _ in range(height * width // 300 + 1):
        centre = (int(rng.integers(wide)), int(rng.integers(tall)))
        axes = tuple(int(side) for side in rng.integers(1, 9, 2) * scale)
        colour = tuple(float(level) for level in rng.integers(0, 256, 3))
        cv2.ellipse(picture, centre, axes, float(rng.integers(180)), 0, 360, colour, -1, cv2.LINE_8)
    hr = np.clip(np.rint(cv2.GaussianBlur(picture, (0, 0), max(scale, 2) / 3)), 0, 255).astype(np.uint8)
    return hr, lr_bicubic(hr, scale) if scale > 1 else hr
