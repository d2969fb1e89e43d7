"""Quality against measured time, everything side by side in one run."""

import io
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..api import Upscaler
from ..errors import ArtefactError
from ..imaging.metrics import psnr_of_mse, psnr_y, squared_error
from ..stitch import interpolate
from .arm_procedure import upscale_like_arm
from .pairs import Pair

Upscale = Callable[[np.ndarray], tuple[np.ndarray, float]]
"""From an LR picture, uint8 RGB, to the upscaled one and the milliseconds that the engine took."""


@dataclass(frozen=True)
class Arm:
    """One way to upscale that takes part."""

    rule: str
    """`static` for one pass over the picture, `time` for a share of the time, `arm` for ARM's procedure, `onnx`."""
    value: str
    """Branch, budget, eta or file."""
    upscale: Upscale


def static_arms(upscaler: Upscaler) -> list[Arm]:
    """Interpolation, and every sub-net in one direct call of the engine."""

    def interpolated(lr: np.ndarray) -> tuple[np.ndarray, float]:
        return _timed(lambda: interpolate(lr, upscaler.scale))

    def one_pass(branch: str) -> Upscale:
        return lambda lr: _timed(lambda: upscaler.backend.run(branch, lr[None])[0])

    subnets = [Arm("static", branch, one_pass(branch)) for branch in upscaler.branches[1:]]
    return [Arm("static", upscaler.branches[0], interpolated), *subnets]


def routed_arm(upscaler: Upscaler, budget: str) -> Arm:
    """The engine within a share of the largest sub-net's cost; `upscaler` has a cost table in milliseconds."""

    def run(lr: np.ndarray) -> tuple[np.ndarray, float]:
        result = upscaler.upscale(lr, budget)
        return result.image, result.stats["time_ms"]["infer"]

    return Arm("time", budget, run)


def procedure_arm(upscaler: Upscaler, eta: str) -> Arm:
    """ARM's own procedure; `upscaler` has its table."""
    return Arm("arm", f"eta {eta}", lambda lr: upscale_like_arm(upscaler, lr, float(eta)))


def onnx_arm(path: Path, scale: int, threads: int) -> Arm:
    """A super-resolution network of any picture size in an ONNX file: uint8 NHWC, or float NCHW in 0..1; ArtefactError
    for others, and for another scale."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the engine's exceptions have no common base
        raise ArtefactError(f"{path}: {error}") from error
    source = session.get_inputs()[0]
    nhwc = source.type == "tensor(uint8)"
    if len(session.get_inputs()) + len(session.get_outputs()) != 2 or not (nhwc or source.type == "tensor(float)"):
        raise ArtefactError(f"{path}: needs one output, and one input of uint8 NHWC or float NCHW, not {source.type}")

    def run(lr: np.ndarray) -> tuple[np.ndarray, float]:
        if nhwc:
            return _timed(lambda: session.run(None, {source.name: lr[None]})[0][0])
        planes = np.ascontiguousarray(lr.transpose(2, 0, 1)[None].astype(np.float32) / 255)
        sr, ms = _timed(lambda: session.run(None, {source.name: planes})[0][0])
        return np.clip(np.rint(sr.transpose(1, 2, 0) * 255), 0, 255).astype(np.uint8), ms

    small = np.zeros((17, 20, 3), np.uint8)
    try:
        shape = run(small)[0].shape
    except Exception as error:  # the engine's exceptions have no common base
        raise ArtefactError(f"{path}: does not run on a picture of 20x17 pixels ({error})") from error
    if shape != (17 * scale, 20 * scale, 3):
        raise ArtefactError(f"{path}: makes {shape} of 20x17 pixels, which is not x{scale}")
    return Arm("onnx", path.name, run)


def _timed(run: Callable[[], np.ndarray]) -> tuple[np.ndarray, float]:
    begun = time.perf_counter()
    result = run()
    return result, 1e3 * (time.perf_counter() - begun)


def compare(arms: Sequence[Arm], pairs: Sequence[Pair], scale: int, against: Arm, repeats: int,
            done: Callable[[int], object] = lambda count: None) -> list[dict[str, Any]]:  # fmt: skip
    """Run every arm on every picture, all arms in turn in every round, after a round that is not timed.

    Args:
        arms: what takes part.
        pairs: pictures with their ground truth.
        scale: upscaling factor of all arms.
        against: the arm whose time is 1; one of `arms`.
        repeats: rounds.
        done: called with 1 after each arm of each round of each picture.

    Returns:
        A row an arm: `rule`, `value`, `psnr_rgb_all` over all pixels, `psnr_rgb` and `psnr_y` as means over pictures;
        `ms` for all pictures (sum of medians), `ratio` to `against` (median over the rounds), and `engine_share` of it
        that was spent in the engine.
    """
    total = np.zeros((len(arms), len(pairs), repeats))
    engine = np.zeros_like(total)
    quality: list[list[tuple[float, int, float]]] = [[] for _ in arms]
    for column, pair in enumerate(pairs):
        for repeat in range(-1, repeats):
            for number, arm in enumerate(arms):
                begun = time.perf_counter()
                sr, busy = arm.upscale(pair.lr)
                if repeat >= 0:
                    total[number, column, repeat] = 1e3 * (time.perf_counter() - begun)
                    engine[number, column, repeat] = busy
                else:
                    quality[number].append((*squared_error(sr, pair.hr, scale), psnr_y(sr, pair.hr, scale)))
                done(1)
    reference = total[list(arms).index(against)].sum(axis=0)
    rows: list[dict[str, Any]] = []
    for number, arm in enumerate(arms):
        errors, counts, y = zip(*quality[number], strict=True)
        means = [psnr_of_mse(error / count) for error, count in zip(errors, counts, strict=True)]
        ms = float(np.median(total[number], axis=1).sum())
        rows.append({
            "rule": arm.rule,
            "value": arm.value,
            "psnr_rgb_all": psnr_of_mse(sum(errors) / sum(counts)),
            "psnr_rgb": statistics.mean(means),
            "psnr_y": statistics.mean(y),
            "ms": ms,
            "ratio": float(np.median(total[number].sum(axis=0) / reference)),
            "engine_share": float(np.median(engine[number], axis=1).sum()) / ms,
        })  # fmt: skip
    for row in rows:  # what a static sub-net of the same time reaches
        rivals = [other for other in rows if other["rule"] == "static" and other["ratio"] <= row["ratio"]]
        best = max((r for r in rivals if r is not row), key=lambda other: other["psnr_rgb_all"], default=None)
        row["static"] = best and best["value"]
        row["gain_rgb_all"] = best and row["psnr_rgb_all"] - best["psnr_rgb_all"]
    return rows


def markdown(rows: Sequence[dict[str, Any]], against: Arm) -> str:
    """The table of `compare` as Markdown."""
    lines = [
        f"| arm | time, {against.value} = 1 | ms | in the engine | RGB all pixels | RGB mean | Y mean | "
        "against one pass that takes no longer |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        beside = f"{row['static']}: {row['gain_rgb_all']:+.3f}" if row["static"] else ""
        lines.append(
            f"| {row['rule']} {row['value']} | {row['ratio']:.3f} | {row['ms']:.0f} | {row['engine_share']:.0%} | "
            f"{row['psnr_rgb_all']:.3f} | {row['psnr_rgb']:.3f} | {row['psnr_y']:.3f} | {beside} |"
        )
    return "\n".join(lines)


def plot(rows: Sequence[dict[str, Any]], title: str) -> bytes:
    """PSNR over all pixels against time, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    labels = {"time": "routed, share of the time", "arm": "ARM's own procedure", "static": "one pass", "onnx": "ONNX"}
    for rule, label in labels.items():
        points = sorted((row["ratio"], row["psnr_rgb_all"], row["value"]) for row in rows if row["rule"] == rule)
        if points:
            x, y, names = zip(*points, strict=True)
            axes.plot(x, y, "^" if rule in ("static", "onnx") else "o-", markersize=4, label=label)
            for place in zip(x, y, names, strict=True) if rule in ("static", "onnx") else ():
                axes.annotate(place[2], place[:2], xytext=(5, -10), textcoords="offset points")
    axes.set_xscale("log")
    axes.set_xlabel("time, one pass of the largest sub-net = 1")
    axes.set_ylabel("RGB PSNR over all pixels, dB")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def deadlines(upscaler: Upscaler, pair: Pair, calls: int, largest_ms: float) -> list[tuple[float, float, float]]:
    """Deadline calls on one picture, spread from the time of interpolation to that of one pass of the largest sub-net.

    Returns:
        Deadline and time taken in milliseconds, and the squared error, of each call.
    """
    shortest = min(_timed(lambda: interpolate(pair.lr, upscaler.scale))[1] for _ in range(9))
    order = np.random.default_rng(0).permutation(calls)
    results = []
    for number in order:
        deadline = shortest + (largest_ms - shortest) * number / max(1, calls - 1)
        begun = time.perf_counter()
        sr = upscaler.upscale(pair.lr, deadline=f"{deadline:.3f}ms").image
        took = 1e3 * (time.perf_counter() - begun)
        results.append((float(deadline), took, squared_error(sr, pair.hr, upscaler.scale)[0]))
    return results
