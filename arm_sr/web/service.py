"""What the requests ask for, without HTTP: from the bytes of a picture and parameters to an answer."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..api import Upscaler
from ..channels import planning_picture, split_alpha
from ..errors import ImageError, UsageError
from ..imaging.formats import IMAGE_SUFFIXES, Encoding, format_for
from ..imaging.io import Image, decode_image, encode_image, image_size
from ..imaging.metrics import crop_border, luma, psnr_of_mse, squared_error
from ..imaging.resample import crop_to_multiple, lr_bicubic
from ..planner import checked_objective
from ..report import legend
from ..scheduler import Budget, Plan
from ..scheduler.budget import parse_deadline
from ..scheduler.policy import parse_eta
from .queue import Stop

ROWS = 256
"""That are compared at once."""
NAME = "the picture"
"""What errors call the body of a request."""
BUDGETS = tuple(f"{percent}%" for percent in range(5, 101, 5))
"""Of the curve."""
CHOICES = ("budget", "eta", "width", "deadline")
FORMATS = {suffix[1:]: suffix for suffix in sorted(IMAGE_SUFFIXES)}
MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp",
               ".tif": "image/tiff", ".tiff": "image/tiff", ".bmp": "image/bmp", ".avif": "image/avif"}  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """What one request may ask for."""

    body_bytes: int = 32 << 20
    """Of the picture's file."""
    input_pixels: int = 16_000_000
    """Of the picture."""
    output_pixels: int = 40_000_000
    """Of the result; 8K UHD has 33 million."""
    body_seconds: float = 30.0
    """Until the file must have come."""


class TooLargeError(ImageError):
    """A picture over the limits of the server."""


@dataclass(frozen=True)
class Answer:
    """An upscaled picture."""

    picture: bytes
    media_type: str
    report: dict[str, Any]
    """As `Result.stats`, with the time of decoding and encoding, and `psnr` where there was a ground truth."""
    heat_map: dict[str, Any]
    """`patch` in pixels of the result, `branches` as `legend`, and `rows` of one branch number a patch."""


class Service:
    """Some models, ready for one request at a time.

    Args:
        upscalers: by the name of the model, the default first.
        limits: of a request.
    """

    def __init__(self, upscalers: Mapping[str, Upscaler], limits: Limits) -> None:
        self._upscalers, self.limits = dict(upscalers), limits

    def describe(self) -> dict[str, Any]:
        """The models and limits, for whoever writes a request."""
        limits = self.limits
        models = [
            {"name": name, "scale": upscaler.scale, "branches": upscaler.branches}
            for name, upscaler in self._upscalers.items()
        ]
        return {
            "models": models,
            "formats": list(FORMATS),
            "limits": {
                "body_bytes": limits.body_bytes,
                "input_pixels": limits.input_pixels,
                "output_pixels": limits.output_pixels,
            },
        }

    def upscale_request(self, parameters: list[tuple[str, str]]) -> "UpscaleRequest":
        """Parameters of `POST /upscale`; UsageError when one is wrong."""
        given = _single(parameters, ("model", *CHOICES, "objective", "format", "truth"))
        upscaler = self._upscaler(given)
        how = {name: given[name] for name in (*CHOICES, "objective") if name in given}
        chosen = [name for name in CHOICES if name in how]
        if len(chosen) > 1:
            raise UsageError(f"{' and '.join(chosen)} exclude each other; give one of them")
        if "budget" in how:
            in_ms = Budget.parse(how["budget"]).kind == "ms"
            if in_ms and upscaler.planner.clock_cost.unit != "ms":
                raise UsageError(
                    f"budget '{how['budget']}' needs the costs of this machine, which were never measured; run "
                    "arm-sr calibrate there, or give a deadline"
                )
        if "eta" in how:
            parse_eta(how["eta"])
        if "deadline" in how:
            parse_deadline(how["deadline"])
        if "width" in how:
            upscaler.card.branch_number(how["width"])
        checked_objective(how.get("objective"))
        suffix = FORMATS.get(given.get("format", "png").lower())
        if suffix is None:
            raise UsageError(f"unknown format '{given['format']}'; there are {', '.join(FORMATS)}")
        return UpscaleRequest(upscaler, self.limits, _truth(given), how, suffix)

    def curve_request(self, parameters: list[tuple[str, str]]) -> "CurveRequest":
        """Parameters of `POST /curve`; UsageError when one is wrong."""
        given = _single(parameters, ("model", "objective", "truth"))
        objective = checked_objective(given.get("objective"))
        return CurveRequest(self._upscaler(given), self.limits, _truth(given), objective)

    def _upscaler(self, given: Mapping[str, str]) -> Upscaler:
        name = given.get("model", next(iter(self._upscalers)))
        if name not in self._upscalers:  # never a folder: a name is all that a client can give
            raise UsageError(f"unknown model '{name}'; there are {', '.join(self._upscalers)}")
        return self._upscalers[name]


@dataclass(frozen=True)
class _Request:
    upscaler: Upscaler
    limits: Limits
    truth: bool
    """Whether the picture is the ground truth, of which the LR picture is made."""

    def _read(self, body: bytes) -> tuple[Image, np.ndarray | None]:
        """The LR picture, and the ground truth when there is one; TooLargeError by the header alone."""
        scale = self.upscaler.scale
        height, width = image_size(body, NAME)
        side = 1 if self.truth else scale
        for size, most, which in (
            ((width, height), self.limits.input_pixels, "it"),
            ((width * side, height * side), self.limits.output_pixels, "its result"),
        ):
            if size[0] * size[1] > most:
                raise TooLargeError(
                    f"{NAME}: {which} has {size[0]}x{size[1]} pixels, over the {most:,} that this server takes; cut it "
                    "or make it smaller"
                )
        image = decode_image(body, NAME)
        if not self.truth:
            return image, None
        hr = crop_to_multiple(image.rgb8(), scale)
        if not hr.size:
            raise ImageError(f"{NAME}: it is smaller than the scale {scale}; take a larger one as ground truth")
        return replace(image, pixels=lr_bicubic(hr, scale), alpha=None), hr


@dataclass(frozen=True)
class UpscaleRequest(_Request):
    """`POST /upscale` with parameters that were checked."""

    how: dict[str, str]
    """Arguments of `Upscaler.upscale`."""
    suffix: str
    """Of the format of the result."""

    def answer(self, body: bytes, stop: Stop) -> Answer:
        """Upscale the picture in `body`; raises ImageError, BackendError, ArtefactError or AbandonedError."""
        begun = time.perf_counter()
        image, hr = self._read(body)
        height, width = (side * self.upscaler.scale for side in image.pixels.shape[:2])
        format_for(NAME, self.suffix, width, height, **image.needs)
        read_ms = 1e3 * (time.perf_counter() - begun)
        if "deadline" in self.how:
            self.upscaler.load()
        self.upscaler.progress = lambda _: stop.check()
        try:
            stop.check()
            result = self.upscaler.upscale(image.planes, **self.how)  # type: ignore[arg-type]  # all of them take text
        finally:
            self.upscaler.progress = None
        stop.check()
        begun = time.perf_counter()
        pixels, alpha = split_alpha(result.image)
        picture = encode_image(replace(image, pixels=pixels, alpha=alpha), Encoding(self.suffix), name=NAME)
        write_ms = 1e3 * (time.perf_counter() - begun)
        time_ms = result.stats["time_ms"]
        total = time_ms["total"] + read_ms + write_ms
        time_ms = time_ms | {"read": round(read_ms, 3), "write": round(write_ms, 3), "total": round(total, 3)}
        report = {**result.stats, "time_ms": time_ms}
        if hr is not None:
            scale = self.upscaler.scale
            report["psnr"] = {
                "rgb_all": _psnr(result.image, hr),
                "rgb": _psnr(crop_border(result.image, scale), crop_border(hr, scale)),
                "y": _psnr(crop_border(result.image, scale), crop_border(hr, scale), luma),
            }
        return Answer(picture, MEDIA_TYPES[self.suffix], report, _heat_map(result.plan, report))


@dataclass(frozen=True)
class CurveRequest(_Request):
    """`POST /curve` with parameters that were checked."""

    objective: str

    def answer(self, body: bytes, stop: Stop) -> dict[str, Any]:
        """What the table predicts for the picture in `body` at `BUDGETS`, and for every branch alone: nothing is
        computed. Costs are shares of one pass of the largest sub-net in MACs."""
        image, _ = self._read(body)
        planner, rgb = self.upscaler.planner, planning_picture(image.planes)
        grid, _, mse = planner.expect(rgb)
        pixels = int(grid.areas.sum())
        errors = grid.areas.ravel() @ mse / pixels
        largest = planner.macs.one_pass(-1, pixels)
        branches = [
            {"name": name, "cost": planner.macs.one_pass(number, pixels) / largest,
             "psnr": _finite(psnr_of_mse(float(errors[number])))}
            for number, name in enumerate(self.upscaler.branches)
        ]  # fmt: skip
        points = []
        for budget in BUDGETS:
            stop.check()
            plan = planner.plan(rgb, budget, None, None, self.objective)
            predicted = plan.predicted_psnr
            cost = plan.macs / plan.macs_largest
            points.append({"budget": budget, "cost": cost, "psnr": None if predicted is None else _finite(predicted)})
        return {"model": self.upscaler.card.name, "predicted": True, "points": points, "branches": branches}


def _heat_map(plan: Plan, report: dict[str, Any]) -> dict[str, Any]:
    return {"patch": plan.grid.patch * plan.scale, "branches": legend(report), "rows": plan.branch_map.tolist()}


def _single(parameters: list[tuple[str, str]], known: tuple[str, ...]) -> dict[str, str]:
    """The parameters by name; UsageError for unknown and repeated ones."""
    given: dict[str, str] = {}
    for name, value in parameters:
        if name not in known:
            raise UsageError(f"unknown parameter '{name[:40]}'; there are {', '.join(known)}")
        if name in given:
            raise UsageError(f"parameter '{name}' is given twice; give it once")
        given[name] = value
    return given


def _truth(given: Mapping[str, str]) -> bool:
    if (value := given.get("truth", "0")) not in ("0", "1"):
        raise UsageError(f"truth '{value}' must be 1, when the picture is the ground truth, or 0")
    return value == "1"


def _psnr(sr: np.ndarray, hr: np.ndarray, view: Callable[[np.ndarray], np.ndarray] = np.asarray) -> float | None:
    """PSNR in dB of what `view` shows, some rows at a time, because it is computed in 8 bytes a value."""
    parts = [squared_error(view(sr[row : row + ROWS]), view(hr[row : row + ROWS])) for row in range(0, len(hr), ROWS)]
    total, count = map(sum, zip(*parts, strict=True))
    return _finite(psnr_of_mse(total / count))


def _finite(value: float) -> float | None:
    """None for infinity, which JSON does not have."""
    return value if np.isfinite(value) else None
