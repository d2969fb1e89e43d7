"""Serve a page, and POST /upscale, that upscale pictures on this machine.

Only programs and pages of this machine are answered, unless --host, --allow-host and --allow-origin say otherwise.
See docs/web.md. Exit status: 0 when it was ended by Ctrl-C or SIGTERM, 2 for wrong usage.
"""

import argparse
import sys

from .options import add_model, add_talk, open_upscaler

MB, MP = 1 << 20, 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `arm-sr serve`."""
    add_model(parser, default=None, otherwise="default: all that come along")
    who = parser.add_argument_group("who is answered").add_argument
    who("--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on (default: 127.0.0.1)")
    who("--port", type=_port, default=8765, help="port to listen on, 0 for any that is free (default: 8765)")
    who("--allow-host", action="append", default=[], metavar="NAME", help="answer under this name too (Host header)")
    who("--allow-origin", action="append", default=[], metavar="URL", help="answer pages of this site too")
    limits = parser.add_argument_group("limits").add_argument
    limits("--max-body", type=_positive, default=32.0, metavar="MB", help="bytes of a picture's file (default: 32 MB)")
    limits("--max-input", type=_positive, default=16.0, metavar="MP", help="megapixels of a picture (default: 16)")
    limits("--max-output", type=_positive, default=40.0, metavar="MP", help="megapixels of a result (default: 40)")
    limits("--waiting", type=_count, default=8, metavar="N", help="requests that may wait; more get 429 (default: 8)")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    add_talk(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until a signal; returns the exit status."""
    import webbrowser

    from ..api import DEFAULT_MODEL
    from ..errors import UsageError
    from ..models import list_models
    from ..web.app import create_app
    from ..web.server import address, listen, serve
    from ..web.service import Limits, Service

    for name in ("lut", "cost", "bmodels"):
        if getattr(args, name) is not None and args.model is None:
            raise UsageError(f"--{name} belongs to one model; name it with -m")
    names = [args.model] if args.model else sorted(list_models(), key=lambda name: name != DEFAULT_MODEL)
    upscalers = {upscaler.card.name: upscaler for upscaler in (open_upscaler(args, name) for name in names)}
    limits = Limits(int(args.max_body * MB), int(args.max_input * MP), int(args.max_output * MP))
    app = create_app(Service(upscalers, limits), args.waiting, [args.host, *args.allow_host], args.allow_origin)
    with listen(args.host, args.port) as listener:
        if not args.quiet:
            served = ", ".join(upscalers)
            print(f"arm-sr: {served} at {address(listener)} (Ctrl-C ends it)", file=sys.stderr, flush=True)
        if args.open:
            webbrowser.open(address(listener))
        serve(app, listener)
    return 0


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"'{text}' must be a whole number from 0 to 65535")
    return int(text)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"'{text}' must be a whole number of 0 or more")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"'{text}' must be a number above 0")
    return value
