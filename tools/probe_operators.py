#!/usr/bin/env python3
"""Which operators the TPU's compiler takes, and which it computes wrongly: measured in its simulator, for all chips.

    tools/probe_operators.py
    tools/probe_operators.py --only "Resize cubic half_pixel" Clip --table own.json
    tools/probe_operators.py --markdown > docs/tpu-operators.md

Networks of one operator are compiled for each chip and precision, and what the simulator computes is held against
ONNX Runtime. Only what TABLE lacks is tried, so that a run can be stopped and go on; it takes about half an hour. The
compiler must be installed (tools/compile_bmodel.py --setup).
"""

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path

from arm_sr.cli import run_tool
from arm_sr.errors import UsageError
from arm_sr.tpu.compiler import Compiler, environment_folder
from arm_sr.tpu.operator_table import TABLE, Measured, Table, markdown
from arm_sr.tpu.probe import probe_all
from arm_sr.tpu.probe_nets import NETS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=TABLE, help="file to complete (default: the package's)")
    parser.add_argument("--only", nargs="+", metavar="NAME", default=list(NETS), help="these networks")
    parser.add_argument("--work", type=Path, help="folder for the compiler's files (default: a temporary one)")
    parser.add_argument("--together", type=int, default=10, help="networks in one file (default %(default)s)")
    parser.add_argument("--markdown", action="store_true", help="print the table instead")
    args = parser.parse_args()
    if unknown := [name for name in args.only if name not in NETS]:
        raise UsageError(f"--only: there is no network '{unknown[0]}'; there are {', '.join(NETS)}")
    if args.together < 1:
        raise UsageError(f"--together must be 1 or more, not {args.together}")
    table = Table(args.table)
    if args.markdown:
        print(markdown(table))
        return

    def progress(name: str, results: Mapping[str, Measured]) -> None:
        verdicts = "  ".join(
            each.verdict if each.error is None else f"{each.verdict} {each.error:.2g}" for each in results.values()
        )
        print(f"{name:40} {verdicts}", flush=True)

    with tempfile.TemporaryDirectory() as temporary:
        work = (args.work or Path(temporary)).resolve()
        probe_all(args.only, Compiler(environment_folder()), table, work, args.together, progress)


if __name__ == "__main__":
    run_tool(main)
