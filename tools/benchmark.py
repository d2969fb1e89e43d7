#!/usr/bin/env python3
"""Time and quality side by side in one run. Let the machine be idle.

    tools/benchmark.py curve --data photos/ --min-side 2040 -o runs/curve      # PSNR against time: statics, routed, ARM
    tools/benchmark.py overhead --data photos/ --min-side 2040                 # what planning and `max` add
    tools/benchmark.py deadline --data photos/ --picture a.png --calls 1000    # whether deadlines are kept

All arms of a comparison run in turn, after a round that is not timed; times are medians, ratios are medians of the
ratios within a round.
"""

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from arm_sr import Upscaler
from arm_sr.atomic import write_bytes
from arm_sr.backends.base import allowed_threads
from arm_sr.calibration import cached_or_measured, machine
from arm_sr.cli import run_tool
from arm_sr.errors import ImageError
from arm_sr.evaluation import benchmark
from arm_sr.evaluation.pairs import Pair, read_pairs
from arm_sr.imaging.folders import list_images
from arm_sr.imaging.metrics import psnr_of_mse
from arm_sr.stitch import interpolate

BUDGETS = "5%,10%,20%,30%,40%,50%,60%,80%,100%"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, run in (("curve", curve), ("overhead", overhead), ("deadline", deadline)):
        command = commands.add_parser(name)
        command.set_defaults(run=run)
        command.add_argument("--data", type=Path, required=True, help="folder of HR pictures")
        command.add_argument("--min-side", type=int, default=0, help="leave out pictures with a longer side below this")
        command.add_argument("-m", "--model", default="plain-x4", help="name or directory of the model")
        command.add_argument("--backend", default="auto", help="engine")
        command.add_argument("--threads", type=int, help="processors to use (default: all that are allowed)")
        command.add_argument("--repeats", type=int, default=9, help="timed rounds (default %(default)s)")
        command.add_argument("--json", type=Path, help="write the figures here too")
    commands.choices["curve"].add_argument("-o", "--output", type=Path, help="write curve.json and curve.png here")
    commands.choices["curve"].add_argument("--budgets", default=BUDGETS, help="shares of the largest sub-net's time")
    commands.choices["curve"].add_argument("--arm", type=Path, help="ARM's table, to run its own procedure too")
    commands.choices["curve"].add_argument("--etas", default="0.2,0.5,1,2,5", help="of ARM's procedure")
    commands.choices["curve"].add_argument("--onnx", type=Path, nargs="*", default=[], help="other networks")
    commands.choices["deadline"].add_argument("--picture", help="name of one picture (default: the first)")
    commands.choices["deadline"].add_argument("--calls", type=int, default=1000, help="half of them under load")
    args = parser.parse_args()
    if args.threads:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    upscaler = Upscaler(args.model, backend=args.backend)
    upscaler.load()
    pairs = [p for p in read_pairs(list_images(args.data), upscaler.scale) if max(p.hr.shape) >= args.min_side]
    if not pairs:
        raise ImageError(f"{args.data}: no picture with a side of {args.min_side} or more")
    figures = args.run(args, upscaler, pairs)
    backend = upscaler.backend
    about = {"model": upscaler.card.name, "machine": machine(), "data": args.data.name, "pictures": len(pairs),
             "backend": f"{backend.name} {backend.version} {backend.precision}",
             "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}  # fmt: skip
    print("; ".join(f"{key} {value}" for key, value in about.items()))
    if args.json:
        write_bytes(args.json, (json.dumps({**about, **figures}, indent=2) + "\n").encode())


def curve(args: argparse.Namespace, upscaler: Upscaler, pairs: list[Pair]) -> dict[str, Any]:
    """PSNR against time: interpolation, every static sub-net, the routed engine, ARM's procedure, other networks."""
    timed = Upscaler(args.model, backend=args.backend, cost=cached_or_measured(upscaler.card, upscaler.backend))
    arms = benchmark.static_arms(upscaler)
    largest = arms[-1]
    arms += [benchmark.routed_arm(timed, budget) for budget in args.budgets.split(",")]
    if args.arm:
        like_arm = Upscaler(args.model, backend=args.backend, lut=args.arm)
        arms += [benchmark.procedure_arm(like_arm, eta) for eta in args.etas.split(",")]
    arms += [benchmark.onnx_arm(path, upscaler.scale, allowed_threads()) for path in args.onnx]
    with tqdm(total=len(arms) * len(pairs) * (args.repeats + 1), desc="benchmark", unit="run") as bar:
        rows = benchmark.compare(arms, pairs, upscaler.scale, largest, args.repeats, bar.update)
    print(benchmark.markdown(rows, largest))
    if args.output:
        args.output.mkdir(parents=True, exist_ok=True)
        title = f"{upscaler.card.name} on {len(pairs)} pictures of {args.data.name}, {machine()}"
        write_bytes(args.output / "curve.png", benchmark.plot(rows, title))
        write_bytes(args.output / "curve.json", (json.dumps({"rows": rows}, indent=2) + "\n").encode())
    return {"rows": rows}


def paired(first: Callable[[], object], second: Callable[[], object], repeats: int) -> dict[str, float]:
    """Median milliseconds of both and median of the ratios first / second, run in turn after a warm-up."""
    first(), second()
    times = []
    for _ in range(repeats):
        marks = [time.perf_counter()]
        for run in (first, second):
            run()
            marks.append(time.perf_counter())
        times.append((1e3 * (marks[1] - marks[0]), 1e3 * (marks[2] - marks[1])))
    a, b = zip(*times, strict=True)
    ratios = [x / y for x, y in times]
    return {"ms": statistics.median(a), "against_ms": statistics.median(b), "ratio": statistics.median(ratios)}


def overhead(args: argparse.Namespace, upscaler: Upscaler, pairs: list[Pair]) -> dict[str, Any]:
    """Planning a 40% budget against two bicubic resizes, and `max` against one direct call of the engine.

    Planning, which is short, is run five times as often.
    """
    backend, largest, rows = upscaler.backend, upscaler.card.largest, []
    for pair in tqdm(pairs, desc="benchmark", unit="picture"):
        lr = pair.lr

        def two_resizes(lr: np.ndarray = lr) -> None:
            interpolate(lr, upscaler.scale)
            interpolate(lr, upscaler.scale)

        plan = paired(lambda lr=lr: upscaler.plan(lr, "40%"), two_resizes, 5 * args.repeats)
        whole = paired(lambda lr=lr: upscaler.upscale(lr, "max"), lambda lr=lr: backend.run(largest, lr[None]),
                       args.repeats)  # fmt: skip
        rows.append({"picture": pair.name, "lr": list(lr.shape[1::-1]), "plan": plan, "max": whole})
    columns = f"{'plan ms':>8} {'2 resizes':>9} {'ratio':>6} {'max ms':>8} {'direct':>8} {'ratio':>6}"
    print(f"{'picture':>28} {'LR':>9} {columns}")
    for row in rows:
        plan, whole = row["plan"], row["max"]
        print(
            f"{row['picture']:>28} {row['lr'][0]:>4}x{row['lr'][1]:<4} {plan['ms']:8.2f} {plan['against_ms']:9.2f} "
            f"{plan['ratio']:6.2f} {whole['ms']:8.1f} {whole['against_ms']:8.1f} {whole['ratio']:6.3f}"
        )
    for name in ("plan", "max"):
        ratios = [row[name]["ratio"] for row in rows]
        print(f"{name}: median ratio {statistics.median(ratios):.3f}, largest {max(ratios):.3f}")
    return {"rows": rows}


def deadline(args: argparse.Namespace, upscaler: Upscaler, pairs: list[Pair]) -> dict[str, Any]:
    """Deadlines from the time of interpolation to that of the largest sub-net; half of them with a core taken away."""
    pair = next((p for p in pairs if args.picture in (None, p.name)), None)
    if pair is None:
        raise ImageError(f"{args.data}: no picture called {args.picture}")
    pixels = pair.lr.shape[0] * pair.lr.shape[1]
    largest = cached_or_measured(upscaler.card, upscaler.backend).one_pass(-1, pixels)
    figures: dict[str, Any] = {}
    for load in ("idle", "one core taken"):
        other = multiprocessing.Process(target=_busy, daemon=True)
        if load != "idle":
            other.start()
        results = np.array(benchmark.deadlines(upscaler, pair, max(1, args.calls // 2), largest))
        if load != "idle":
            other.terminate()
        results = results[np.argsort(results[:, 0])]
        late = results[:, 1] - results[:, 0]
        deciles = [psnr_of_mse(part[:, 2].mean() / pair.hr.size) for part in np.array_split(results, 10)]
        figures[load] = {"within_5_ms": float((late <= 5).mean()), "latest_ms": float(late.max()), "psnr": deciles}
        print(
            f"{load}: {len(results)} calls on {pair.lr.shape[1]}x{pair.lr.shape[0]} up to {largest:.0f} ms; "
            f"{(late <= 5).mean():.1%} within the deadline plus 5 ms, latest {late.max():+.1f} ms; "
            f"PSNR by decile {' '.join(f'{value:.2f}' for value in deciles)}"
        )
    return figures


def _busy() -> None:
    while True:
        pass


if __name__ == "__main__":
    run_tool(main)
