#!/usr/bin/env python3
"""The pristine model of NIQE, from photographs without visible faults.

    tools/fit_niqe.py --data photos/ -o arm_sr/imaging/niqe.json

All pictures of DATA are used; of each the blocks of 96x96 pixels that are over 0.75 as sharp as its sharpest one.
Pictures under 96 pixels, and flat ones, are left out and counted. The file names the sources and licences in the
manifest.csv of DATA. The model that comes with the package was fitted on all 953 training photographs of its networks.
"""

import argparse
from pathlib import Path

from tqdm import tqdm

from arm_sr.atomic import writable
from arm_sr.cli import run_tool
from arm_sr.errors import UsageError
from arm_sr.imaging.folders import list_images
from arm_sr.imaging.io import read_image
from arm_sr.imaging.niqe import PristineModel, sharp_features
from arm_sr.training.data import describe_sources


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of photographs")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the model, as JSON")
    args = parser.parse_args()
    if not writable(args.output):
        raise UsageError(f"-o {args.output}: no file can be written there; name another place")
    bar = tqdm(list_images(args.data), desc="pictures", unit="picture", disable=None)
    features = [sharp_features(read_image(file).rgb8()) for file in bar]
    used = [blocks for blocks in features if len(blocks)]
    left_out = len(features) - len(used)
    data = {"pictures": len(used), "left_out": left_out, "sources": describe_sources(args.data)}
    try:
        model = PristineModel.fit(used, data)
    except ValueError as error:
        raise UsageError(f"--data {args.data}: {error}; give more photographs") from error
    model.save(args.output)
    print(f"{args.output}: {len(used)} pictures, {left_out} left out, {model.data['blocks']} blocks")


if __name__ == "__main__":
    run_tool(main)
