#!/usr/bin/env python3
"""Build the edge-to-PSNR table of a model from pictures that it never saw.

    tools/build_lut.py --model plain-x4 --data photos/ -o lut/plain-x4.json

DATA is the training folder: every tenth file of it, kept out of training, is measured (--all-files takes
every file). Prints the table and the rank correlation of score and PSNR, and draws OUT.png beside OUT.json.
"""

import argparse
import logging
from pathlib import Path

from tqdm import tqdm

from arm_sr.atomic import writable
from arm_sr.backends import BACKENDS, open_backend
from arm_sr.cli import run_tool
from arm_sr.edges import SCORES
from arm_sr.errors import ArtefactError
from arm_sr.evaluation.pairs import readable_pairs
from arm_sr.evaluation.table import build_table, measure_patches
from arm_sr.evaluation.table_plot import draw_table
from arm_sr.imaging.folders import list_images, split_hold_out
from arm_sr.lut import place_of_table
from arm_sr.models import load_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", default="plain-x4", help="name or directory of the model")
    parser.add_argument("--data", type=Path, required=True, help="the folder of training pictures")
    parser.add_argument("--all-files", action="store_true", help="measure every file, for a folder never trained on")
    parser.add_argument("-o", "--output", type=Path, help="the table, a .json file (default: the model's place for it)")
    parser.add_argument("--score", choices=SCORES, default="laplacian4-energy", help="edge score (default %(default)s)")
    parser.add_argument("--bins", type=int, default=64, help="bins (default %(default)s)")
    parser.add_argument("--patch", type=int, default=32, help="side of a patch in LR pixels (default %(default)s)")
    parser.add_argument("--stride", type=int, default=8, help="LR pixels between patches (default %(default)s)")
    parser.add_argument("--arm", action="store_true", help="ARM's table: laplacian-mean, 30 bins of equal width")
    parser.add_argument("--backend", default=BACKENDS[0], help="engine (default %(default)s)")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if min(args.bins, args.patch, args.stride) < 1:
        parser.error("--bins, --patch and --stride must be 1 or more")
    score, bins = ("laplacian-mean", 30) if args.arm else (args.score, args.bins)
    card = load_model(args.model)
    output = args.output or place_of_table(card)
    if args.arm and not args.output:
        output = output.with_name(f"{output.stem}.arm.json")
    if not writable(output):
        raise ArtefactError(f"{output}: cannot be written there")
    files = list_images(args.data)
    if not args.all_files:
        files = split_hold_out(files)[1]
        if not files:
            raise ArtefactError(f"{args.data}: fewer than ten pictures, so none is held out; add --all-files")
    bar = tqdm(files, desc="measuring", unit="picture")
    pairs = readable_pairs(bar, card.scale)
    samples = measure_patches(card, open_backend(args.backend, card), pairs, args.patch, args.stride, [score])
    which = "all files" if args.all_files else "every tenth file"
    table = build_table(card, samples, score=score, patch=args.patch, bins=bins, equal_width=args.arm,
                        data=f"{args.data.name}, {which}")  # fmt: skip
    table.save(output)
    draw_table(table, samples, output.with_suffix(".png"))
    print(f"{'score from':>11} {'to':>9} {'patches':>8}  " + "  ".join(f"{b:>8}" for b in table.branches) + "   dB")
    for i, count in enumerate(table.counts):
        row = "  ".join(f"{value:8.3f}" for value in table.psnr[i])
        print(f"{table.edges[i]:11.3f} {table.edges[i + 1]:9.3f} {count:8d}  {row}")
    print(f"rank correlation of {score} and PSNR: {table.rank_correlation}")
    print(f"{table.data['patches']} patches of {table.data['pictures']} pictures -> {output}")


if __name__ == "__main__":
    run_tool(main)
