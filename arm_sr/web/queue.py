"""Work off the event loop: one piece at a time, a bounded number waiting, dropped when nobody waits for it any more."""

import asyncio
import math
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

T = TypeVar("T")
POLL = 0.1
"""Seconds after which it is looked again whether a client is still there."""


class BusyError(Exception):
    """No place is free; `retry_after` is when one should be, in seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"this server has all the work it takes; try again in {retry_after} s")
        self.retry_after = retry_after


class AbandonedError(Exception):
    """Nobody waits for the work any more."""


class Stop:
    """Tells work that is going on to end."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """From now on `check` raises."""
        self._event.set()

    def check(self) -> None:
        """AbandonedError when nobody waits for the work any more."""
        if self._event.is_set():
            raise AbandonedError


class WorkQueue:
    """A single thread: an engine uses all processors for one picture, and a deadline counts on having them.

    Args:
        waiting: how many requests may wait beside the one that is worked for.
    """

    def __init__(self, waiting: int) -> None:
        self._places, self._taken = 1 + waiting, 0
        self._thread = ThreadPoolExecutor(1, "upscaling")
        self._stops: set[Stop] = set()
        self._seconds = 1.0  # that a request took of late

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place from before the body is read, so that no more bodies than places are in memory; BusyError when there
        is none."""
        if self._taken >= self._places:
            raise BusyError(max(1, math.ceil(self._seconds * self._taken)))
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    async def run(self, work: Callable[[Stop], T], gone: Callable[[], Awaitable[bool]]) -> T:
        """What `work` returns or raises; AbandonedError when `gone` says so before. Work that no thread has begun then
        never begins, and what has begun is told by its argument."""
        stop, held = Stop(), [work]  # emptied with the place, or what the work holds would wait for its turn
        self._stops.add(stop)
        future = asyncio.wrap_future(self._thread.submit(self._timed, held, stop))
        future.add_done_callback(lambda done: done.cancelled() or done.exception())  # which nobody may ask for
        try:
            while not future.done():
                await asyncio.wait({future}, timeout=POLL)
                if not future.done() and await gone():
                    raise AbandonedError
            return future.result()
        finally:
            stop.set()
            held.clear()
            future.cancel()
            self._stops.discard(stop)

    def _timed(self, held: list[Callable[[Stop], T]], stop: Stop) -> T:
        try:
            work = held.pop()
        except IndexError:
            raise AbandonedError from None
        begun = time.perf_counter()
        try:
            return work(stop)
        finally:
            self._seconds = (self._seconds + time.perf_counter() - begun) / 2

    def close(self) -> None:
        """Drop what waits and wait for the end of what was begun."""
        for stop in self._stops:
            stop.set()
        self._thread.shutdown(cancel_futures=True)
