"""Options that several subcommands share."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..atomic import writable
from ..errors import UsageError

if TYPE_CHECKING:
    from ..api import Upscaler
    from ..imaging.sizes import Size


def path(text: str) -> Path:
    """A name on the command line; an empty one, as of a variable that is not set, would be the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("its name is empty")
    return Path(text)


def add_engine(parser: argparse.ArgumentParser, default: str | None = "plain-x4", otherwise: str = "") -> None:
    """`-m`, `--backend`, `--bmodels`, `--precision`; `otherwise` tells of no `-m` where that is no one model."""
    add = parser.add_argument
    without = otherwise or f"default {default}"
    add("-m", "--model", default=default, help=f"name of a model (see arm-sr models) or a model directory ({without})")
    engines = "onnxruntime, openvino, pytorch, opencv, auto, or sophon:CHIP[:PRECISION] with --bmodels"
    add("--backend", default="auto", metavar="NAME", help=engines)
    add("--bmodels", type=path, metavar="DIR", help="sub-nets that were compiled for a TPU")
    add("--precision", choices=("fp32", "bf16"), help="of the sub-nets (default: fp32, or what loses at most 0.01 dB)")


def add_model(parser: argparse.ArgumentParser, default: str | None = "plain-x4", otherwise: str = "") -> None:
    """`-m`, `--backend`, `--bmodels`, `--precision`, `--lut`, `--cost`; see `add_engine`."""
    add_engine(parser, default, otherwise)
    add = parser.add_argument
    add("--lut", type=path, metavar="FILE", help="edge-to-PSNR table instead of the model's own")
    add("--cost", type=path, metavar="FILE", help="cost table of a device, which %% then counts instead of MACs")


def add_choice(parser: argparse.ArgumentParser) -> Any:
    """`-b`, `--eta`, `--width`, `--deadline`, `--objective`; returns the group of those that exclude each other."""
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("-b", "--budget", help="40%% or 0.4 of the largest sub-net, 2.5GMAC, 150ms, or max (default)")
    choice.add_argument(
        "--eta",
        help="trade-off, a number or best: ARM's rule by patches; with --objective mse one by squared error, the "
        "same for all pictures",
    )
    choice.add_argument("--width", metavar="W", help="one branch everywhere: bicubic, w16, ...")
    choice.add_argument(
        "--deadline", metavar="TIME", help="80ms or 1.5s for upscaling, files not counted: the best there is by then"
    )
    parser.add_argument(
        "--objective",
        choices=("mse", "psnr"),
        help="mse: the total squared error (default), or psnr: ARM's mean of the PSNRs of patches (default with --eta)",
    )
    return choice


def add_size(parser: argparse.ArgumentParser) -> None:
    """`-s`, `--size`, `--short-side`, `--long-side`."""
    size = parser.add_mutually_exclusive_group()
    size.add_argument("-s", "--scale", type=float, metavar="FACTOR", help="2, 2.5, ... (default: the model's)")
    size.add_argument("--size", metavar="WxH", help="1920x1080 exactly, or 1920x or x1080 in the picture's shape")
    size.add_argument("--short-side", type=int, metavar="N", help="pixels of the shorter side")
    size.add_argument("--long-side", type=int, metavar="N", help="pixels of the longer side")


def size_of(args: argparse.Namespace) -> "Size | None":
    """What the options ask of the size of results, None for nothing; UsageError when it makes no sense."""
    from ..imaging.sizes import Size

    if args.size is not None:
        return Size.parse(args.size)
    asked = Size(scale=args.scale, short_side=args.short_side, long_side=args.long_side)
    return None if asked == Size() else asked


def add_sharpen(parser: argparse.ArgumentParser) -> None:
    """`--sharpen`."""
    parser.add_argument(
        "--sharpen",
        choices=("edge-enhance", "unsharp"),  # filters.KERNELS, which --help need not load
        help="filter the finished picture: it looks crisper (NIQE), and is further from the truth (PSNR)",
    )


def add_talk(parser: argparse.ArgumentParser, verbose: str = "") -> None:
    """`-q`, and `-v` where `verbose` says what it prints."""
    talk = parser.add_mutually_exclusive_group()
    talk.add_argument("-q", "--quiet", action="store_true", help="print errors and data only")
    if verbose:
        talk.add_argument("-v", "--verbose", action="store_true", help=verbose)


def open_upscaler(args: argparse.Namespace, model: str | None = None) -> "Upscaler":
    """The `Upscaler` that the options ask for."""
    from ..api import Upscaler

    return Upscaler(
        model or args.model, backend=args.backend, precision=args.precision, bmodels=args.bmodels, lut=args.lut,
        cost=args.cost,
    )  # fmt: skip


def report_file(json: str | Path | None) -> Path | None:
    """The file that `--json` names, None for none and for stdout; UsageError, before any work is done, when none can be
    written there."""
    if json is None or json == "-":
        return None
    file = Path(json)
    if not writable(file):
        raise UsageError(f"--json {file}: no file can be written there; name another place")
    return file


def measure_first(args: argparse.Namespace, upscaler: "Upscaler") -> None:
    """Measure what milliseconds cost here, where the budget is in them and that is not known, so that the first picture
    does not pay for it."""
    from ..scheduler import Budget

    if args.budget is not None and (limit := Budget.parse(args.budget)).kind == "ms":
        upscaler.planner.cost_of(limit)


def choice_of(args: argparse.Namespace) -> dict[str, Any]:
    """Arguments of `Upscaler.upscale` that the options ask for, checked before any picture is read."""
    from ..scheduler import Budget
    from ..scheduler.budget import parse_deadline
    from ..scheduler.policy import parse_eta

    if args.budget is not None:
        Budget.parse(args.budget)
    if args.eta is not None:
        parse_eta(args.eta)
    if args.deadline is not None:
        parse_deadline(args.deadline)
    names = ("budget", "eta", "width", "deadline", "objective")
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}
