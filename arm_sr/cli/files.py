"""Which pictures `arm-sr upscale` takes, where their results go, and as what they are written."""

import argparse
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError

if TYPE_CHECKING:
    from ..imaging.formats import Encoding

STREAM = Path("-")
"""As an input stdin, as an output stdout."""


def add_encoding(parser: argparse.ArgumentParser) -> None:
    """`--format`, `--quality`, `--subsampling`."""
    formats = ("png", "jpg", "webp", "tiff", "bmp", "avif")
    add = parser.add_argument_group("results").add_argument
    add("--format", choices=formats, help="of the results (default: as they are named; png on stdout)")
    add("--quality", type=int, metavar="1-100", help="of JPEG and AVIF (default 95), and of WebP (default: lossless)")
    add("--subsampling", choices=("4:4:4", "4:2:2", "4:2:0"), help="of colours in JPEG and AVIF (default 4:4:4)")


@dataclass(frozen=True)
class Files:
    """A picture and its result."""

    source: Path
    target: Path
    encoding: "Encoding"
    """As what the result is written."""
    name: str
    """Of the picture in the folder that was given, with slashes; the file's name where none was."""


def find_files(args: argparse.Namespace, tag: str) -> tuple[list[Files], list[tuple[Path, str]]]:
    """Every picture with its output, in the order of the inputs and of the names in folders, and the folders that could
    not be read or hold no picture, with a sentence of why.

    A picture of a folder keeps its name and place in the output folder; of a file, `tag` is added to the name. A new
    output whose name has no suffix is a folder.
    Raises UsageError: two outputs are the same, or one would replace an input.
    """
    from ..imaging.formats import IMAGE_SUFFIXES

    if args.quality is not None and not 1 <= args.quality <= 100:
        raise UsageError(f"--quality must be from 1 to 100, not {args.quality}")
    folders = [path for path in args.inputs if os.path.isdir(path)]
    if args.inputs.count(STREAM) > 1 or (STREAM in args.inputs and (folders or args.resume or args.budget_total)):
        raise UsageError("- is stdin, which can be read only once; leave out folders, --resume and --budget-total")
    if folders and args.output is None:
        raise UsageError(f"{folders[0]} is a folder; name one for the results with -o")
    if args.recursive and not folders:
        raise UsageError("--recursive is for folders, and none was given")
    several = len(args.inputs) > 1 or folders or args.resume
    if several and args.output and os.path.exists(args.output) and not os.path.isdir(args.output):
        why = f"{folders[0]} is one" if folders else f"there are {len(args.inputs)} inputs"
        why = "--resume goes on in one" if args.resume else why
        raise UsageError(f"-o {args.output} must be a directory, because {why}")

    if several and args.output == STREAM:
        raise UsageError("-o - is stdout, which takes one picture")

    def target_of(source: Path) -> Path:
        if args.output is not None and not several and _names_file(args):
            return args.output
        if source == STREAM:
            return STREAM if args.output is None else args.output / f"stdin_{tag}.{args.format or 'png'}"
        suffix = f".{args.format}" if args.format else source.suffix or ".png"
        return (args.output or source.parent) / f"{source.stem}_{tag}{suffix}"

    files: list[Files] = []
    troubles: list[tuple[Path, str]] = []
    for source in args.inputs:
        if source not in folders:
            target = target_of(source)
            files.append(Files(source, target, _encoding(args, target), source.name))
            continue
        found = []
        for place in _walk(source, args.recursive, args.output, troubles):
            if place.suffix.lower() in IMAGE_SUFFIXES:
                target = args.output / (place.with_suffix(f".{args.format}") if args.format else place)
                found.append(Files(source / place, target, _encoding(args, target), place.as_posix()))
        if not found:
            deeper = "" if args.recursive else "; --recursive looks into those in it"
            troubles.append((source, f"{source}: no pictures in this folder{deeper}"))
        files += sorted(found, key=lambda file: Path(file.name).parts)
    _check(args, files)
    return files, troubles


def _names_file(args: argparse.Namespace) -> bool:
    """Whether `-o` is the file of one picture: a new name without suffix, where no format is asked for, is a folder."""
    if os.path.isdir(args.output):
        return False
    return bool(args.output == STREAM or args.output.suffix or args.format or os.path.lexists(args.output))


def _encoding(args: argparse.Namespace, target: Path) -> "Encoding":
    """As what `target` is written: by its name, or as asked where that says nothing else."""
    from ..imaging.formats import FORMATS, Encoding

    asked = f".{args.format or 'png'}"
    named = FORMATS.get(target.suffix.lower())
    if args.format and named and named != FORMATS.get(asked):
        raise UsageError(f"-o {target} and --format {args.format} say two different things; leave one out")
    takes_name = not args.format and target != STREAM
    return Encoding(target.suffix if named or takes_name else asked, args.quality, args.subsampling)


def _walk(folder: Path, recursive: bool, output: Path, troubles: list[tuple[Path, str]]) -> Iterator[Path]:
    """Paths in `folder` of its files; hidden ones and the output folder are left out, links to folders not followed."""

    def unreadable(error: OSError) -> None:
        reason = f"the folder cannot be read ({error.strerror}); change its permissions"
        troubles.append((Path(error.filename), f"{error.filename}: {reason}"))

    own = os.path.realpath(output)
    for place, folders, names in os.walk(folder, onerror=unreadable):
        kept = [name for name in folders if not name.startswith(".")]
        kept = [name for name in kept if os.path.realpath(Path(place, name)) != own]
        folders[:] = sorted(kept) if recursive else []
        yield from (Path(place, name).relative_to(folder) for name in names if not name.startswith("."))


def _check(args: argparse.Namespace, files: list[Files]) -> None:
    """UsageError when an output would be written twice or replace an input."""
    for option in ("quality", "subsampling"):
        taking = [file.encoding.format for file in files if getattr(file.encoding.format, f"takes_{option}", False)]
        if getattr(args, option) is not None and files and not taking:
            raise UsageError(f"--{option} means nothing for {files[0].encoding.suffix}; leave it out")
    seen: dict[str, str] = {}
    for file in files:
        if file.target == STREAM:
            if args.json == "-":
                raise UsageError("the picture and --json - cannot both go to stdout")
            if sys.stdout is None:
                raise UsageError("stdout is closed; name a file with -o")
            continue
        place = os.path.realpath(file.target)
        if place in seen:
            both = "" if seen[place] == str(file.source) else f", of {seen[place]} and of {file.source}"
            raise UsageError(f"{file.target} would be written twice{both}; give the outputs different names")
        seen[place] = str(file.source)
    for path in (args.heatmap, args.compare, args.json and args.json != "-" and Path(args.json)):
        if path and os.path.realpath(path) in seen:
            raise UsageError(f"{path} would be written twice; give the outputs different names")
        if path:
            seen[os.path.realpath(path)] = str(path)
    for file in files:
        if file.source != STREAM and os.path.realpath(file.source) in seen:
            raise UsageError(f"{file.source} would be replaced by an output; give another name with -o")
