"""PSNR and SSIM of one setting on pictures with ground truth.

LR pictures are made from the HR ones by the protocol: antialiased bicubic, a border of `scale` pixels
cropped, PSNR on Y of BT.601 and on RGB. NIQE, on Y too, looks at the SR pictures alone, lower is better; with it
comes the score sqrt(7 - NIQE) / seconds * 200 of the mean NIQE and the mean time of upscaling a picture, 0 where
NIQE is over 7.
"""

import argparse
import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Any

from .options import (
    add_choice,
    add_model,
    add_sharpen,
    add_talk,
    choice_of,
    measure_first,
    open_upscaler,
    path,
    report_file,
)

if TYPE_CHECKING:
    from ..evaluation.quality import Score


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `arm-sr evaluate`."""
    parser.add_argument("folder", type=path, metavar="HR_DIR", help="folder of ground-truth pictures")
    add_model(parser)
    add_choice(parser)
    add_sharpen(parser)
    parser.add_argument("--niqe", action="store_true", help="NIQE and the contest's score of it and of the time too")
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
            score = score_picture(upscaler, pair, how, sharpening=args.sharpen, with_niqe=args.niqe)
        except ImageError as error:
            failed += 1
            print(f"arm-sr: error: {error}", file=sys.stderr)
            continue
        scores.append(score)
        if args.verbose:
            text = f"{score.picture}: Y {score.psnr_y:.3f} dB, RGB {score.psnr_rgb:.3f} dB"
            print(text if score.niqe is None else f"{text}, NIQE {score.niqe:.3f}", file=sys.stderr)
    if not scores:
        return 1
    figures = summarise(scores)
    if args.json:
        report = {
            "model": upscaler.card.name,
            "data": args.folder.name,
            "setting": how or {"budget": "max"},
            "sharpen": args.sharpen,
            **finite(figures),
            "pictures": [_of_picture(score) for score in scores],
        }
        text = json.dumps(report, indent=2) + "\n"
        if report_to is None:
            print(text, end="")
        else:
            write_bytes(report_to, text.encode())
    if args.json != "-":
        sharpened = f", sharpened by {args.sharpen}" if args.sharpen else ""
        print(
            f"{upscaler.card.name} on {len(scores)} pictures of {args.folder.name}{sharpened}: "
            f"PSNR Y {figures['psnr_y']:.3f} dB, "
            f"RGB {figures['psnr_rgb']:.3f} dB, RGB over all pixels {figures['psnr_rgb_all']:.3f} dB, "
            f"SSIM Y {figures['ssim_y']:.4f}; {100 * figures['macs_share']:.1f}% of the MACs of the largest sub-net, "
            f"{figures['ms']:.0f} ms"
            + (f"; NIQE {figures['niqe']:.3f}, contest score {figures['contest_score']:.1f}" if args.niqe else "")
        )
    return 1 if failed else 0


def _of_picture(score: "Score") -> dict[str, Any]:
    """The figures of a picture for JSON."""
    from ..evaluation.quality import contest_score, finite

    figures = dataclasses.asdict(score)
    if score.niqe is None:
        del figures["niqe"]
    else:
        figures["contest_score"] = contest_score(score.niqe, score.ms / 1e3)
    return finite(figures)
