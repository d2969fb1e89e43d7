#!/usr/bin/env python3
"""Time and quality side by side in one run. Let the machine be idle.

    tools/benchmark.py curve --data photos/ --min-side 2040 -o runs/curve      # PSNR against time: statics, routed, ARM
    tools/benchmark.py curve --data photos/ --backend onnxruntime openvino openvino:bf16 --threads 1 2
    tools/benchmark.py overhead --data photos/ --min-side 2040                 # what is added to inference
    tools/benchmark.py prediction --data photos/                               # whether plans take as long as they say
    tools/benchmark.py scaling                                                 # what more threads bring on a 4K result
    tools/benchmark.py deadline --data photos/ --calls 1000                    # whether deadlines are kept
    tools/benchmark.py workers --data pictures/ --repeats 3                    # two Ray workers against one

All arms of a comparison run in turn, every other round backwards, after a round that is not timed; times are medians,
ratios are medians of the ratios within a round. For each number of --threads the whole is done in a fresh process that
may use only so many processors; scaling compares them in one process, and workers has a process for each worker. Peak
memory is that of a fresh process which upscales the largest picture once with one arm.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from arm_sr.api import Upscaler
from arm_sr.atomic import write_bytes
from arm_sr.backends.threads import MOST, allowed_threads
from arm_sr.calibration import cached_or_measured, calibrate, machine
from arm_sr.cli import run_tool
from arm_sr.cli.options import report_file
from arm_sr.errors import ImageError, UsageError
from arm_sr.evaluation.arms import (
    Arm,
    Engine,
    interpolation_arm,
    onnx_arm,
    procedure_arm,
    routed_arm,
    static_arms,
    superres_arm,
    trade_off_arm,
)
from arm_sr.evaluation.benchmark import compare, deadlines, planned_psnr, spread_calls
from arm_sr.evaluation.benchmark_report import as_good_lines, markdown, plot
from arm_sr.evaluation.overhead import SHARE, inference, planning, predictions, thread_scaling
from arm_sr.evaluation.pairs import Pair, read_pairs
from arm_sr.evaluation.processes import checked_threads, end_with_parent, peak_rss, with_threads
from arm_sr.imaging.folders import list_images
from arm_sr.imaging.io import read_image
from arm_sr.models import load_model

TRADE_OFFS = "0.5,1,1.5,2,3,5"
BUDGETS = "5%,10%,20%,30%,40%,50%,60%,80%,100%"
WIDE = (540, 960)
"""LR rows and columns of a 4K result at x4."""
SHARES = tuple(tenth / 10 for tenth in range(1, 11))
"""Budgets whose predicted time is compared with the real one, as shares of the largest sub-net's."""
PLANNED = 0.7
"""Share of a deadline that the plan gets with which it is compared."""
CALIBRATIONS = 5
"""How often the machine is calibrated while deadlines are tried."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for run in (curve, overhead, prediction, scaling, deadline, workers):
        command = commands.add_parser(run.__name__)
        command.set_defaults(run=run)
        if run is not scaling:
            kind = "pictures to upscale, a minute of work or more" if run is workers else "HR pictures"
            command.add_argument("--data", type=Path, required=True, help=f"folder of {kind}")
        if run not in (scaling, workers):
            command.add_argument("--min-side", type=int, default=0, help="leave out smaller ones, by the longer side")
        command.add_argument("-m", "--model", default="plain-x4", help="name or directory of the model")
        command.add_argument("--backend", nargs="+", default=["auto"], metavar="NAME[:PRECISION]", help="engines")
        if run is not workers:
            command.add_argument("--threads", type=int, nargs="+", help="how many (default: all; scaling: 1 and all)")
        if run is not deadline:
            command.add_argument("--repeats", type=int, default=9, help="timed rounds (default %(default)s)")
        command.add_argument("--json", type=Path, help="write the figures here too")
    add = commands.choices["curve"].add_argument
    add("-o", "--output", type=Path, help="write curve.json and curve.png into this folder")
    add("--budgets", default=BUDGETS, help="shares of the time with the largest sub-net (default %(default)s)")
    add("--trade-offs", default=TRADE_OFFS, help="eta with the objective mse (default %(default)s)")
    add("--arm", type=Path, help="ARM's table, to run its own procedure too")
    add("--etas", default="0.2,0.5,1,2,5", help="of ARM's procedure (default %(default)s)")
    add("--onnx", type=Path, nargs="*", default=[], help="other networks, run by ONNX Runtime")
    add("--dnn-superres", type=Path, nargs="*", default=[], help="models of OpenCV, such as ESPCN_x4.pb")
    add = commands.choices["scaling"].add_argument
    add("--picture", type=Path, help="LR picture (default: noise of 960x540, which makes 4K)")
    add("--width", nargs="+", help="sub-nets (default: the largest)")
    add = commands.choices["deadline"].add_argument
    add("--calls", type=int, default=1000, help="about how many, half of them under load (default %(default)s)")
    args = parser.parse_args()
    if "repeats" in args and args.repeats < 1:
        raise UsageError(f"--repeats must be at least 1, not {args.repeats}")
    counts = checked_threads(args.threads) if "threads" in args and args.threads else []
    report = report_file(args.json)
    files = [report] if report else []
    if args.run is curve and args.output:
        import_module("matplotlib")  # that it is missing is better known before hours of timing
        args.output.mkdir(parents=True, exist_ok=True)
        files.append(args.output / "curve.json")
    runs = []
    for count in counts if counts and args.run is not scaling else [0]:
        runs.append(with_threads(count, args.run, args) if count else args.run(args))
        for file in files:
            write_bytes(file, (json.dumps(runs, indent=2) + "\n").encode())
    if args.run is curve and args.output:
        titles = [f"{run['model']} on {run['pictures']} pictures of {run['data']}, {run['machine']}" for run in runs]
        panels = [(title, run["rows"]) for title, run in zip(titles, runs, strict=True)]
        write_bytes(args.output / "curve.png", plot(panels))


def engines_of(args: argparse.Namespace) -> list[Engine]:
    """The engines of --backend, each once."""
    return list(dict.fromkeys(Engine.of(args.model, option) for option in args.backend))


def pairs_of(args: argparse.Namespace) -> list[Pair]:
    """The pictures of --data that are large enough."""
    scale = load_model(args.model).scale
    pairs = [pair for pair in read_pairs(list_images(args.data), scale) if max(pair.hr.shape) >= args.min_side]
    if not pairs:
        raise ImageError(f"{args.data}: no picture with a side of {args.min_side} or more")
    return pairs


def told(args: argparse.Namespace, engines: Iterable[Engine], pairs: list[Pair], **figures: Any) -> dict[str, Any]:
    """The figures, and how they came about, which is printed."""
    about: dict[str, Any] = {"model": load_model(args.model).name, "machine": machine()}
    if pairs:
        about |= {"data": args.data.name, "pictures": len(pairs)}
    about |= {"repeats": args.repeats} if "repeats" in args else {}
    about |= {"engines": [f"{e.name} {e.backend.version} {e.precision}" for e in engines]}
    shown = {**about, "engines": ", ".join(about["engines"])}
    print("\n" + "; ".join(f"{key} {value}" for key, value in shown.items()), flush=True)
    return {**about, "threads": allowed_threads(), **figures}


def curve(args: argparse.Namespace) -> dict[str, Any]:
    """PSNR against time: interpolation, every static sub-net, the routed engine, ARM's procedure, other networks."""
    engines, pairs, scale = engines_of(args), pairs_of(args), load_model(args.model).scale
    arms: list[Arm] = [interpolation_arm(scale)]
    largest = []
    for engine in engines:
        cost = cached_or_measured(load_model(args.model), engine.backend)
        arms += static_arms(engine)
        largest.append(arms[-1])
        arms += [routed_arm(engine, budget, cost) for budget in args.budgets.split(",") if budget]
        arms += [trade_off_arm(engine, eta, cost) for eta in args.trade_offs.split(",") if eta]
        if args.arm:
            arms += [procedure_arm(engine, eta, args.arm) for eta in args.etas.split(",")]
    arms += [onnx_arm(path, scale) for path in args.onnx]
    arms += [superres_arm(path, scale) for path in args.dnn_superres]
    with tqdm(total=len(arms) * len(pairs) * (args.repeats + 1), desc="benchmark", unit="run") as bar:
        rows = compare(arms, pairs, scale, largest, args.repeats, bar.update)
    lr = max((pair.lr for pair in pairs), key=lambda lr: lr.size)
    for row, arm in zip(rows, tqdm(arms, desc="peak memory", unit="arm"), strict=True):
        row["peak_rss_mib"] = peak_rss(arm, lr)
    print(markdown(rows, largest[0].engine, largest[0].value))
    if args.arm:
        print("\n" + as_good_lines(rows))
    return told(args, engines, pairs, rows=rows)


def overhead(args: argparse.Namespace) -> dict[str, Any]:
    """Planning a 40% budget against two bicubic resizes, one branch everywhere against one direct call of the engine,
    and what is not inference in a 40% plan against one direct call of the largest sub-net.

    Planning, which is short, is run five times as often.
    """
    engines, pairs = engines_of(args), pairs_of(args)
    upscalers = {str(engine): engine.upscaler() for engine in engines}
    for upscaler in upscalers.values():
        upscaler.load()
    figures: dict[str, list[dict[str, Any]]] = {"planning": [], "one_branch": [], "not_inference": []}
    for pair in tqdm(pairs, desc="benchmark", unit="picture"):
        about = {"picture": pair.name, "lr": list(pair.lr.shape[1::-1])}
        plan = planning(upscalers[str(engines[0])], pair.lr, 5 * args.repeats)
        for name, rows in zip(figures, ([plan], *inference(upscalers, pair.lr, args.repeats)), strict=True):
            figures[name] += [about | row for row in rows]
    for title, name, direct in (
        (f"planning {SHARE}", "planning", "two resizes"),
        ("one branch everywhere", "one_branch", "one direct call"),
        (f"all but inference within {SHARE}", "not_inference", f"{load_model(args.model).largest}, one direct call"),
    ):
        print(f"\n| {title} | ms | {direct}, ms | median ratio | largest |\n|---|---|---|---|---|")
        for key in dict.fromkeys((row.get("engine", ""), row.get("branch", "")) for row in figures[name]):
            mine = [row for row in figures[name] if (row.get("engine", ""), row.get("branch", "")) == key]
            ms, direct_ms = (statistics.median(row[column] for row in mine) for column in ("ms", "direct_ms"))
            ratios = [row["ratio"] for row in mine]
            print(
                f"| {' '.join(key).strip()} | {ms:.2f} | {direct_ms:.2f} | {statistics.median(ratios):.3f} | "
                f"{max(ratios):.3f} |"
            )
    print("\nMedians over the pictures; the largest ratio of a picture.")
    return told(args, engines, pairs, **figures)


def prediction(args: argparse.Namespace) -> dict[str, Any]:
    """What plans within `SHARES` of the largest sub-net's time take, against what they were said to take. The machine
    is calibrated anew."""
    engines, pairs = engines_of(args), pairs_of(args)
    pictures, rows = {pair.name: pair.lr for pair in pairs}, []
    for engine in engines:
        upscaler = calibrated(engine)
        with tqdm(total=len(pictures) * len(SHARES) * (args.repeats + 1), desc=str(engine), unit="plan") as bar:
            found = predictions(upscaler, pictures, SHARES, args.repeats, bar.update)
        rows += [{"engine": str(engine), **row} for row in found]
    print("| real time over planned, by share | " + " | ".join(f"{share:.0%}" for share in SHARES) + " |")
    print("|---" * (len(SHARES) + 1) + "|")
    for engine in engines:
        mine = [row for row in rows if row["engine"] == str(engine)]
        cells = [statistics.median(row["ratio"] for row in mine if row["share"] == share) for share in SHARES]
        print(f"| {engine} | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |")
    print()
    for engine in engines:
        errors = [abs(row["ratio"] - 1) for row in rows if row["engine"] == str(engine)]
        print(
            f"- {engine}: {len(errors)} plans, error of the predicted time {statistics.median(errors):.1%} in the "
            f"median, {np.quantile(errors, 0.9):.1%} at the 90th percentile, {max(errors):.1%} at worst"
        )
    return told(args, engines, pairs, rows=rows)


def scaling(args: argparse.Namespace) -> dict[str, Any]:
    """One direct pass of the largest sub-net with one thread, with two and so on, in turn in one process."""
    engines, card = engines_of(args), load_model(args.model)
    widths = args.width or [card.largest]
    unknown = [width for width in widths if width not in card.subnets]
    if unknown:
        raise UsageError(f"--width must be of {', '.join(card.branches[1:])}, not '{unknown[0]}'")
    counts = checked_threads(args.threads or [1, allowed_threads()])
    lr = np.random.default_rng(0).integers(0, 256, (*WIDE, 3), dtype=np.uint8)
    if args.picture:
        lr = read_image(args.picture).rgb8()
    with tqdm(total=len(engines) * len(widths) * len(counts) * (args.repeats + 1), desc="benchmark", unit="run") as bar:
        rows = thread_scaling(engines, widths, lr, counts, args.repeats, bar.update)
    print(f"| LR {lr.shape[1]}x{lr.shape[0]} | threads | ms | times as fast as {counts[0]} |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row['engine']} {row['branch']} | {row['threads']} | {row['ms']:.1f} | {row['speed_up']:.3f} |")
    return told(args, engines, [], lr=list(lr.shape[1::-1]), rows=rows)


def workers(args: argparse.Namespace) -> dict[str, Any]:
    """`arm-sr upscale --ray` on the folder by one worker of one thread and by two, in turn, Ray's start included."""
    engines, rounds = engines_of(args), []
    checked_threads([2])  # each needs a processor of its own
    for number in range(args.repeats + 1):
        seconds = {}
        for count in (1, 2) if number % 2 else (2, 1):
            with tempfile.TemporaryDirectory() as out:
                call = ["upscale", args.data, "-o", out, "-m", args.model, "--backend", args.backend[0], "--width",
                        load_model(args.model).largest, "-q", "--ray", "--workers", count]  # fmt: skip
                begun = time.perf_counter()
                # With as many processors as workers, each has one thread.
                subprocess.run([sys.executable, "-m", "arm_sr", *map(str, call)], check=True,
                               env=os.environ | {MOST: str(count)})  # fmt: skip
                seconds[count] = time.perf_counter() - begun
        rounds.append(seconds)
    one, two = ([times[count] for times in rounds[1:]] for count in (1, 2))
    ratio = statistics.median(a / b for a, b in zip(one, two, strict=True))
    print("| workers of one thread | s | times as fast |\n|---|---|---|")
    print(f"| 1 | {statistics.median(one):.1f} | |\n| 2 | {statistics.median(two):.1f} | {ratio:.3f} |")
    return told(args, engines[:1], [], data=args.data.name, seconds={"1": one, "2": two}, speed_up=ratio)


def deadline(args: argparse.Namespace) -> dict[str, Any]:
    """Deadlines from the time of interpolation to that of the largest sub-net; half of them with a core taken away.
    In the idle half the machine is calibrated `CALIBRATIONS` times, because its speed drifts, and each call is compared
    with a plan for `PLANNED` of its deadline.
    """
    engines, pairs = engines_of(args), pairs_of(args)
    each = max(1, round(args.calls / 20 / len(pairs))) * 10  # so many in every tenth of the time, of every picture
    rows, spread = [], spread_calls(len(pairs), each)
    for engine in engines:
        parts, planned = [], []
        with tqdm(total=len(spread), desc="idle", unit="call") as bar:
            for some in np.array_split(spread, CALIBRATIONS):
                upscaler = calibrated(engine)
                parts.append(deadlines(upscaler, pairs, some, bar.update))
                planned += [planned_psnr(upscaler, pairs[int(n)], PLANNED * ms) for n, _, ms, *_ in parts[-1]]
        calls = np.concatenate(parts)
        rows.append(kept(engine, "idle", calls))
        gain = calls[:, 4] - planned
        gains = by_tenth(calls, gain)
        rows[-1] |= {"gain_over_plan": gains, "as_good_as_plan": float((gain >= 0).mean())}
        print(
            f"- {engine}, against plans for {PLANNED} of the time: {' '.join(f'{value:+.3f}' for value in gains)} dB, "
            f"{(gain >= 0).mean():.0%} of the calls at least as good"
        )
        with one_core_taken(), tqdm(total=len(spread), desc="one core taken", unit="call") as bar:
            calls = deadlines(upscaler, pairs, spread, bar.update)
        rows.append(kept(engine, "one core taken", calls))
    return told(args, engines, pairs, rows=rows)


def kept(engine: Engine, load: str, calls: np.ndarray) -> dict[str, Any]:
    """Print and return how well the deadlines of `calls`, as `deadlines` gives them, were kept."""
    late, means = calls[:, 3] - calls[:, 2], by_tenth(calls, calls[:, 4])
    print(
        f"- {engine}, {load}: {len(calls)} calls up to {calls[:, 2].max():.0f} ms, {(late <= 5).mean():.1%} "
        f"within the deadline plus 5 ms, latest {late.max():+.1f} ms; mean RGB PSNR by tenth of the time "
        f"{' '.join(f'{value:.2f}' for value in means)}"
    )
    return {"engine": str(engine), "load": load, "calls": len(calls), "psnr": means,
            "within_5_ms": float((late <= 5).mean()), "latest_ms": float(late.max())}  # fmt: skip


def by_tenth(calls: np.ndarray, values: np.ndarray) -> list[float]:
    """Means of `values`, one a call, over the calls in each tenth of the time."""
    tenth = (10 * calls[:, 1]).astype(int)
    return [float(values[tenth == part].mean()) for part in range(10)]


def calibrated(engine: Engine) -> Upscaler:
    """An upscaler with the machine's costs of this minute and its sub-nets loaded."""
    calibrate(load_model(engine.model), engine.backend)
    upscaler = engine.upscaler()
    upscaler.load()
    return upscaler


@contextmanager
def one_core_taken() -> Iterator[None]:
    """Another process computes without end in the meantime."""
    other = multiprocessing.Process(target=_busy, daemon=True)
    other.start()
    try:
        yield
    finally:
        other.kill()  # SIGTERM would only unwind it, with a traceback
        other.join()


def _busy() -> None:
    end_with_parent()
    while True:
        pass


if __name__ == "__main__":
    run_tool(main)
