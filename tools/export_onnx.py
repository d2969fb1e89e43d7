#!/usr/bin/env python3
"""Write the card and the ONNX files of every sub-net from a finished or running training run.

    tools/export_onnx.py runs/plain-x4 --data photos/ -o checkpoints/plain-x4

Takes the averaged weights of the run's last state. Building the table comes next: tools/build_lut.py.
"""

import argparse
import logging
from pathlib import Path

from arm_sr.cli import run_tool
from arm_sr.supernet.export import write_checkpoint
from arm_sr.training.config import Recipe
from arm_sr.training.data import describe_sources
from arm_sr.training.loop import averaged_network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of the training run")
    parser.add_argument("--data", type=Path, required=True, help="folder it was trained on, for the card")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the model directory")
    args = parser.parse_args()
    recipe = Recipe.load(args.run / "recipe.json")
    recipe.copy_start(args.run, args.output)
    card = write_checkpoint(averaged_network(args.run, recipe), recipe, describe_sources(args.data), args.output)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.info("%s: %s", card.folder, ", ".join(card.branches))


if __name__ == "__main__":
    run_tool(main)
