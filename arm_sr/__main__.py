"""`python -m arm_sr` is the command `arm-sr`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
