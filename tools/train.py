#!/usr/bin/env python3
"""Train a supernet from a recipe, or go on where a killed run stopped.

    tools/train.py checkpoints/plain-x4/recipe.json --data photos/ --val val/ -o runs/plain-x4

Writes the averaged weights, the card and the ONNX files of every sub-net into the output folder when it is done.
"""

import argparse
import logging
from pathlib import Path

from arm_sr.cli import run_tool
from arm_sr.imaging.folders import list_images, split_hold_out
from arm_sr.supernet.export import write_checkpoint
from arm_sr.training.config import Recipe
from arm_sr.training.data import CropData, describe_sources
from arm_sr.training.loop import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, help="recipe as JSON")
    parser.add_argument("--data", type=Path, required=True, help="folder of training pictures; every tenth is held out")
    parser.add_argument("--val", type=Path, required=True, help="folder of pictures for the validation lines")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the run")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    recipe = Recipe.load(args.recipe)
    files, _ = split_hold_out(list_images(args.data))
    data = CropData(files, recipe.scale, recipe.patch, recipe.sizes, recipe.colours)
    logging.info("%s: %d pictures to train on, counted at every size", recipe.name, len(data.pictures))
    sources = describe_sources(args.data)
    recipe.copy_start(args.recipe.parent, args.output)
    net = train(recipe, data, list_images(args.val), args.output)
    write_checkpoint(net, recipe, sources, args.output)


if __name__ == "__main__":
    run_tool(main)
