"""Sweep budgets or eta over pictures with ground truth: sweep.csv, sweep.json, sweep.png.

LR pictures are made from the HR ones by the protocol (antialiased bicubic). Interpolation and every static
sub-net in one pass are in the same table and plot. PSNR is given as a mean over pictures (psnr_rgb, psnr_y)
and over all pixels (psnr_rgb_all); ms is the sum over pictures without files; the last column is the
difference in psnr_rgb_all to the best single branch in one pass that costs no more MACs. Letters are ARM's operating
points, by MACs and by ms: the cheapest setting 0.05 dB above the largest sub-net in one pass (L), as good (M), 0.05
below (S).
"""

import argparse
from typing import Any

from .options import add_model, add_talk, open_upscaler, path

BUDGETS = "5%,10%,20%,30%,40%,50%,60%,80%,100%"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `arm-sr sweep`."""
    parser.add_argument("folder", type=path, metavar="HR_DIR", help="folder of ground-truth pictures")
    parser.add_argument("-o", "--output", type=path, required=True, metavar="OUT_DIR", help="folder for the results")
    add_model(parser)
    points = parser.add_mutually_exclusive_group()
    points.add_argument("--budgets", metavar="B,B,...", help=f"budgets (default {BUDGETS})".replace("%", "%%"))
    points.add_argument("--etas", metavar="E,E,...", help="values of eta instead, by ARM's rule and by squared error")
    parser.add_argument(
        "--arm",
        type=path,
        metavar="LUT",
        help="add the same budgets as ARM decides them: its table (lut/NAME.arm.json) and the psnr objective",
    )
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, the median time counts (default 3)")
    add_talk(parser)


def run(args: argparse.Namespace) -> int:
    """Run the sweep and print its table; returns the exit status."""
    import matplotlib  # noqa: F401  the plot at the end needs it; say so before the work
    from tqdm import tqdm

    from ..calibration import machine
    from ..errors import UsageError
    from ..evaluation.sweep import markdown, settings_of, sweep, write_sweep
    from ..imaging.folders import list_images
    from ..scheduler import Budget
    from ..scheduler.policy import parse_eta

    if args.repeats < 1:
        raise UsageError(f"--repeats must be 1 or more, not {args.repeats}")
    etas = [e.strip() for e in args.etas.split(",")] if args.etas else []
    budgets = [] if etas else [b.strip() for b in (args.budgets or BUDGETS).split(",")]
    for eta in etas:
        parse_eta(eta)
    for budget in budgets:
        Budget.parse(budget)
    files = list_images(args.folder)
    upscaler = open_upscaler(args)
    arm = None
    if args.arm:
        from ..api import Upscaler

        arm = Upscaler(args.model, backend=upscaler.backend, lut=args.arm, cost=args.cost)
    args.output.mkdir(parents=True, exist_ok=True)  # said before the work when it cannot be
    points = settings_of(upscaler, budgets, etas, arm)
    with tqdm(total=len(points) * len(files), desc="sweep", unit="run", disable=True if args.quiet else None) as bar:
        rows = sweep(points, files, args.repeats, bar.update)
    about: dict[str, Any] = {
        "model": upscaler.card.name,
        "data": args.folder.name,
        "pictures": rows[0]["pictures"],
        "machine": machine(),
        "backend": f"{upscaler.backend.name} {upscaler.backend.version} {upscaler.backend.precision}",
        "repeats": args.repeats,
    }
    write_sweep(rows, about, args.output)
    where = f"{about['pictures']} pictures of {about['data']}"
    print(f"{about['model']} on {where}; {about['backend']}; {about['machine']}\n")
    print(markdown(rows))
    return 0 if rows[0]["pictures"] == len(files) else 1
