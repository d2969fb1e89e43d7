#!/usr/bin/env python3
"""What the engine adds to inference: planning and the direct pass, side by side in one run.

    tools/benchmark.py --data photos/ --min-side 2040

For every picture of DATA (those whose longer side is at least --min-side): the time to plan a 40% budget
against two bicubic resizes, and `max` against one direct call of the engine with the largest sub-net. The
two arms of a pair run in turn; medians of --repeats runs (five times as many for planning, which is short) after a
warm-up, and the median of the ratios.
"""

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from arm_sr import Upscaler
from arm_sr.atomic import write_bytes
from arm_sr.calibration import machine
from arm_sr.cli import run_tool
from arm_sr.errors import ImageError
from arm_sr.evaluation.pairs import read_pairs
from arm_sr.imaging.folders import list_images
from arm_sr.stitch import interpolate


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of HR pictures")
    parser.add_argument("--min-side", type=int, default=0, help="leave out pictures with a longer side below this")
    parser.add_argument("-m", "--model", default="plain-x4", help="name or directory of the model")
    parser.add_argument("--repeats", type=int, default=9, help="runs of each pair (default %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()
    upscaler = Upscaler(args.model)
    backend, largest = upscaler.backend, upscaler.card.largest
    pairs = [p for p in read_pairs(list_images(args.data), upscaler.scale) if max(p.hr.shape) >= args.min_side]
    if not pairs:
        raise ImageError(f"{args.data}: no picture with a side of {args.min_side} or more")
    rows = []
    for pair in tqdm(pairs, desc="benchmark", unit="picture"):
        lr = pair.lr

        def two_resizes(lr: np.ndarray = lr) -> None:
            interpolate(lr, upscaler.scale)
            interpolate(lr, upscaler.scale)

        plan = paired(lambda lr=lr: upscaler.plan(lr, "40%"), two_resizes, 5 * args.repeats)
        whole = paired(lambda lr=lr: upscaler.upscale(lr, "max"), lambda lr=lr: backend.run(largest, lr[None]),
                       args.repeats)  # fmt: skip
        rows.append({"picture": pair.name, "lr": list(lr.shape[1::-1]), "plan": plan, "max": whole})
    about = {"model": upscaler.card.name, "machine": machine(), "backend": f"{backend.name} {backend.version}"}
    about["peak_rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print("; ".join(f"{k} {v}" for k, v in about.items()))
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
    if args.json:
        write_bytes(args.json, (json.dumps({**about, "rows": rows}, indent=2) + "\n").encode())


if __name__ == "__main__":
    run_tool(main)
