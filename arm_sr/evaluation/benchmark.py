"""Quality against measured time, everything side by side in one run."""

import statistics
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from ..api import Upscaler
from ..imaging.metrics import psnr, psnr_of_mse, psnr_y, squared_error
from ..stitch import interpolate
from .arms import OPENCV, Arm
from .pairs import Pair
from .timing import Done, ratio, timed, turns


def compare(arms: Sequence[Arm], pairs: Sequence[Pair], scale: int, largest: Sequence[Arm], rounds: int,
            done: Done = lambda count: None) -> list[dict[str, Any]]:  # fmt: skip
    """Run every arm on every picture, all arms of a picture in `turns`.

    Args:
        arms: what takes part; those of a model come with all its sub-nets and with interpolation.
        pairs: pictures with their ground truth.
        scale: upscaling factor of all arms.
        largest: of `arms`, the largest sub-net of every engine. The time of the first is 1; arms of other engines
            belong to it.
        rounds: how often each is timed, after a round that is not.
        done: progress.

    Returns:
        A row an arm: `engine`, `rule`, `value`; `psnr_rgb_all` over all pixels, `psnr_rgb` and `psnr_y` as means over
        pictures; `ms` for all pictures (sum of medians), `ratio` to the first of `largest` and `own_ratio` to that of
        its own engine (medians over the rounds), and `engine_share` of the time that was spent in the engine. With
        what stands beside it on its engine: `static`, the best of those that take no longer in one pass, and
        `gain_rgb_all` over it in dB; for ARM's procedure `as_good`, the fastest static or routed arm of at least its
        `psnr_rgb_all`, `as_good_ratio`, the time of that arm over the procedure's, and `as_good_engine_ratio`, over
        the part of the procedure's that was spent in the engine.
    """
    total, engine = np.zeros((2, len(arms), len(pairs), rounds))
    quality: list[list[tuple[float, int, float]]] = [[] for _ in arms]
    upscales = [arm.open() for arm in arms]
    for column, pair in enumerate(pairs):
        for count, number in turns(len(arms), rounds):
            (sr, busy), ms = timed(partial(upscales[number], pair.lr))
            if count >= 0:
                total[number, column, count], engine[number, column, count] = ms, busy
            else:
                quality[number].append((*squared_error(sr, pair.hr, scale), psnr_y(sr, pair.hr, scale)))
            done(1)
    first, *_ = reference = [list(arms).index(arm) for arm in largest]
    own = {arms[number].engine: number for number in reference}
    homes = [own.get(arm.engine, first) for arm in arms]
    times = total.sum(axis=1)
    rows: list[dict[str, Any]] = []
    for number, arm in enumerate(arms):
        errors, counts, y = zip(*quality[number], strict=True)
        means = [psnr_of_mse(error / count) for error, count in zip(errors, counts, strict=True)]
        whole = float(np.median(total[number], axis=1).sum())
        rows.append({
            "engine": arm.engine,
            "rule": arm.rule,
            "value": arm.value,
            "psnr_rgb_all": psnr_of_mse(sum(errors) / sum(counts)),
            "psnr_rgb": statistics.mean(means),
            "psnr_y": statistics.mean(y),
            "ms": whole,
            "ratio": ratio(times[number], times[first]),
            "own_ratio": ratio(times[number], times[homes[number]]),
            "engine_share": float(np.median(engine[number], axis=1).sum()) / whole,
        })  # fmt: skip
    _set_beside(rows, homes, times, engine.sum(axis=1))
    return rows


def _set_beside(rows: list[dict[str, Any]], homes: Sequence[int], times: np.ndarray, in_engine: np.ndarray) -> None:
    """What stands beside each row, of those with the engine of the row number `homes` and interpolation; `times` and
    `in_engine` are (rows, rounds)."""
    for number, row in enumerate(rows):
        engines = rows[homes[number]]["engine"], OPENCV
        rivals = [n for n, other in enumerate(rows) if other["engine"] in engines and n != number]
        passes = [rows[n] for n in rivals if rows[n]["rule"] == "static" and rows[n]["ratio"] <= row["ratio"]]
        best = max(passes, key=lambda other: other["psnr_rgb_all"], default=None)
        row["static"] = best and best["value"]
        row["gain_rgb_all"] = best and row["psnr_rgb_all"] - best["psnr_rgb_all"]
        if row["rule"] != "arm":
            continue
        ours = [n for n in rivals if rows[n]["rule"] in ("static", "time", "trade-off")]
        good = [n for n in ours if rows[n]["psnr_rgb_all"] >= row["psnr_rgb_all"]]
        fastest = min(good, key=lambda n: rows[n]["ms"], default=None)
        row["as_good"] = None if fastest is None else f"{rows[fastest]['rule']} {rows[fastest]['value']}"
        row["as_good_ratio"] = None if fastest is None else ratio(times[fastest], times[number])
        row["as_good_engine_ratio"] = None if fastest is None else ratio(times[fastest], in_engine[number])


def spread_calls(pictures: int, each: int) -> np.ndarray:
    """So many calls on each of the pictures, in random order: number of the picture, and place from 0 to 1 between the
    time of interpolation and that of one pass of the largest sub-net: (calls, 2)."""
    calls = [(number, (place + 0.5) / each) for number in range(pictures) for place in range(each)]
    return np.random.default_rng(0).permutation(np.array(calls))


def deadlines(upscaler: Upscaler, pairs: Sequence[Pair], calls: np.ndarray,
              done: Done = lambda count: None) -> np.ndarray:  # fmt: skip
    """Call with deadlines; `upscaler` has loaded its sub-nets and is calibrated.

    Args:
        upscaler: what is called.
        pairs: pictures with their ground truth.
        calls: from `spread_calls`, or some of them.
        done: progress.

    Returns:
        A row a call: number of the picture, place between the two times from 0 to 1, deadline and time taken in
        milliseconds, RGB PSNR in dB: (calls, 5).
    """
    limits = []
    for pair in pairs:
        shortest = min(timed(partial(interpolate, pair.lr, upscaler.scale))[1] for _ in range(9))
        largest = upscaler.planner.measured_cost.one_pass(-1, pair.lr.shape[0] * pair.lr.shape[1])
        limits.append((shortest, largest))
    rows = []
    for number, place in zip(calls[:, 0].astype(int), calls[:, 1], strict=True):
        limit = limits[number][0] + place * (limits[number][1] - limits[number][0])
        pair = pairs[number]
        result, took = timed(partial(upscaler.upscale, pair.lr, deadline=f"{limit:.3f}ms"))
        rows.append((number, place, limit, took, psnr(result.image, pair.hr, upscaler.scale)))
        done(1)
    return np.array(rows)


def planned_psnr(upscaler: Upscaler, pair: Pair, ms: float) -> float:
    """RGB PSNR in dB of a picture upscaled by a plan for so many milliseconds."""
    return psnr(upscaler.upscale(pair.lr, f"{ms:.3f}ms").image, pair.hr, upscaler.scale)
