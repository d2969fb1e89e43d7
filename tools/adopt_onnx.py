#!/usr/bin/env python3
"""Make a model directory of one or more ONNX super-resolution networks, each of which becomes a branch.

    tools/adopt_onnx.py small.onnx large.onnx -o models/mine
    tools/build_lut.py -m models/mine --data photos/
    arm-sr upscale photo.jpg -m models/mine -b 40%

Networks must be for RGB and have one scale; they take floats (0..1 or 0..255) or uint8, of any size or one. What they
take, their scale, what they cost and how much context a tile needs is found by running them on a test picture. One that
looks at the whole picture is refused: tiles of it would not fit together.
"""

import argparse
import logging
from pathlib import Path

from arm_sr.adopt import adopt
from arm_sr.cli import run_tool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", help="ONNX files; their names are those of the branches")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the model directory; its name is the model's")
    parser.add_argument("--layout", choices=("nchw", "nhwc"), help="order of the axes (default: what works)")
    parser.add_argument("--white", type=int, choices=(1, 255), help="white in floats (default: what works better)")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    card = adopt(args.files, args.output, args.layout, args.white)
    logging.info("%s: x%d, %s, halo %d", card.folder, card.scale, ", ".join(card.branches), card.halo)


if __name__ == "__main__":
    run_tool(main)
