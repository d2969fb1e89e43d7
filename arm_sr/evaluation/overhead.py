"""What the engine for pictures adds to the engine for sub-nets, how well it knows its time, and what more threads take
away."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..api import Upscaler
from ..backends import open_backend
from ..models import load_model
from ..stitch import interpolate
from .arms import Engine
from .timing import Done, clocked, interleaved, ratio, timed, turns

SHARE = "40%"
"""The budget whose planning, stitching and other work besides inference is measured."""
Rows = list[dict[str, Any]]


def planning(upscaler: Upscaler, lr: np.ndarray, rounds: int) -> dict[str, Any]:
    """Planning a budget of `SHARE` for an LR picture, uint8 RGB (H, W, 3), against two bicubic resizes.

    Returns:
        Medians over the rounds: `ms`, `direct_ms` of the resizes, and the `ratio`.
    """

    def two_resizes() -> None:
        interpolate(lr, upscaler.scale)
        interpolate(lr, upscaler.scale)

    return _against(*interleaved([clocked(upscaler.plan, lr, SHARE), clocked(two_resizes)], rounds))


def inference(upscalers: Mapping[str, Upscaler], lr: np.ndarray, rounds: int) -> tuple[Rows, Rows]:
    """Upscaling an LR picture against direct calls of the engine, all engines and sub-nets in turn.

    Args:
        upscalers: by engine.
        lr: uint8 RGB, (H, W, 3).
        rounds: how often each is timed.

    Returns:
        A row for each `engine` and `branch`: a plan of that branch everywhere against one call for the whole picture.
        A row for each `engine`: everything that is not inference in upscaling within `SHARE`, against one call of the
        largest sub-net. Each has medians over the rounds: `ms`, `direct_ms`, and their `ratio`.
    """
    passes = [(engine, branch) for engine, upscaler in upscalers.items() for branch in upscaler.branches[1:]]
    whole = [clocked(upscalers[engine].upscale, lr, width=branch) for engine, branch in passes]
    direct = [clocked(upscalers[engine].backend.run, branch, lr[None]) for engine, branch in passes]
    # Not in pairs: a call right after its like finds its weights in the caches.
    rests = [partial(_rest_ms, each, lr) for each in upscalers.values()]
    times = interleaved([*whole, *direct, *rests], rounds)
    whole_ms, direct_ms, rest_ms = np.split(times, [len(passes), 2 * len(passes)])
    branches = [
        {"engine": engine, "branch": branch, **_against(*ms)}
        for (engine, branch), *ms in zip(passes, whole_ms, direct_ms, strict=True)
    ]
    others = [
        {"engine": engine, **_against(ms, direct_ms[passes.index((engine, upscaler.card.largest))])}
        for (engine, upscaler), ms in zip(upscalers.items(), rest_ms, strict=True)
    ]
    return branches, others


def _rest_ms(upscaler: Upscaler, lr: np.ndarray) -> float:
    result, ms = timed(lambda: upscaler.upscale(lr, SHARE))
    return float(ms - result.stats["time_ms"]["infer"])


def _against(times: np.ndarray, direct: np.ndarray) -> dict[str, Any]:
    return {"ms": float(np.median(times)), "direct_ms": float(np.median(direct)), "ratio": ratio(times, direct)}


def predictions(upscaler: Upscaler, pictures: Mapping[str, np.ndarray], shares: Sequence[float], rounds: int,
                done: Done = lambda count: None) -> Rows:  # fmt: skip
    """What plans take, against what they were said to take.

    Args:
        upscaler: on an engine that is calibrated.
        pictures: uint8 RGB, (H, W, 3), by name.
        shares: budgets, as shares of the largest sub-net's measured time.
        rounds: how often each is timed, all in turn, so that a slow minute of the machine is in one round of a picture
            and not in all. Every time a picture has a row less while there are some: what an engine does once for a
            shape is a part of what a picture takes.
        done: progress.

    Returns:
        A row for each `picture` and each of `shares`: `share`, and medians over the rounds of `ms`, `planned_ms` and
        their `ratio`.
    """
    plans = [(name, share) for name in pictures for share in shares]
    spent, planned = np.zeros((2, len(plans), rounds))
    for count, number in turns(len(plans), rounds):
        name, share = plans[number]
        picture = pictures[name][min(count + 1, pictures[name].shape[0] - 1) :]
        largest = upscaler.planner.measured_cost.one_pass(-1, picture.shape[0] * picture.shape[1])
        result = upscaler.upscale(picture, f"{float(share * largest)}ms")
        if count >= 0:
            spent[number, count], planned[number, count] = result.stats["budget"]["spent"], result.plan.cost
        done(1)
    return [
        {"picture": name, "share": share, "ms": float(np.median(ms)), "planned_ms": float(np.median(plan)),
         "ratio": ratio(ms, plan)}
        for (name, share), ms, plan in zip(plans, spent, planned, strict=True)
    ]  # fmt: skip


def thread_scaling(engines: Sequence[Engine], branches: Sequence[str], lr: np.ndarray, counts: Sequence[int],
                   rounds: int, done: Done = lambda count: None) -> Rows:  # fmt: skip
    """One direct pass of sub-nets over an LR picture with several numbers of threads, all in turn in one process.

    Args:
        engines: with one model.
        branches: sub-nets.
        lr: uint8 RGB, (H, W, 3).
        counts: threads, the number that the others are compared with first.
        rounds: how often each is timed.
        done: progress.

    Returns:
        A row for each `engine`, `branch` and number of `threads`: `ms`, and the `speed_up`, the time with the first of
        `counts` over this one; medians over the rounds.
    """
    names, runs = [], []
    for engine in engines:
        backends = [open_backend(engine.name, load_model(engine.model), engine.precision, count) for count in counts]
        for branch in branches:
            names += [(str(engine), branch, count) for count in counts]
            runs += [clocked(backend.run, branch, lr[None]) for backend in backends]
    times = interleaved(runs, rounds, done)
    first = np.repeat(times[:: len(counts)], len(counts), axis=0)
    return [
        {"engine": engine, "branch": branch, "threads": count, "ms": float(np.median(ms)), "speed_up": ratio(one, ms)}
        for (engine, branch, count), ms, one in zip(names, times, first, strict=True)
    ]
