"""Against a clock of our own: what runs, in which order, and when it stops."""

from itertools import pairwise

import numpy as np
import pytest

import arm_sr.anytime
from arm_sr.anytime import ALWAYS_MS, FIRST_MS, Anytime, next_pace
from arm_sr.cost import CostTable
from arm_sr.patches import Grid
from arm_sr.scheduler.next_tiles import next_tiles

BRANCHES = ("bicubic", "w16", "w32", "w64")
GRID = Grid(96, 122, 16)
RNG = np.random.default_rng(0)
ERROR = np.cumsum(RNG.random((GRID.areas.size, 4)), axis=1)[:, ::-1] * RNG.exponential(1, (GRID.areas.size, 1))
COST = CostTable("ms", BRANCHES, np.array([0.0, 0.2, 0.3, 0.4]), np.array([0.0, 0.001, 0.004, 0.016]), "by hand")
ALL = COST.one_pass(3, 96 * 122)


class Machine:
    """A clock and an engine in one: time passes only while a sub-net runs, `slower` times what it should take."""

    def __init__(self, slower: float = 1.0, hiccups: tuple[int, ...] = ()) -> None:
        self.now, self.slower, self.hiccups = 0.0, slower, hiccups
        self.calls: list[tuple[str, int]] = []

    def perf_counter(self) -> float:
        """Seconds."""
        return self.now

    def run(self, branch: str, batch: np.ndarray) -> np.ndarray:
        """A picture of one level, the number of the branch times 50."""
        number, pixels = BRANCHES.index(branch), batch.shape[1] * batch.shape[2]
        factor = 4 if len(self.calls) in self.hiccups else self.slower
        self.now += factor * COST.one_pass(number, pixels) / 1e3
        self.calls.append((branch, pixels))
        return np.full((1, 2 * batch.shape[1], 2 * batch.shape[2], 3), 50 * number, np.uint8)


@pytest.fixture
def race(monkeypatch):
    """Runs one picture on a machine until so many milliseconds have passed."""

    def go(machine: Machine, ms: float, table: CostTable = COST, pace: float = 1.0, **how: float) -> Anytime:
        monkeypatch.setattr(arm_sr.anytime, "time", machine)
        lr, sr = np.random.default_rng(0).integers(0, 256, (96, 122, 3), np.uint8), np.zeros((192, 244, 3), np.uint8)
        run = Anytime(lr, sr, GRID, ERROR, table, machine, BRANCHES, 2, None if table is MACS else pace, **how)
        for _ in run.run(ms / 1e3):
            pass
        return run

    return go


def total(branch_map: np.ndarray) -> float:
    """Predicted error of the whole picture."""
    return float(ERROR[np.arange(len(ERROR)), branch_map.ravel()].sum())


MACS = CostTable("MAC", BRANCHES, np.zeros(4), 1e6 * COST.per_pixel, "card")


@pytest.mark.parametrize("table", [COST, MACS], ids=["calibrated", "never calibrated"])
@pytest.mark.parametrize("slower", [0.3, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.7, 1.5])
def test_time_is_kept(race, slower, share, table):
    """Also on a machine twice as slow as its costs say, the last tile ends in time, but for a millisecond: very short
    tiles are not quite believed."""
    machine = Machine(slower)
    run = race(machine, share * ALL, table)
    assert machine.now <= (share * ALL + (slower > 1)) / 1e3
    assert len(machine.calls) == 0 or run.infer_ms == pytest.approx(1e3 * machine.now)


@pytest.mark.parametrize(("slower", "part"), [(0.5, 0.7), (1.0, 0.7), (2.0, 0.5)])
@pytest.mark.parametrize("share", [0.1, 0.2, 0.4, 0.6])
def test_time_is_used(race, slower, part, share):
    """What is predicted in the end is no worse than a plan predicts that knows the speed of the machine and has 0.7 of
    the time; half of it, when the machine turns out slower than its costs say."""
    left = part * share * ALL / slower
    planned = np.zeros(GRID.shape, dtype=int)
    for branch, box in next_tiles(ERROR, planned, GRID, 2, COST, left, np.inf, 1 << 20):
        planned[box[0] : box[2], box[1] : box[3]] = branch
    assert total(race(Machine(slower), share * ALL).branch_map) <= total(planned)


def test_what_does_not_fit_any_more_is_done_in_part(race, monkeypatch):
    """The plan is one tile, and there is half of the time that it takes: its parts run one after the other from the
    top left, each in no more than half of what is left then, or in 20 ms, or one patch."""
    planned = iter([[(3, (0, 0, 6, 8))], []])
    monkeypatch.setattr(arm_sr.anytime, "next_tiles", lambda *args: next(planned))
    machine = Machine()
    run = race(machine, ALL / 2)
    took = [COST.one_pass(3, pixels) for _, pixels in machine.calls]
    left = ALL / 2 - np.cumsum([0, *took])
    assert left[-1] >= 0
    for ms, before, (_, pixels) in zip(took, left, machine.calls, strict=False):
        assert ms <= max(ALWAYS_MS, before / 2) or pixels <= 20 * 20
    assert sum(took) > 0.35 * ALL
    assert run.branch_map[0, 0] == 3 and not run.branch_map.all()


def test_more_time_is_a_better_picture(race):
    """On a machine as calibrated."""
    errors = [total(race(Machine(), share * ALL).branch_map) for share in np.linspace(0.05, 1.1, 8)]
    assert all(later < earlier for earlier, later in pairwise(errors))


@pytest.mark.parametrize("table", [COST, MACS], ids=["calibrated", "never calibrated"])
def test_without_end_every_patch_gets_its_best_branch(race, table):
    """And then it stops."""
    run = race(Machine(), np.inf, table)
    assert np.array_equal(ERROR.argmin(axis=1), run.branch_map.ravel())


def test_the_picture_shows_the_branch_map(race):
    """Inside every patch, away from softened seams, is what the branch gave that the map names."""
    run = race(Machine(), 0.2 * ALL)
    picture = run.picture()
    assert len(set(run.branch_map.ravel())) >= 3
    rows, cols = 2 * GRID.row_edges, 2 * GRID.col_edges
    for (row, col), branch in np.ndenumerate(run.branch_map):
        inside = picture[rows[row] + 1 : rows[row + 1] - 1, cols[col] + 1 : cols[col + 1] - 1]
        assert (inside == 50 * branch).all()


def test_the_pixels_that_were_computed_are_counted(race):
    """Those of tiles that others replaced too."""
    machine = Machine(0.2)
    run = race(machine, 0.5 * ALL)
    for number, branch in enumerate(BRANCHES):
        assert sum(pixels for name, pixels in machine.calls if name == branch) == run.pixels[number]


@pytest.mark.parametrize("when", [0, 1, 3, 8, 11])
def test_only_the_tile_with_a_hiccup_can_end_late(race, when):
    """It takes four times as long; nothing is begun after it when time is up."""
    machine = Machine(hiccups=(when,))
    race(machine, ALL)
    own = [COST.one_pass(BRANCHES.index(branch), pixels) for branch, pixels in machine.calls]
    late = max(0, sum(own[:when]) + 4 * own[when] - ALL)
    assert 1e3 * machine.now <= ALL + late + 1e-9
    assert late == 0 or len(machine.calls) == when + 1


@pytest.mark.parametrize("when", [3, 8, 11])
def test_a_hiccup_does_not_stop_the_rest(race, when):
    """More than half of what is gained on a calm machine is gained all the same."""
    none = total(np.zeros(GRID.shape, int))
    calm, disturbed = (total(race(Machine(hiccups=hiccups), ALL).branch_map) for hiccups in ((), (when,)))
    assert none - disturbed > 0.5 * (none - calm)


def test_a_machine_without_measured_costs_begins_with_one_patch(race):
    """In the cheapest sub-net, with its halo; and with nothing when there is hardly any time."""
    machine = Machine()
    race(machine, 0.5 * ALL, MACS)
    branch, pixels = machine.calls[0]
    assert branch == "w16"
    assert pixels <= 20 * 20
    machine = Machine()
    race(machine, 0.9 * FIRST_MS, MACS)
    assert [] == machine.calls


def test_a_sub_net_that_costs_nothing_is_run(race):
    """And tells nothing of the machine's speed."""
    free = CostTable("ms", BRANCHES, np.zeros(4), np.array([0.0, 0.0, 0.004, 0.016]), "by hand")
    assert (race(Machine(), np.inf, free).branch_map == ERROR.argmin(axis=1).reshape(GRID.shape)).all()


def test_a_pace_that_is_known_is_kept_from_the_first_tile_on(race):
    """A machine eight times as slow is not late then, and late otherwise."""
    late = []
    for pace in (8.0, 1.0):
        machine = Machine(8)
        race(machine, 1.5 * ALL, pace=pace)
        late.append(1e3 * machine.now > 1.5 * ALL)
    assert [False, True] == late


def test_a_tile_that_does_not_fit_makes_room_for_a_shorter_one(race):
    """Before anything is planned anew: a hiccup leaves too little for the longer ones."""
    machine = Machine(hiccups=(0,))
    race(machine, 0.15 * ALL)
    assert len(machine.calls) > 3


@pytest.mark.parametrize("step", [2.0, 10.0])
def test_no_tile_takes_longer_than_a_step(race, step):
    """Unless it is a single patch."""
    machine = Machine()
    race(machine, 4 * ALL, step_ms=step)
    costs = [COST.one_pass(BRANCHES.index(branch), pixels) for branch, pixels in machine.calls]
    assert step / 3 < max(costs) <= max(step, COST.one_pass(3, 20 * 20))


def test_no_tile_is_larger_than_memory_allows(race, monkeypatch):
    """However much time there is."""
    machine = Machine()
    monkeypatch.setattr(arm_sr.anytime, "LARGEST", 3000)
    race(machine, 10 * ALL)
    assert 1500 < max(pixels for _, pixels in machine.calls) <= 3000


def test_the_next_pace():
    """That of the tiles that ran; where nothing ran it is forgotten by and by."""
    assert 8 == next_pace(2.0, 8.0, "ms", ran=True)
    assert 2 == next_pace(8.0, 2.0, "ms", ran=True)
    assert 2 == next_pace(4.0, 4.0, "ms", ran=False)
    assert 3e-9 == next_pace(None, 3e-9, "MAC", ran=True)
    assert next_pace(None, None, "MAC", ran=True) is None
    assert next_pace(3e-9, 3e-9, "MAC", ran=False) is None


def test_no_time_is_no_tile(race):
    """The interpolated picture stays."""
    for ms in (0.0, -5.0):
        machine = Machine()
        assert not race(machine, ms).branch_map.any()
        assert [] == machine.calls
