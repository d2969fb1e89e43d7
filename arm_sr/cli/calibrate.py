"""Measure what every branch costs on this machine, for budgets in milliseconds.

The costs are kept per machine, engine and model; let the machine be idle.
"""

import argparse
from pathlib import Path

from .options import add_engine, add_talk


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `arm-sr calibrate`."""
    add_engine(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the cost table here too, for --cost")
    add_talk(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, keep and print the costs; returns the exit status."""
    from ..backends import open_backend
    from ..calibration import calibrate
    from ..models import load_model

    card = load_model(args.model)
    table = calibrate(card, open_backend(args.backend, card))
    if args.output:
        table.save(args.output)
    print(f"{card.name}, {table.source}")
    print(f"{'branch':>8}  {'ms a call':>9}  {'ms for 320x180':>14}")
    for index, name in enumerate(table.branches):
        print(f"{name:>8}  {table.per_call[index]:9.3f}  {table.one_pass(index, 320 * 180):14.2f}")
    return 0
