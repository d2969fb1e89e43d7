"""List the models that come with the package, or describe a model directory.

With --profile every sub-net is measured here, in one pass for a result of 1280x720: size, peak memory, time by engine
and precision, and with --data its quality. Let the machine be idle.
"""

import argparse
import json

from ..errors import UsageError
from .options import path, report_file

REPEATS = 9
"""Timed rounds of --profile."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `arm-sr models`."""
    parser.add_argument("names", nargs="*", metavar="MODEL", help="names or directories (default: all that come along)")
    parser.add_argument("--profile", action="store_true", help="measure every sub-net and print a table in Markdown")
    add = parser.add_argument_group("with --profile").add_argument
    add("--data", type=path, nargs="+", default=[], metavar="HR_DIR", help="folders of ground truth for PSNR and SSIM")
    add("--repeats", type=int, metavar="N", help=f"timed rounds (default {REPEATS})")
    add("--json", type=path, metavar="FILE", help="write the figures here too")


def run(args: argparse.Namespace) -> int:
    """Print a line for each sub-net; returns the exit status."""
    from ..models import list_models, load_model

    if args.profile:
        return _profile(args)
    if args.data or args.json or args.repeats is not None:
        raise UsageError("--data, --json and --repeats need --profile")
    columns = ("model", 12), ("scale", 5), ("branch", 8), ("params", 8), ("MACs a LR pixel", 15), ("share", 6)
    print("  ".join(f"{title:>{wide}}" for title, wide in (*columns, ("receptive radius", 16))))
    for name in args.names or list_models():
        card = load_model(name)
        largest = card.subnets[card.largest].macs_per_lr_pixel
        print(f"{card.name:>12}  {card.scale:>5}  {'bicubic':>8}  {0:>8}  {0:>15}  {0:>6.1%}  {2:>16}")
        for branch in card.branches[1:]:
            subnet = card.subnets[branch]
            print(
                f"{card.name:>12}  {card.scale:>5}  {branch:>8}  {subnet.params:>8}  {subnet.macs_per_lr_pixel:>15}  "
                f"{subnet.macs_per_lr_pixel / largest:>6.1%}  {subnet.receptive_radius:>16}"
            )
    return 0


def _profile(args: argparse.Namespace) -> int:
    from ..atomic import write_bytes
    from ..calibration import machine
    from ..evaluation.profile import markdown, profile
    from ..models import list_models

    repeats = REPEATS if args.repeats is None else args.repeats
    if repeats < 1:
        raise UsageError(f"--repeats must be at least 1, not {repeats}")
    report = report_file(args.json)
    rows = [row for name in args.names or list_models() for row in profile(name, args.data, repeats)]
    if report:
        write_bytes(report, (json.dumps({"machine": machine(), "rows": rows}, indent=2) + "\n").encode())
    print(markdown(rows))
    print(f"\nResult of 1280x720, one pass, medians of {repeats}; {machine()}")
    return 0
