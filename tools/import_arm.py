#!/usr/bin/env python3
"""Make a model directory of a state file with the weights of the reference repository's ARM.

    tools/import_arm.py ARM-FSRCNN.pth -o models/arm-fsrcnn
    tools/build_lut.py -m models/arm-fsrcnn --data photos/
    arm-sr upscale photo.jpg -m models/arm-fsrcnn -b 40%

FILE holds the parameters of ARM's FSRCNN, CARN or SRResNet, as PyTorch saves them; nothing in it is executed. Sub-nets
get the widths of the paper, or those given.
"""

import argparse
import logging
from pathlib import Path

from arm_sr.cli import run_tool
from arm_sr.errors import ArtefactError, UsageError
from arm_sr.models import digest
from arm_sr.supernet.arm_weights import read_state, supernet_of
from arm_sr.supernet.export import write_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="the state file")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the model directory; its name is the model's")
    parser.add_argument("--widths", type=int, nargs="+", help="of the sub-nets (default: the paper's)")
    args = parser.parse_args()
    if args.widths and min(args.widths) < 1:
        raise UsageError("--widths must be 1 or more")
    state = read_state(args.file)
    try:
        backbone, net = supernet_of(state, tuple(dict.fromkeys(args.widths)) if args.widths else None)
    except ArtefactError as error:
        raise ArtefactError(f"{args.file}: {error}") from error
    origin = {"imported": args.file.name, "sha256": digest(args.file.read_bytes())}
    card = write_model(net, args.output.resolve().name, backbone, origin, args.output)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.info("%s: %s x%d, %s", card.folder, backbone, card.scale, ", ".join(card.branches))


if __name__ == "__main__":
    run_tool(main)
