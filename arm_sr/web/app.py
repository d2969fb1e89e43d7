"""The routes: a page of three files, the models, `POST /upscale` and `POST /curve`."""

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from functools import wraps
from importlib.resources import files
from typing import Any, TypeAlias

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..errors import ArmSRError, ImageError, UsageError
from .guard import Guard
from .queue import AbandonedError, BusyError, WorkQueue
from .service import MEDIA_TYPES, Answer, CurveRequest, Service, TooLargeError, UpscaleRequest

log = logging.getLogger(__name__)

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]
PAGE = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
"""All files that are ever sent; they are read when the server starts."""
BODY_TYPES = {*MEDIA_TYPES.values(), "image/jpg", "image/x-ms-bmp", "application/octet-stream", ""}
DRAIN_SECONDS = 5.0
"""How long the rest of a refused body is read, and at most as many bytes as a body may have: a browser shows an answer
only when it has sent everything."""
GONE = 499
"""Status, which nobody sees, for a client that went away."""


def create_app(service: Service, waiting: int, hosts: Iterable[str] = (), origins: Iterable[str] = ()) -> Starlette:
    """The ASGI application.

    Args:
        service: answers the requests.
        waiting: how many requests may wait beside the one that is worked for.
        hosts, origins: see `Guard`.
    """
    queue = WorkQueue(waiting)

    async def answered(request: Request, asked: UpscaleRequest | CurveRequest) -> Any:
        _check_type(request)
        async with queue.place():
            body = await _body(request, service)
            return await queue.run(lambda stop: asked.answer(body, stop), request.is_disconnected)

    async def models(request: Request) -> Response:
        return JSONResponse(service.describe())

    @_said_in_json
    async def upscale(request: Request) -> Response:
        answer: Answer = await answered(request, service.upscale_request(request.query_params.multi_items()))
        if "application/json" in request.headers.get("accept", ""):
            encoded = base64.b64encode(answer.picture).decode()
            parts = {"report": answer.report, "heat_map": answer.heat_map, "media_type": answer.media_type}
            return JSONResponse({**parts, "picture": encoded})
        report = {"X-Report": json.dumps(answer.report, separators=(",", ":"))}
        return Response(answer.picture, headers=report, media_type=answer.media_type)

    @_said_in_json
    async def curve(request: Request) -> Response:
        return JSONResponse(await answered(request, service.curve_request(request.query_params.multi_items())))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        queue.close()

    routes = [_file_route(path, *file) for path, file in PAGE.items()]
    routes += [
        Route("/models", models),
        Route("/upscale", upscale, methods=["POST"]),
        Route("/curve", curve, methods=["POST"]),
    ]
    origins = tuple(origin.lower().rstrip("/") for origin in origins)  # as browsers send them
    middleware = [Middleware(Guard, hosts=tuple(hosts), origins=origins)]
    if origins:
        named = ["Content-Type", "Accept"], ["X-Report", "Retry-After"]
        middleware.append(
            Middleware(CORSMiddleware, allow_origins=origins, allow_headers=named[0], expose_headers=named[1],
                       allow_methods=["GET", "POST"])
        )  # fmt: skip
    handlers = {HTTPException: _http_error, Exception: _unforeseen}
    app = Starlette(routes=routes, middleware=middleware, exception_handlers=handlers, lifespan=lifespan)  # type: ignore[arg-type]
    app.state.drain_bytes = service.limits.body_bytes
    return app


def _file_route(path: str, file: str, media_type: str) -> Route:
    content = files(__package__).joinpath("static", file).read_bytes()

    async def send(request: Request) -> Response:
        return Response(content, media_type=media_type)

    return Route(path, send)


def _said_in_json(endpoint: Endpoint) -> Endpoint:
    """`endpoint`, whose errors become a status and one sentence."""

    @wraps(endpoint)
    async def answered(request: Request) -> Response:
        request.state.came = False  # the whole body
        try:
            return await endpoint(request)
        except (ClientDisconnect, AbandonedError):
            return Response(status_code=GONE)
        except BusyError as error:
            status, sentence, headers = 429, str(error), {"Retry-After": str(error.retry_after)}
        except (ArmSRError, HTTPException, MemoryError) as error:
            status, sentence = _status_of(error)
            headers = {}
        await _drain(request)
        return JSONResponse({"error": sentence}, status, headers)

    return answered


def _status_of(error: Exception) -> tuple[int, str]:
    """Status and sentence of what may go wrong."""
    if isinstance(error, HTTPException):
        return error.status_code, error.detail
    if isinstance(error, MemoryError):
        return 503, "there is not enough memory for this picture; send a smaller one"
    for kind, status in ((UsageError, 400), (TooLargeError, 413), (ImageError, 422)):
        if isinstance(error, kind):
            return status, str(error)
    log.error("%s", error)
    return 500, str(error)


async def _http_error(request: Request, error: HTTPException) -> Response:
    sentence = {404: "there is no such page", 405: "this address has no such method"}
    text = sentence.get(error.status_code, error.detail)
    return JSONResponse({"error": text}, error.status_code, error.headers)


async def _unforeseen(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "something went wrong in the server, which its log names"}, 500)


def _check_type(request: Request) -> None:
    """HTTPException when the headers say that the body is no picture as it is."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in BODY_TYPES:
        raise HTTPException(
            415, f"the body must be the bytes of a picture, not '{media_type[:80]}'; send it as image/png or the like"
        )
    if request.headers.get("content-encoding", "identity") != "identity":
        raise HTTPException(415, "the body must be a picture's bytes as they are; send it without Content-Encoding")


async def _body(request: Request, service: Service) -> bytes:
    """The body, bounded in bytes and time; HTTPException beyond the bounds, or when there is none."""
    most = service.limits.body_bytes
    too_large = HTTPException(413, f"the picture's file is over the {most:,} bytes that this server takes")
    if int(request.headers.get("content-length", 0)) > most:  # a number, or the server would have refused it
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(service.limits.body_seconds):
            while not request.state.came:
                body += await _part(request)
                if len(body) > most:
                    raise too_large
    except TimeoutError:
        request.state.came = True  # as far as it will
        raise HTTPException(408, "the picture's file did not come in time; send it again") from None
    if not body:
        raise HTTPException(400, "the body is empty; send the bytes of a picture")
    return bytes(body)


async def _part(request: Request) -> bytes:
    """The next part of the body; notes the last one. Raises ClientDisconnect."""
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    request.state.came = not message.get("more_body", False)
    part: bytes = message.get("body", b"")
    return part


async def _drain(request: Request) -> None:
    """Read what is left of a body that was refused, so that its sender comes to read why."""
    left = request.app.state.drain_bytes
    if request.headers.get("expect") or int(request.headers.get("content-length", 0)) > left:
        return
    with suppress(TimeoutError, ClientDisconnect):
        async with asyncio.timeout(DRAIN_SECONDS):
            while left > 0 and not request.state.came:
                left -= len(await _part(request))
