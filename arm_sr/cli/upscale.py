"""Upscale pictures within a compute budget.

Without -o the result is NAME_x4.EXT beside the input and must not exist yet; files named by -o, --heatmap
and --json, and those in the folder of -o, are replaced in one step. In that folder a file becomes NAME_x4.EXT;
the pictures of a folder keep their names and places.
Exit status: 0, 1 when some pictures failed, 2 for wrong usage.
"""

import argparse
import os
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial

from .files import STREAM, Files, add_encoding, find_files
from .job import Job
from .options import add_choice, add_model, add_sharpen, add_size, add_talk, choice_of, path, report_file, size_of
from .outcomes import Outcomes
from .picture import Picture, Told, Upscaled, all_of_stdin, is_large, read, upscale_picture, write_picture
from .pipeline import overlapped
from .scale_out import add_scale_out, check_scale_out, scaled_out
from .upscalers import Upscalers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `arm-sr upscale`."""
    add = parser.add_argument
    add("inputs", nargs="+", type=path, metavar="INPUT", help="picture files, folders of them, or - for stdin")
    add("-o", "--output", type=path, metavar="OUT", help="file (- is stdout) or folder; folder for several inputs")
    add_size(parser)
    add_encoding(parser)
    add_model(parser, default=None, otherwise="default: plain-x4, or by the size asked for")
    choice = add_choice(parser)
    choice.add_argument(
        "--budget-total", metavar="TIME", help="60s for all pictures together: one trade-off spreads it over them"
    )
    add_sharpen(parser)
    folders = parser.add_argument_group("folders").add_argument
    folders("-r", "--recursive", action="store_true", help="folders in folders too; the tree is mirrored in OUT")
    folders("--resume", action="store_true", help="skip what OUT has of the same pictures and settings")
    add_scale_out(parser)
    add("--heatmap", type=path, metavar="FILE", help="write a picture of where the compute went")
    add("--compare", type=path, metavar="FILE.html", help="write a page to compare with bicubic")
    add("--json", metavar="FILE|-", help="write the report, one JSON object a line; - is stdout")
    add("--dry-run", action="store_true", help="print the plan and compute nothing")
    add_talk(parser, verbose="print the plan of every picture too")


def run(args: argparse.Namespace) -> int:
    """Upscale every input; returns the exit status."""
    from ..atomic import writable
    from ..errors import BackendError, ImageError, UsageError
    from ..scheduler import Budget
    from ..scheduler.budget import parse_deadline

    how, report_to = choice_of(args), report_file(args.json)
    total = None if args.budget_total is None else parse_deadline(args.budget_total, "total budget")
    if args.deadline and args.dry_run:
        raise UsageError("--dry-run has no plan for a deadline: what is computed depends on the clock")
    if total and args.objective == "psnr":
        raise UsageError("--budget-total spreads by squared error; leave --objective psnr out")
    if args.resume and args.output is None:
        raise UsageError("--resume goes on in a folder; name it with -o")
    check_scale_out(args)
    upscalers = Upscalers(args, size_of(args), total)
    files, troubles = find_files(args, upscalers.size.tag)
    pictures = len(files) + len(troubles)
    is_job = bool(args.resume or total or any(os.path.isdir(path) for path in args.inputs))
    if args.heatmap and (is_job or pictures > 1):
        raise UsageError("--heatmap takes one input, because it writes one file")
    if args.compare and (is_job or pictures > 1):
        raise UsageError("--compare takes one input, because it writes one page")
    if args.compare and not writable(args.compare):
        raise UsageError(f"--compare {args.compare}: no file can be written there; name another place")
    # Threads that read and write would take the time that a picture was given.
    by_clock = total is not None or args.deadline is not None or Budget.parse(args.budget or "max").kind == "ms"

    stdin = b""
    if STREAM in args.inputs:
        try:
            stdin = all_of_stdin()  # in this thread, where a signal ends it
        except ImageError as error:
            troubles.append((STREAM, str(error)))
            files = [file for file in files if file.source != STREAM]

    outcomes = Outcomes(args)
    with ExitStack() as at_the_end:
        for trouble in troubles:
            outcomes.failed(*trouble)
        job = None
        if is_job and files:
            job = at_the_end.enter_context(Job(args, files, how, total, upscalers, outcomes))
            files, how = list(job.sizes), job.how
        if report_to:  # from now on also when it ends before its time
            at_the_end.callback(outcomes.write_report, report_to)

        def read_it(file: Files) -> Picture:
            return job.read(file) if job else read(file, stdin)

        def work(file: Files, picture: Picture) -> Callable[[], Told]:
            upscaled = upscale_picture(args, upscalers, how, file, picture, job.bar if job else None)
            return partial(finish, file, picture, upscaled)

        def finish(file: Files, picture: Picture, upscaled: Upscaled) -> Told:
            told = write_picture(args, file, picture, upscaled)
            if job:
                job.note(file, picture.digest)
            return told

        def alone(picture: Picture) -> bool:
            return by_clock or len(files) == 1 or is_large(picture.size, upscalers)

        def tell(file: Files, done: Callable[[], Told]) -> None:
            try:
                outcomes.succeeded(*done())
            except (ImageError, BackendError) as error:
                outcomes.failed(file.source, str(error))
            except MemoryError:
                outcomes.failed(file.source, f"{file.source}: not enough memory; cut the picture into smaller ones")

        if args.ray is not None and job:
            for file, done in at_the_end.enter_context(closing(scaled_out(args, how, upscalers, job))):
                tell(file, done)
        else:
            steps = at_the_end.enter_context(closing(overlapped(files, read_it, work, alone)))
            for file in files:
                tell(file, lambda: next(steps)())  # noqa: PLW0108  asked for in there, so that no name keeps its picture
    outcomes.conclude(pictures, job)
    return 1 if outcomes.failures else 0
