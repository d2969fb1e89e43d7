"""Tell patch by patch why a picture is computed as it is.

Without --region: the plan, how the patches of each branch look, and a map with a character a patch. With it, for every
patch there: its edge score and row of the table, the PSNR and squared error that are expected of each branch, what
each costs, and the branch it has with the reason. Nothing is computed.
"""

import argparse
from typing import TYPE_CHECKING

from .options import add_choice, add_model, choice_of, open_upscaler, path

if TYPE_CHECKING:
    from ..explain import Explanation, PatchView

WIDEST = 120
"""Characters of a row of the map; of a larger picture every second, third, ... patch is shown."""
LETTERS = ".123456789abcdefghijklmnopqrstuvwxyz"
"""Of the branches in the map."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `arm-sr explain`."""
    parser.add_argument("image", type=path, metavar="IMAGE", help="picture file")
    parser.add_argument("--region", type=_region, metavar="X,Y,W,H", help="left, top, width, height in LR pixels")
    add_model(parser)
    add_choice(parser)


def run(args: argparse.Namespace) -> int:
    """Print the explanation; returns the exit status."""
    from ..channels import planning_picture
    from ..errors import UsageError
    from ..explain import Explanation
    from ..imaging.io import read_image

    how = choice_of(args)
    if args.deadline:
        raise UsageError("a deadline has no plan to explain: what is computed depends on the clock; give a budget")
    upscaler = open_upscaler(args)
    rgb = planning_picture(read_image(args.image).planes)
    height, width = rgb.shape[:2]
    if args.region:
        left, top, wide, high = args.region
        if left + wide > width or top + high > height:
            region = ",".join(map(str, args.region))
            raise UsageError(f"--region {region} is not within the {width}x{height} pixels of {args.image}")
    explanation = Explanation(upscaler.planner, rgb, **how)
    print(explanation.plan)
    if explanation.price is not None:
        unit = "dB of a patch" if explanation.plan.objective == "psnr" else "squared error"
        scale, per = (1e6, "MMAC") if explanation.plan.unit == "MAC" else (1.0, "ms")
        print(f"the last upgrade saved {explanation.price * scale:.4g} of {unit} for a {per}")
    if args.region:
        for patch in explanation.patches(args.region):
            print()
            print(_describe(explanation, patch))
    else:
        print()
        print(_summary(explanation))
    return 0


def _summary(explanation: "Explanation") -> str:
    """The branches, what the scores of their patches are, and the map."""
    import numpy as np

    branch_map, scores = explanation.branch_map, explanation.scores
    counts = np.bincount(branch_map.ravel(), minlength=len(explanation.plan.branches)).tolist()
    lines = [f"{'':2}{'branch':<10}{'patches':>8}   edge scores (least, median, most)"]
    for number, (name, count) in enumerate(zip(explanation.plan.branches, counts, strict=True)):
        line = f"{LETTERS[number]:2}{name:<10}{count:>8}"
        if count:
            own = scores[branch_map == number]
            line += f"   {own.min():.1f}, {np.median(own):.1f}, {own.max():.1f}"
        lines.append(line)
    step, side = -(-branch_map.shape[1] // WIDEST), explanation.grid.patch
    shown = branch_map[::step, ::step]
    every = "" if step == 1 else f", every {step}th of them along both axes"
    lines += ["", f"patches of {side}x{side} LR pixels{every}:"]
    lines += ["".join(LETTERS[number] for number in row) for row in shown]
    return "\n".join(lines)


def _describe(explanation: "Explanation", patch: "PatchView") -> str:
    left, top, width, height = patch.box
    scale, unit = (1e6, "MMAC") if explanation.plan.unit == "MAC" else (1.0, "ms")
    lines = [
        f"patch {patch.row},{patch.col} at {left},{top}, {width}x{height}: edge score {patch.score:.2f}, row "
        f"{patch.table_row + 1} of {explanation.table_length} of the table",
        f"    {'branch':<10}{'table dB':>10}{'expected dB':>13}{'squared error':>15}{unit:>10}",
    ]
    for number, branch in enumerate(patch.branches):
        mark = "->" if number == patch.branch else "  "
        lines.append(
            f" {mark} {branch.name:<10}{branch.table_psnr:>10.2f}{branch.psnr:>13.2f}{branch.mse:>15.2f}"
            f"{branch.cost / scale:>10.2f}"
        )
    lines.append(f"    {patch.reason}")
    return "\n".join(lines)


def _region(text: str) -> tuple[int, int, int, int]:
    parts = text.split(",")
    if len(parts) != 4 or not all(part.isascii() and part.isdigit() for part in parts):
        raise argparse.ArgumentTypeError(f"'{text}' must be four whole numbers, left,top,width,height")
    left, top, width, height = map(int, parts)
    if not width or not height:
        raise argparse.ArgumentTypeError(f"'{text}' must be at least a pixel wide and high")
    return left, top, width, height
