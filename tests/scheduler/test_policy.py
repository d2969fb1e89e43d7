"""ARM's rule against a plain double loop."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import few

from arm_sr.errors import UsageError
from arm_sr.scheduler.policy import eta_rule, parse_eta

COST = np.array([0.0, 0.125, 0.5, 1.0])


def slow_rule(psnr, cost, eta):
    """The definition, branch by branch; the first of equal ones stays."""
    chosen = []
    for row in psnr:
        best = 0
        for branch in range(len(cost)):
            if eta * row[branch] - cost[branch] > eta * row[best] - cost[best]:
                best = branch
        chosen.append(best)
    return chosen


def rows_of_psnr():
    """Predicted PSNR in quarters of a dB, so that sums and ties are exact."""
    quarters = st.lists(st.integers(60, 200), min_size=4, max_size=4)
    return st.lists(quarters, min_size=1, max_size=20).map(lambda rows: np.array(rows) / 4)


@few
@given(rows_of_psnr(), st.sampled_from([0, 0.0625, 0.125, 0.25, 0.5, 1, 2, 4, 1024]))
def test_the_rule_is_the_double_loop(psnr, eta):
    """Ties included: the numbers are binary fractions."""
    assert slow_rule(psnr, COST, eta) == eta_rule(psnr, COST, eta).tolist()


@pytest.mark.parametrize("eta", [0.01, 0.07, 0.3, 1.3, 17.0])
def test_the_rule_is_the_double_loop_on_noise(eta):
    """Numbers as they come from a table."""
    psnr = np.sort(np.random.default_rng(3).uniform(20, 40, (500, 4)), axis=1)
    assert slow_rule(psnr, COST, eta) == eta_rule(psnr, COST, eta).tolist()


@few
@given(rows_of_psnr())
def test_eta_0_takes_the_cheapest_branch(psnr):
    """Quality counts nothing."""
    assert [0] * len(psnr) == eta_rule(psnr, COST, 0.0).tolist()


@few
@given(rows_of_psnr(), st.sampled_from([math.inf, 1e300, 1e308]))
def test_best_takes_the_best_predicted_branch(psnr, eta):
    """Cost counts nothing, neither at infinity nor where eta times PSNR is beyond a float."""
    assert [row.tolist().index(row.max()) for row in psnr] == eta_rule(psnr, COST, eta).tolist()


@pytest.mark.parametrize("eta", [0.25, 1.0, 2.0, math.inf])
def test_of_equal_branches_the_cheaper_is_taken(eta):
    """At finite eta equal in worth, at infinity equal in PSNR."""
    gain = np.zeros(4) if math.isinf(eta) else COST / eta
    assert [0, 0] == eta_rule(np.array([30 + gain, 20 + gain]), COST, eta).tolist()


def test_a_larger_eta_never_takes_a_cheaper_branch():
    """On rising PSNR the branch rises with eta."""
    psnr = np.sort(np.random.default_rng(4).uniform(20, 40, (200, 4)), axis=1)
    chosen = [eta_rule(psnr, COST, eta) for eta in (0, 0.01, 0.1, 0.5, 1, 10, math.inf)]
    assert np.all(np.diff(chosen, axis=0) >= 0)


@pytest.mark.parametrize(
    ("eta", "expected"),
    [("0", 0), ("0.3", 0.3), (" 2 ", 2), ("1e3", 1000), (0.5, 0.5), (3, 3), ("best", math.inf), (" BEST ", math.inf)],
)
def test_eta_is_read(eta, expected):
    """A number of 0 or more, or best."""
    assert expected == parse_eta(eta)


@pytest.mark.parametrize("eta", ["", "-1", "-0.01", -2, "nan", math.nan, "abc", "5%", "worst", None, [], 10**400])
def test_a_bad_eta_is_a_usage_error_that_names_it(eta):
    """And says what would do."""
    with pytest.raises(UsageError, match="number of 0 or more, or best") as error:
        parse_eta(eta)
    assert f"eta '{eta}'" in str(error.value)
