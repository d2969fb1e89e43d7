#!/usr/bin/env python3
"""Compile a model's sub-nets for Sophgo's TPUs, and check them in the simulator.

    tools/compile_bmodel.py --setup                                 # the compiler, in a Python 3.10 of its own (2 GB)
    tools/compile_bmodel.py --model plain-x4 --data photos/ --tile 48 96 -o bmodels/plain-x4      # for all chips
    tools/compile_bmodel.py --chip bm1684x bm1688 --precision INT8 --data photos/ -o bmodels/int8
    tools/compile_bmodel.py --check other.onnx --chip bm1684        # which of its operators that chip has

DATA are photographs: half of them (every second file) calibrate INT8, on crops from flat to busy, and the others check
every net against the network in floats. -o gets the bmodels, `bmodels.json`, a cost table and a page of profiles for
each chip and precision. What is there already is not compiled again. A chip gets those of the precisions that it has.
"""

import argparse
import logging
import sys
from pathlib import Path

from arm_sr.cli import run_tool
from arm_sr.errors import UsageError
from arm_sr.tpu.chips import CHIPS
from arm_sr.tpu.compiler import Compiler, environment_folder, set_up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--setup", action="store_true", help="install the compiler")
    what.add_argument("--check", type=Path, metavar="FILE.onnx", help="tell which operators a chip lacks")
    parser.add_argument("-m", "--model", default="plain-x4", help="name or directory of the model")
    parser.add_argument("--data", type=Path, help="folder of HR photographs that were not trained on")
    parser.add_argument("--chip", nargs="+", choices=CHIPS, default=list(CHIPS), help="chips (default: all)")
    precisions = list(dict.fromkeys(precision for chip in CHIPS.values() for precision in chip.precisions))
    parser.add_argument("--precision", nargs="+", choices=precisions, default=[],
                        help="arithmetic (default: F16, or F32 where there is no F16, and INT8)")  # fmt: skip
    parser.add_argument("--tile", nargs="+", type=tile, default=[(48, 48)], metavar="SIDE|HxW",
                        help="sizes of tiles in LR pixels; the first is checked most (default: 48)")  # fmt: skip
    parser.add_argument("--environment", type=Path, default=environment_folder(),
                        help="of the compiler (default: %(default)s)")  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="gets the bmodels")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if args.setup:
        logging.info("%s is installed in %s", set_up(args.environment).version, args.environment)
        return
    if args.check:
        from arm_sr.tpu.check import check_model
        from arm_sr.tpu.check import report as told

        findings = [finding for chip in args.chip for precision in args.precision or [None]
                    for finding in check_model(args.check, chip, precision)]  # fmt: skip
        print(told(findings))
        sys.exit(1 if any(finding.fault for finding in findings) else 0)
    if not args.data or not args.output:
        raise UsageError("--data, pictures to calibrate and check on, and -o are needed")
    from arm_sr.tpu.build import compile_model, report

    kinds = [(chip, precision) for chip in args.chip
             for precision in args.precision or (CHIPS[chip].floats, "INT8")
             if precision in CHIPS[chip].precisions]  # fmt: skip
    if not kinds:
        raise UsageError(f"none of the chips {', '.join(args.chip)} has {', '.join(args.precision)}")
    built = compile_model(Compiler(args.environment), args.model, args.data, kinds, args.tile, args.output)
    print(report(built))


def tile(text: str) -> tuple[int, int]:
    """Height and width from `48` or `48x64`."""
    sides = [int(side) for side in text.split("x")]
    if len(sides) > 2 or min(sides) < 8:
        raise ValueError(text)
    return sides[0], sides[-1]


if __name__ == "__main__":
    run_tool(main)
