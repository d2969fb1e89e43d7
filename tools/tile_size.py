#!/usr/bin/env python3
"""The shape of tile for a device that takes only one, by least wasted area and by least cost.

    tools/tile_size.py --data photos/ --overlap 6
    tools/tile_size.py --sizes 510x340,512x512 --min 32 --max 256 --multiple 16 --cost tpu.json

The pictures of DATA, or --sizes (width x height), are taken as LR pictures that go through the sub-net --width tile
by tile. Wasted area: sum over the pictures of blank_ratio * (tiles + 1), where blank_ratio is the share of the tiles'
area that is not the picture's, by brute force and by two solvers of SciPy. Cost: sum of tiles * (cost of a call +
cost of a pixel * area), by the table --cost, else as measured on this machine. Prints the tile of each, and the sizes
of picture where, taken alone, the two disagree. All sides are in LR pixels, width x height.
"""

import argparse
import dataclasses
import json
import logging
import re
from pathlib import Path

import numpy as np
from tqdm import tqdm

from arm_sr.atomic import write_bytes
from arm_sr.calibration import cached_or_measured, open_engine
from arm_sr.cli import run_tool
from arm_sr.cli.options import report_file
from arm_sr.cost import CostTable
from arm_sr.errors import UsageError
from arm_sr.imaging.folders import list_images
from arm_sr.imaging.io import read_image
from arm_sr.models import load_model
from arm_sr.tile_size import SOLVERS, allowed_sides, disagreements, inference_cost, search, wasted_area


def parse_sizes(text: str) -> list[tuple[int, int]]:
    """`510x340,512x512`, width x height, to heights and widths; UsageError when it is not that."""
    pairs = [re.fullmatch(r"\s*([1-9]\d*)x([1-9]\d*)\s*", part) for part in text.split(",")]
    if None in pairs:
        raise UsageError(f"--sizes must be like 510x340,512x512 (width x height), not '{text}'")
    return [(int(pair[2]), int(pair[1])) for pair in pairs if pair]


def shown(sides: tuple[int, int]) -> str:
    return f"{sides[1]}x{sides[0]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    pictures = parser.add_mutually_exclusive_group(required=True)
    pictures.add_argument("--data", type=Path, help="folder of LR pictures")
    pictures.add_argument("--sizes", help="sizes of LR pictures instead: 510x340,...")
    parser.add_argument("--min", type=int, default=16, help="shortest side of a tile (default %(default)s)")
    parser.add_argument("--max", type=int, default=256, help="longest side of a tile (default %(default)s)")
    parser.add_argument("--multiple", type=int, default=8, help="what sides are multiples of (default %(default)s)")
    parser.add_argument("--overlap", type=int, default=0, help="pixels that neighbours share (default %(default)s)")
    parser.add_argument("-m", "--model", default="plain-x4", help="name or directory of the model")
    parser.add_argument("--width", help="sub-net (default: the largest)")
    parser.add_argument("--cost", type=Path, metavar="FILE", help="cost table of a device, instead of measuring here")
    parser.add_argument("--backend", default="auto", help="engine that is measured (default %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()
    report = report_file(args.json)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sides = allowed_sides(args.min, args.max, args.multiple, args.overlap)
    sizes = parse_sizes(args.sizes) if args.sizes is not None else []
    card = load_model(args.model)
    width = args.width or card.largest
    if width not in card.subnets:
        raise UsageError(f"--width must be one of {', '.join(card.branches[1:])}, not '{width}'")
    if args.data:
        bar = tqdm(list_images(args.data), desc="sizes", unit="picture", leave=False, disable=None)
        sizes = [read_image(file).pixels.shape[:2] for file in bar]
    table = CostTable.load(args.cost, card) if args.cost else cached_or_measured(card, open_engine(args.backend, card))
    branch = table.branches.index(width)
    per_call, per_pixel = float(table.per_call[branch]), float(table.per_pixel[branch])

    area = wasted_area(np.array(sizes), args.overlap)
    cost = inference_cost(np.array(sizes), per_call, per_pixel, args.overlap)
    by_area, by_cost = [search(area, sides, solver) for solver in SOLVERS], search(cost, sides)
    differ = list(disagreements(sizes, sides, per_call, per_pixel, args.overlap))

    print(f"{len(sizes)} pictures; tiles {sides[-1]} to {sides[0]} by {args.multiple}, overlap {args.overlap}")
    print(f"cost in {table.unit} of {width}: {per_call:g} a call + {per_pixel:g} a pixel ({table.source})")
    for title, results in (("least wasted area", by_area), ("least cost", [by_cost])):
        print(f"\n{title:>26} {'tile':>9} {'value':>12} {'evaluations':>11} {'seconds':>8} {'cost':>12}")
        for found in results:
            figures = f"{found.value:12.6g} {found.evaluations:11d} {found.seconds:8.3f} {cost(*found.tile):12.6g}"
            print(f"{found.solver:>26} {shown(found.tile):>9} {figures}")
    ratio = float(cost(*by_area[0].tile)) / by_cost.value if by_cost.value else 1.0
    print(f"\nfor all pictures the tile of least wasted area costs {ratio:.3f} times the least")
    print(f"alone they disagree for {len(differ)} of {len(set(sizes))} sizes of picture")
    if differ:
        print(f"{'picture':>11} {'by area':>9} {'cost':>12} {'by cost':>9} {'cost':>12} {'ratio':>7}")
    for row in differ:
        print(
            f"{shown(row.size):>11} {shown(row.by_area):>9} {row.area_cost:12.6g} {shown(row.by_cost):>9} "
            f"{row.least_cost:12.6g} {row.area_cost / row.least_cost:7.3f}"
        )
    if report:
        about = {"model": card.name, "width": width, "unit": table.unit, "source": table.source, "per_call": per_call,
                 "per_pixel": per_pixel, "overlap": args.overlap, "sides": sides.tolist(), "sizes": sizes}  # fmt: skip
        tables = {"by_area": [dataclasses.asdict(found) for found in by_area], "by_cost": dataclasses.asdict(by_cost),
                  "disagreements": [dataclasses.asdict(row) for row in differ]}  # fmt: skip
        write_bytes(report, (json.dumps({**about, **tables}, indent=2) + "\n").encode())


if __name__ == "__main__":
    run_tool(main)
