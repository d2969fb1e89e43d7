"""Measure what every branch costs on this machine, for budgets in milliseconds and the choice of the engine.

Without --backend every engine that is installed is measured, each for about ten seconds. Planning and stitching are
charged with the interpolation. The costs are kept per machine, engine and model; let the machine be idle.
"""

import argparse

from .options import add_engine, add_talk, path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `arm-sr calibrate`."""
    add_engine(parser)
    parser.add_argument("-o", "--output", type=path, metavar="FILE", help="write the cost table here too, for --cost")
    add_talk(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, keep and print the costs; returns the exit status."""
    from ..backends import open_backend
    from ..calibration import AUTO, TYPICAL, calibrate, calibrate_all, fastest, loses_little
    from ..errors import BackendError
    from ..models import load_model

    card = load_model(args.model)
    if args.backend == AUTO and args.bmodels is None:
        tables = calibrate_all(card)
        chosen = fastest(card, args.precision)
        if chosen not in tables:
            raise BackendError(f"no engine here has the precision {args.precision or 'that auto takes'}")
    else:
        backend = open_backend(args.backend, card, args.precision, bmodels=args.bmodels)
        chosen = backend.name, backend.precision
        tables = {chosen: calibrate(card, backend)}
    for engine, table in tables.items():
        mark = ""
        if args.backend == AUTO and engine == chosen:
            mark = " (auto)"
        elif not loses_little(card, *engine):
            mark = " (not for auto: by the card it loses too much, or nobody knows how much)"
        print(f"{card.name}, {table.source}{mark}")
        print(f"{'branch':>8}  {'ms a call':>9}  {'ms for 320x180':>14}")
        for index, name in enumerate(table.branches):
            print(f"{name:>8}  {table.per_call[index]:9.3f}  {table.one_pass(index, TYPICAL):14.2f}")
    if args.output:
        tables[chosen].save(args.output)
    return 0
