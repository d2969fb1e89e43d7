"""Compute-aware sub-net sampling."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arm_sr.errors import ArtefactError
from arm_sr.supernet.sampling import Sampling

MACS = {"w16": 10_000, "w32": 40_000, "w48": 90_000, "w64": 160_000}

cost_tables = st.lists(st.integers(1, 10**7), min_size=1, max_size=8).map(
    lambda macs: {f"net {i}": m for i, m in enumerate(sorted(macs))}
)
"""MACs of sub-nets whose names are in the order of their cost."""


@given(cost_tables, st.floats(0, 4), st.floats(0, 1))
def test_probabilities_are_a_distribution_that_rises_with_macs(macs, alpha, floor):
    """They sum to one, a dearer sub-net is never less likely, and none is below the floor that fits."""
    share = Sampling(alpha=alpha, floor=floor).probabilities(macs)

    assert list(macs) == list(share)
    assert sum(share.values()) == pytest.approx(1)
    values = np.array(list(share.values()))
    assert np.all(np.diff(values) >= -1e-12)
    assert values.min() >= min(floor, 1 / len(macs)) - 1e-12


def test_without_floor_the_default_exponent_is_the_papers():
    """ARM's code: MACs squared."""
    squares = {name: macs**2 for name, macs in MACS.items()}
    expected = {name: square / sum(squares.values()) for name, square in squares.items()}
    assert pytest.approx(expected) == Sampling(floor=0).probabilities(MACS)


def test_the_floor_shares_out_the_rest():
    """p = floor + (1 - n * floor) * share."""
    free = Sampling(floor=0).probabilities(MACS)
    expected = {name: 0.1 + 0.6 * share for name, share in free.items()}
    assert pytest.approx(expected) == Sampling(floor=0.1).probabilities(MACS)


@pytest.mark.parametrize("sampling", [Sampling(alpha=0, floor=0), Sampling(alpha=0, floor=0.1), Sampling(floor=1.0)])
def test_alpha_zero_or_a_floor_for_all_is_uniform(sampling):
    """A floor above 1/n means 1/n."""
    assert pytest.approx(dict.fromkeys(MACS, 0.25)) == sampling.probabilities(MACS)


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(alpha=0), Sampling(alpha=1, floor=0.02)])
def test_drawn_frequencies_match_the_probabilities(sampling):
    """One sub-net a step; 4000 steps."""
    rng = np.random.default_rng(0)
    drawn = [sampling.draw(MACS, rng) for _ in range(4000)]
    counts = Counter(name for names in drawn for name in names)
    assert {1} == {len(names) for names in drawn}
    for name, share in sampling.probabilities(MACS).items():
        assert counts[name] / 4000 == pytest.approx(share, abs=0.03)


def test_names_and_probabilities_stay_together_in_any_order():
    """MACs listed from the dearest down draw the dearest most often."""
    backwards = dict(reversed(MACS.items()))
    rng = np.random.default_rng(1)
    counts = Counter(Sampling(floor=0).draw(backwards, rng)[0] for _ in range(500))
    assert counts.most_common(1)[0][0] == "w64"


@given(cost_tables, st.integers(0, 2**32))
def test_a_sandwich_has_the_dearest_first_and_the_cheapest_last(macs, seed):
    """And one between them when there is one; every sub-net once."""
    drawn = Sampling(rule="sandwich").draw(macs, np.random.default_rng(seed))
    assert (max(macs), min(macs)) == (drawn[0], drawn[-1])
    assert min(3, len(macs)) == len(drawn)
    assert sorted(set(drawn), reverse=True) == drawn


def test_the_filling_of_a_sandwich_is_drawn_by_macs():
    """Among the sub-nets between, by the same rule."""
    sampling, rng = Sampling(rule="sandwich", floor=0.05), np.random.default_rng(2)
    counts = Counter(sampling.draw(MACS, rng)[1] for _ in range(4000))
    expected = sampling.probabilities({name: MACS[name] for name in ("w32", "w48")})
    assert {"w32", "w48"} == set(counts)
    assert counts["w48"] / 4000 == pytest.approx(expected["w48"], abs=0.03)


def test_a_draw_is_decided_by_the_generator():
    """Resuming a run repeats its draws."""
    sampling = Sampling(rule="sandwich")
    first, second = ([sampling.draw(MACS, np.random.default_rng((0, step))) for step in range(20)] for _ in "ab")
    assert first == second


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"rule": "club"}, "rule"),
        ({"alpha": -0.5}, "alpha"),
        ({"alpha": float("nan")}, "alpha"),
        ({"alpha": float("inf")}, "alpha"),
        ({"alpha": "2"}, "alpha"),
        ({"floor": -0.1}, "floor"),
        ({"floor": 1.1}, "floor"),
        ({"floor": None}, "floor"),
    ],
)
def test_a_bad_option_is_named(options, field):
    """Values come from a recipe file."""
    with pytest.raises(ArtefactError, match=rf"sampling\.{field}"):
        Sampling(**options)
