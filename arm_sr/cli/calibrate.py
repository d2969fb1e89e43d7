"""Measure what every branch costs on this machine, for budgets in milliseconds.

The costs are kept per machine, engine and model; let the machine be idle.
"""

import argparse
from pathlib import Path

from .options import add_model, add_talk, open_upscaler


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `arm-sr calibrate`."""
    add_model(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the cost table here too, for --cost")
    add_talk(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, keep and print the costs; returns the exit status."""
    from ..calibration import cache_path, calibrate
    from ..errors import ImageError

    upscaler = open_upscaler(args)
    table = calibrate(upscaler.card, upscaler.backend)
    if args.output:
        try:
            table.save(args.output)
        except OSError as error:
            raise ImageError(f"{args.output}: cannot be written ({error.strerror})") from error
    print(f"{upscaler.card.name}, {table.source}")
    print(f"{'branch':>8}  {'ms a call':>9}  {'ms for 320x180':>14}")
    for index, name in enumerate(table.branches):
        print(f"{name:>8}  {table.per_call[index]:9.3f}  {table.one_pass(index, 320 * 180):14.2f}")
    if not args.quiet:
        print(f"kept in {cache_path(upscaler.card, upscaler.backend)}")
    return 0
