"""A real server on a real socket, in a thread of the test's process."""

import contextlib
import http.client
import io
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import PIL.Image

from arm_sr import Upscaler
from arm_sr.web.app import create_app
from arm_sr.web.server import listen, server
from arm_sr.web.service import Limits, Service


@dataclass
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def pixels(self) -> np.ndarray:
        with PIL.Image.open(io.BytesIO(self.body)) as image:
            return np.asarray(image)


@dataclass
class Client:
    """Asks one server, a connection a request."""

    port: int
    upscalers: dict[str, Upscaler] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, names)
            answer = connection.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())

    def post(self, path: str, body: Any, **headers: str) -> Reply:
        return self.ask("POST", path, body, **headers)


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


@contextlib.contextmanager
def serving(upscalers: dict[str, Upscaler], limits: Limits | None = None, waiting: int = 8,
            **who: Any) -> Iterator[Client]:  # fmt: skip
    """A server that ends with the block."""
    app = create_app(Service(upscalers, limits or Limits()), waiting, **who)
    with listen("127.0.0.1", 0) as listener:
        running = server(app)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not running.started:
                assert thread.is_alive()
                time.sleep(0.01)
            yield Client(listener.getsockname()[1], upscalers)
        finally:
            running.should_exit = True
            thread.join(30)
            assert not thread.is_alive()
