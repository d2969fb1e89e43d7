"""Which pictures `arm-sr upscale` takes and where their results go."""

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError


@dataclass(frozen=True)
class Files:
    """A picture and its result."""

    source: Path
    target: Path
    name: str
    """Of the picture in the folder that was given, with slashes; the file's name where none was."""


def find_files(args: argparse.Namespace, tag: str) -> tuple[list[Files], list[tuple[Path, str]]]:
    """Every picture with its output, in the order of the inputs and of the names in folders, and the folders that could
    not be read or hold no picture, with a sentence of why.

    A picture of a folder keeps its name and place in the output folder; of a file, `tag` is added to the name.
    Raises UsageError: two outputs are the same, or one would replace an input.
    """
    from ..imaging.io import IMAGE_SUFFIXES

    folders = [path for path in args.inputs if os.path.isdir(path)]
    if folders and args.output is None:
        raise UsageError(f"{folders[0]} is a folder; name one for the results with -o")
    if args.recursive and not folders:
        raise UsageError("--recursive is for folders, and none was given")
    several = len(args.inputs) > 1 or folders or args.resume
    if several and args.output and os.path.exists(args.output) and not os.path.isdir(args.output):
        why = f"{folders[0]} is one" if folders else f"there are {len(args.inputs)} inputs"
        why = "--resume goes on in one" if args.resume else why
        raise UsageError(f"-o {args.output} must be a directory, because {why}")

    def target_of(source: Path) -> Path:
        if args.output is not None and not several and not os.path.isdir(args.output):
            return args.output
        return (args.output or source.parent) / f"{source.stem}_{tag}{source.suffix or '.png'}"

    files: list[Files] = []
    troubles: list[tuple[Path, str]] = []
    for source in args.inputs:
        if source not in folders:
            files.append(Files(source, target_of(source), source.name))
            continue
        found = []
        for place in _walk(source, args.recursive, args.output, troubles):
            if place.suffix.lower() in IMAGE_SUFFIXES:
                found.append(Files(source / place, args.output / place, place.as_posix()))
        if not found:
            deeper = "" if args.recursive else "; --recursive looks into those in it"
            troubles.append((source, f"{source}: no pictures in this folder{deeper}"))
        files += sorted(found, key=lambda file: Path(file.name).parts)
    _check(args, files)
    return files, troubles


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
    seen: dict[str, str] = {}
    for file in files:
        place = os.path.realpath(file.target)
        if place in seen:
            both = "" if seen[place] == str(file.source) else f", of {seen[place]} and of {file.source}"
            raise UsageError(f"{file.target} would be written twice{both}; give the outputs different names")
        seen[place] = str(file.source)
    for path in (args.heatmap, args.json and args.json != "-" and Path(args.json)):
        if path and os.path.realpath(path) in seen:
            raise UsageError(f"{path} would be written twice; give the outputs different names")
        if path:
            seen[os.path.realpath(path)] = str(path)
    for file in files:
        if os.path.realpath(file.source) in seen:
            raise UsageError(f"{file.source} would be replaced by an output; give another name with -o")
