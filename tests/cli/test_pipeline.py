"""Reading, computing and writing beside one another: the outcomes of a plain loop, and no more in memory than said."""

import threading
import weakref
from collections.abc import Callable
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arm_sr.cli.pipeline import overlapped


class Steps:
    """Steps for items (number, where it fails, whether it is alone), and what was seen while they ran."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.held: set[int] = set()
        self.most = 0
        self.beside_an_alone_one: set[int] = set()

    def _step(self, name: str, item: tuple[int, str, bool]) -> None:
        number, fails, alone = item
        with self._lock:
            self.held.add(number)
            self.most = max(self.most, len(self.held))
            if alone and name != "read":
                self.beside_an_alone_one |= self.held - {number}
            if name in (fails, "write"):
                self.held.remove(number)
        if name == fails:
            raise ValueError(f"{name} {number}")

    def read(self, item: tuple[int, str, bool]) -> tuple[int, str, bool]:
        self._step("read", item)
        return item

    def work(self, item: tuple[int, str, bool], picture: tuple[int, str, bool]) -> Callable[[], int]:
        assert item is picture
        self._step("work", picture)

        def write() -> int:
            self._step("write", picture)
            return picture[0]

        return write


@given(st.lists(st.tuples(st.sampled_from(["read", "work", "write", ""]), st.booleans())))
def test_outcomes_are_those_of_a_loop(kinds: list[tuple[str, bool]]) -> None:
    """In order, values and errors; at most three items are held, and nothing beside an alone one."""
    items = [(number, fails, alone) for number, (fails, alone) in enumerate(kinds)]
    steps, found = Steps(), []
    with closing(overlapped(items, steps.read, steps.work, lambda picture: picture[2])) as outcomes:
        for outcome in outcomes:
            try:
                found.append(outcome())
            except ValueError as error:
                found.append(str(error))
    assert [f"{fails} {number}" if fails else number for number, fails, _ in items] == found
    assert steps.most <= 3
    assert set() == steps.beside_an_alone_one
    assert set() == steps.held


def test_steps_of_neighbours_overlap_and_no_further() -> None:
    """Item n is computed while n + 1 is read, and written while n + 1 is computed; n + 3 waits until n is written."""
    count = 6
    events, begun = [], {(step, n): threading.Event() for step in ("read", "work") for n in range(count + 1)}
    for last in ("read", "work"):
        begun[last, count].set()  # nothing to wait for

    def read(number: int) -> int:
        events.append(("read", number))
        begun["read", number].set()
        return number

    def work(item: int, number: int) -> Callable[[], int]:
        begun["work", number].set()
        assert begun["read", number + 1].wait(60)

        def write() -> int:
            assert begun["work", number + 1].wait(60)
            events.append(("written", number))
            return number

        return write

    assert list(range(count)) == [outcome() for outcome in overlapped(range(count), read, work, lambda number: False)]
    for number in range(3, count):
        assert events.index(("written", number - 3)) < events.index(("read", number))


@pytest.mark.parametrize("fails", [False, True])
def test_an_alone_picture_is_let_go_before_the_next_is_read(fails: bool) -> None:
    """No name, and no traceback of an error, keeps it in memory."""

    class Picture:
        pass

    read_so_far: list[weakref.ref[Picture]] = []

    def read(item: int) -> Picture:
        assert [] == [picture for picture in read_so_far if picture() is not None]
        picture = Picture()
        read_so_far.append(weakref.ref(picture))
        return picture

    def work(item: int, picture: Picture) -> Callable[[], None]:
        if fails:
            raise ValueError(picture)
        return lambda: None

    outcomes, errors = overlapped(range(3), read, work, lambda picture: True), []
    for number in range(3):
        try:
            next(outcomes)()
        except ValueError as error:
            errors.append(str(error))
        assert number + 1 == len(read_so_far)
    assert [] == list(outcomes)
    assert (3 if fails else 0) == len(errors)


def test_closing_waits_for_what_has_begun() -> None:
    """An interrupt in the middle: what was begun is finished, nothing more begins, and no thread stays."""
    before, begun, finished = set(threading.enumerate()), threading.Event(), []

    def work(item: int, number: int) -> Callable[[], int]:
        if number == 1:
            assert begun.wait(60)
            raise KeyboardInterrupt

        def write() -> int:
            begun.set()
            finished.append(number)
            return number

        return write

    outcomes = overlapped(range(9), lambda number: number, work, lambda number: False)
    with pytest.raises(KeyboardInterrupt), closing(outcomes):
        next(outcomes)
    assert [0] == finished
    assert before == set(threading.enumerate())
