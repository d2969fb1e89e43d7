"""PSNR and SSIM of one setting on pictures with ground truth.

LR pictures are made from the HR ones by the protocol: antialiased bicubic, a border of `scale` pixels
cropped, PSNR on Y of BT.601 and on RGB.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from .options import add_choice, add_model, add_talk, choice_of, measure_first, open_upscaler, report_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `arm-sr evaluate`."""
    parser.add_argument("folder", type=Path, metavar="HR_DIR", help="folder of ground-truth pictures")
    add_model(parser)
    add_choice(parser)
    parser.add_argument("--json", metavar="FILE|-", help="write the figures as JSON; - is stdout")
    add_talk(parser, verbose="print the figures of every picture too")


def run(args: argparse.Namespace) -> int:
    """Print the figures; returns the exit status."""
    from tqdm import tqdm

    from ..atomic import write_bytes
    from ..errors import ImageError
    from ..evaluation.pairs import read_pairs
    from ..evaluation.quality import finite, score_picture, summarise
    from ..imaging.folders import list_images

    how, report_to = choice_of(args), report_file(args.json)
    files = list_images(args.folder)
    upscaler = open_upscaler(args)
    upscaler.load()  # what is done once is no part of the time of the first picture
    measure_first(args, upscaler)
    scores, failed = [], 0
    for file in tqdm(files, desc="evaluate", unit="picture", disable=True if args.quiet else None):
        try:
            (pair,) = read_pairs([file], upscaler.scale)
        except ImageError as error:
            failed += 1
            print(f"arm-sr: error: {error}", file=sys.stderr)
            continue
        scores.append(score_picture(upscaler, pair, how))
        if args.verbose:
            last = scores[-1]
            print(f"{last.picture}: Y {last.psnr_y:.3f} dB, RGB {last.psnr_rgb:.3f} dB", file=sys.stderr)
    if not scores:
        return 1
    figures = summarise(scores)
    if args.json:
        report = {
            "model": upscaler.card.name,
            "data": args.folder.name,
            "setting": how or {"budget": "max"},
            **finite(figures),
            "pictures": [finite(dataclasses.asdict(score)) for score in scores],
        }
        text = json.dumps(report, indent=2) + "\n"
        if report_to is None:
            print(text, end="")
        else:
            write_bytes(report_to, text.encode())
    if args.json != "-":
        print(
            f"{upscaler.card.name} on {len(scores)} pictures of {args.folder.name}: PSNR Y {figures['psnr_y']:.3f} dB, "
            f"RGB {figures['psnr_rgb']:.3f} dB, RGB over all pixels {figures['psnr_rgb_all']:.3f} dB, "
            f"SSIM Y {figures['ssim_y']:.4f}; {100 * figures['macs_share']:.1f}% of the MACs of the largest sub-net, "
            f"{figures['ms']:.0f} ms"
        )
    return 1 if failed else 0
