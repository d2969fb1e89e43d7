#!/usr/bin/env python3
"""`arm-sr sweep` by its tool name: tools/sweep.py HR_DIR -o OUT_DIR."""

import sys

from arm_sr.cli import main

if __name__ == "__main__":
    sys.exit(main(["sweep", *sys.argv[1:]]))
