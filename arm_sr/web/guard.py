"""Who may ask, and what every answer tells the browser."""

from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "::1")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Refuses requests under a foreign name (DNS rebinding) and from foreign pages, and adds `HEADERS`.

    Args:
        app: what is guarded.
        hosts: names in the Host header that are ours, besides those of the loopback.
        origins: pages that may ask although they are not ours, in lower case, such as https://example.org.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str], origins: Iterable[str]) -> None:
        self._app = app
        self._hosts = {host.lower().strip("[]") for host in (*LOOPBACK, *hosts)}
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        refusal = self._refusal(Headers(scope=scope))
        app = self._app if refusal is None else JSONResponse({"error": refusal}, 403)
        await app(scope, receive, send_with_headers)

    def _refusal(self, headers: Headers) -> str | None:
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        name = _name_of(f"//{hosts[0]}") if len(hosts) == 1 else None
        if name not in self._hosts:
            return f"this server does not answer for the host '{', '.join(hosts)[:80]}'; allow it with --allow-host"
        for origin in origins:
            own = origin.partition("://")[2].lower() == hosts[0].lower()
            if not own and origin.lower() not in self._origins:
                return f"pages of '{origin[:80]}' may not ask this server; allow them with --allow-origin"
        return None


def _name_of(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
