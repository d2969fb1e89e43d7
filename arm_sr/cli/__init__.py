"""The command `arm-sr`: one module a subcommand; heavy imports wait until one runs."""

import argparse
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..errors import ArmSRError, UsageError
from . import calibrate, evaluate, explain, models, serve, sweep, upscale

FAILED, USAGE, INTERRUPTED, TERMINATED = 1, 2, 130, 143


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does: nothing half-written stays."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence instead of the whole usage."""

    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(USAGE, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of `arm-sr` with all its subcommands."""
    parser = _Parser(
        prog="arm-sr",
        description="Any-time image super-resolution: upscale pictures within the compute you give.",
        epilog="Example: arm-sr upscale photo.jpg --budget 40% --heatmap heat.png",
    )
    parser.add_argument("--version", action="version", version=f"arm-sr {_version()}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for module in (upscale, explain, serve, sweep, evaluate, calibrate, models):
        name = module.__name__.rsplit(".", 1)[-1]
        line = (module.__doc__ or "").strip()  # the first line is the help, the whole is the description
        formatter = argparse.RawDescriptionHelpFormatter
        command = commands.add_parser(
            name, help=line.splitlines()[0], description=line, formatter_class=formatter, allow_abbrev=False
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run `arm-sr` with `argv` and return its exit status."""

    def command() -> int:
        args = build_parser().parse_args(argv)
        level = logging.WARNING if getattr(args, "quiet", False) else logging.INFO
        logging.basicConfig(level=level, format="arm-sr: %(message)s", stream=sys.stderr, force=True)
        logging.getLogger("PIL").setLevel(logging.CRITICAL)  # what it says of a file becomes an error of ours
        status: int = args.run(args)
        return status

    return _guarded("arm-sr", command)


def run_tool(tool: Callable[[], object]) -> None:
    """Run the `main` of a script in tools/ with the command's errors and exit status."""

    def command() -> int:
        tool()
        return 0

    sys.exit(_guarded(Path(sys.argv[0]).name, command))


def _guarded(name: str, command: Callable[[], int]) -> int:
    """Errors of arm_sr and signals become one line on stderr and an exit status."""

    def terminate(*_: object) -> None:
        raise _Terminated

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be no text
    ours = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, terminate) if ours else None
    try:
        status = command()
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except ArmSRError as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        return USAGE if isinstance(error, UsageError) else FAILED
    except ModuleNotFoundError as error:
        how = _extra_of(error.name)
        print(f"{name}: error: this needs '{error.name}', which is not installed ({how})", file=sys.stderr)
        return FAILED
    except MemoryError:
        print(f"{name}: error: not enough memory; take smaller pictures or fewer threads", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt as interrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return TERMINATED if isinstance(interrupt, _Terminated) else INTERRUPTED
    except BrokenPipeError:
        # The reader of stdout went away; nothing more may be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        print(f"{name}: error: {error.filename or 'output'}: {error.strerror or error}", file=sys.stderr)
        return FAILED
    finally:
        if ours:
            signal.signal(signal.SIGTERM, before)


def _extra_of(module: str | None) -> str:
    """How to install what provides `module`."""
    extras = {"matplotlib": "plot", "torch": "train", "onnx": "train", "safetensors": "train",
              "starlette": "web", "uvicorn": "web", "ray": "ray"}  # fmt: skip
    extra = extras.get(module or "")
    return f"pip install 'arm-sr[{extra}]'" if extra else f"pip install {module}"


def _version() -> str:
    try:
        return version("arm-sr")
    except PackageNotFoundError:
        return "of a clone that is not installed"
