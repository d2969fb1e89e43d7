"""Against a clock of our own: what runs, in which order, and when it stops."""

from itertools import pairwise

import numpy as np
import pytest

import arm_sr.anytime
from arm_sr.anytime import FIRST_MS, Anytime
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

    def go(machine: Machine, ms: float, table: CostTable = COST, halo: int = 2) -> Anytime:
        monkeypatch.setattr(arm_sr.anytime, "time", machine)
        lr, sr = np.zeros((96, 122, 3), np.uint8), np.zeros((192, 244, 3), np.uint8)
        run = Anytime(lr, sr, GRID, ERROR, table, machine, BRANCHES, halo)
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
    """Also on a machine twice as slow as its costs say, the last tile ends in time."""
    machine = Machine(slower)
    run = race(machine, share * ALL, table)
    assert machine.now <= share * ALL / 1e3
    assert len(machine.calls) == 0 or run.infer_ms == pytest.approx(1e3 * machine.now)


@pytest.mark.parametrize(("slower", "part"), [(0.5, 0.7), (1.0, 0.7), (2.0, 0.5)])
@pytest.mark.parametrize("share", [0.1, 0.2, 0.4, 0.6])
def test_time_is_used(race, slower, part, share):
    """What is predicted in the end is no worse than a plan predicts that knows the speed of the machine and has 0.7 of
    the time; half of it, when the machine turns out slower than its costs say."""
    left = part * share * ALL / slower
    planned = np.zeros(GRID.shape, dtype=int)
    tiles = next_tiles(ERROR, planned, GRID, 2, COST, left, np.inf)
    for branch, box in zip(tiles.branch, -(-tiles.box // GRID.patch), strict=True):
        planned[box[0] : box[2], box[1] : box[3]] = branch
    assert total(race(Machine(slower), share * ALL).branch_map) <= total(planned)


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
    run = race(Machine(), 0.3 * ALL)
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


def test_a_hiccup_does_not_stop_the_rest(race):
    """One tile that takes four times as long costs that time and little more."""
    calm, disturbed = race(Machine(), ALL), Machine(hiccups=(3,))
    run = race(disturbed, ALL)
    assert disturbed.now <= ALL / 1e3
    assert len(disturbed.calls) > 10
    assert total(run.branch_map) < total(np.zeros(GRID.shape, int)) - 0.5 * (
        total(np.zeros(GRID.shape, int)) - total(calm.branch_map)
    )


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


def test_no_time_is_no_tile(race):
    """The interpolated picture stays."""
    for ms in (0.0, -5.0):
        machine = Machine()
        assert not race(machine, ms).branch_map.any()
        assert [] == machine.calls
