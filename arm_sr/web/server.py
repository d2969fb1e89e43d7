"""The application on a socket, until a signal ends it."""

import signal
import socket

import uvicorn
from starlette.types import ASGIApp

from ..errors import UsageError

GRACE = 5
"""Seconds that requests have to end after the signal."""
CONNECTIONS = 200
"""Open at once at most; more are answered with 503."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound to `host` and `port`, 0 for any free one; UsageError when it cannot be."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"--host {host} --port {port}: cannot be listened on ({reason}); choose others") from error


def address(listener: socket.socket) -> str:
    """The URL of the page; one on this machine where it listens on all its addresses."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def server(app: ASGIApp) -> uvicorn.Server:
    """The server of `app`; see `serve`."""
    return uvicorn.Server(
        uvicorn.Config(
            app, http="h11", ws="none", lifespan="on", log_config=None, log_level="warning", access_log=False,
            server_header=False, proxy_headers=False, limit_concurrency=CONNECTIONS, timeout_graceful_shutdown=GRACE,
        )
    )  # fmt: skip


def serve(app: ASGIApp, listener: socket.socket) -> None:
    """Answer until SIGINT or SIGTERM; what is being computed then is dropped at its next tile."""
    # The server raises the signal once more when it has ended, which is then no error.
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        server(app).run(sockets=[listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        listener.close()
