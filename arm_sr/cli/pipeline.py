"""Several pictures on their way at once: the next is read and the last is written while one is computed."""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import zip_longest
from typing import NoReturn, TypeVar

Item = TypeVar("Item")
Picture = TypeVar("Picture")
Done = TypeVar("Done")


def overlapped(items: Sequence[Item], read: Callable[[Item], Picture],
               work: Callable[[Item, Picture], Callable[[], Done]],
               alone: Callable[[Picture], bool]) -> Generator[Callable[[], Done], None, None]:  # fmt: skip
    """The outcomes of the items, in their order: call each, before asking for the next, for what it gives or raises.

    At most three items are held: one ahead, one in `work` and one behind. Closing this waits for the reading and the
    writing that have begun, so that no thread outlives it.

    Args:
        items: none of them None.
        read: reads an item, in a thread of its own.
        work: computes, in the caller's thread, and returns what is left to do: to write the result, in another thread.
        alone: of a picture that was read, whether nothing may run beside its computing and writing. Both are then
            done in the caller's thread.
    """
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        reading: Future[Picture] | None = None
        writing: Future[Done] | None = None
        for item, following in zip_longest(items, items[1:]):
            reading = reading or reader.submit(read, item)
            if reading.exception() or alone(reading.result()):
                if writing:
                    yield writing.result
                yield partial(_whole, work, item, reading)
                reading = writing = None
                continue
            picture = reading.result()
            reading = None if following is None else reader.submit(read, following)
            try:
                write = work(item, picture)
            except Exception as error:  # not yet the turn of this item
                write = partial(_raise, error)
            if writing:
                yield writing.result
            writing = writer.submit(write)
            del picture, write  # memory is free as soon as the result is written
        if writing:
            yield writing.result


def _whole(work: Callable[[Item, Picture], Callable[[], Done]], item: Item, reading: Future[Picture]) -> Done:
    return work(item, reading.result())()


def _raise(error: Exception) -> NoReturn:
    raise error
