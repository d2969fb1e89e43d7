"""Every way to write a budget, and what is no budget."""

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import few

from arm_sr.errors import ArmSRError, BudgetError, UsageError
from arm_sr.scheduler import Budget
from arm_sr.scheduler.budget import parse_deadline

ACCEPTED = [
    ("40%", "share", 0.4),
    ("40 %", "share", 0.4),
    ("12.5%", "share", 0.125),
    ("100%", "share", 1),
    ("150%", "share", 1.5),
    ("0.01%", "share", 1e-4),
    ("+40%", "share", 0.4),
    ("0.4", "share", 0.4),
    (".4", "share", 0.4),
    ("4e-1", "share", 0.4),
    ("1", "share", 1),
    ("1.", "share", 1),
    (" 0.4 ", "share", 0.4),
    ("2.5GMAC", "macs", 2.5e9),
    ("2.5 gmac", "macs", 2.5e9),
    ("800 MMAC", "macs", 8e8),
    ("1TMAC", "macs", 1e12),
    ("1e9MAC", "macs", 1e9),
    ("1E9mac", "macs", 1e9),
    ("150ms", "ms", 150),
    ("150 MS", "ms", 150),
    ("\t150ms\n", "ms", 150),
    (".5ms", "ms", 0.5),
    ("1.5s", "ms", 1500),
    ("1.5 S", "ms", 1500),
    ("max", "max", math.inf),
    ("MAX", "max", math.inf),
    (" Max ", "max", math.inf),
]
REJECTED = [
    "0", "0%", "0ms", "0.0", "-5%", "-0.4", "-1GMAC", "", "  ", "abc", "40", "1.01", "150", "nan", "inf", "-inf",
    "nan%", "infms", "5 bananas", "5 GMACs", "5%%", "%", "ms", "max%", "maximum", "1e400ms", "1e400", "1e-400ms",
    "4 0%", "1,5s", "1.5.5s", "0x10MAC", "1_000ms", "--5ms", "e5ms", "1e", "None", "40% 150ms", "40%;",
]  # fmt: skip


@pytest.mark.parametrize(("text", "kind", "value"), ACCEPTED, ids=[repr(row[0]) for row in ACCEPTED])
def test_a_budget_is_read(text, kind, value):
    """Kind and value in shares, MACs or milliseconds."""
    budget = Budget.parse(text)
    assert kind == budget.kind
    assert pytest.approx(value, rel=1e-12) == budget.value


def test_a_budget_keeps_its_words():
    """As it was asked for, without spaces around it."""
    assert ["40 %", "0.4", "max"] == [Budget.parse(text).text for text in (" 40 % ", "0.4", "MAX")]


@pytest.mark.parametrize("number", [0.4, 1, 1.0, 1e-5, np.float64(0.4), np.float32(0.5)])
def test_a_number_is_a_share(number):
    """Python's and numpy's, in any notation that `str` gives."""
    budget = Budget.parse(number)
    assert ("share", pytest.approx(float(number))) == (budget.kind, budget.value)


def test_a_budget_is_itself():
    """Reading a budget that is read already changes nothing."""
    budget = Budget.parse("2.5GMAC")
    assert Budget.parse(budget) is budget


@pytest.mark.parametrize("text", REJECTED, ids=repr)
def test_what_is_no_budget_is_an_error_with_a_hint(text):
    """The message holds what was given and shows what would do."""
    with pytest.raises(BudgetError) as error:
        Budget.parse(text)
    assert f"budget '{text.strip()}' " in str(error.value)
    assert "40%" in str(error.value)
    assert "150ms" in str(error.value)


@pytest.mark.parametrize(
    "value", [None, True, 0, 40, -0.5, math.nan, math.inf, [], b"40%", (0.4,), {"budget": 1}], ids=repr
)
def test_other_values_are_an_error_with_a_hint(value):
    """Numbers out of range and other types are named as they print."""
    with pytest.raises(BudgetError) as error:
        Budget.parse(value)
    assert f"'{value}'" in str(error.value)
    assert "40%" in str(error.value)


def test_a_number_above_one_without_unit_says_what_is_missing():
    """40 may mean 40% or 40 ms: it is not guessed."""
    with pytest.raises(BudgetError, match="no unit"):
        Budget.parse("40")


def test_a_budget_error_is_a_usage_error():
    """The command exits with status 2, and a caller may catch ValueError."""
    for kind in (UsageError, ArmSRError, ValueError):
        assert issubclass(BudgetError, kind)


@few
@given(st.text(max_size=12))
def test_any_text_is_a_positive_budget_or_a_budget_error(text):
    """Nothing else is raised and nothing else is returned."""
    try:
        budget = Budget.parse(text)
    except BudgetError:
        return
    assert budget.value > 0
    assert budget.kind in ("share", "macs", "ms", "max")


@few
@given(st.floats(1e-6, 1), st.sampled_from(["", "%", "MAC", "GMAC", "ms", "s"]))
def test_any_number_with_a_unit_is_read_as_python_reads_it(number, unit):
    """Exponents included."""
    factor = {"": 1, "%": 0.01, "MAC": 1, "GMAC": 1e9, "ms": 1, "s": 1000}[unit]
    assert pytest.approx(number * factor, rel=1e-12) == Budget.parse(f"{number!r}{unit}").value


def test_deadlines_are_times():
    """In milliseconds or seconds; nothing else is one, and the message names it."""
    assert [("ms", 80.0, "80ms"), ("ms", 1500.0, "1.5s")] == [
        (d.kind, d.value, d.text) for d in map(parse_deadline, ("80ms", "1.5s"))
    ]
    for wrong in ("80", "0.5", "40%", "2GMAC", "max", "-1ms", "0s", "soon", ""):
        with pytest.raises(BudgetError, match=f"deadline '{wrong}'"):
            parse_deadline(wrong)


def test_long_rubbish_is_refused_at_once():
    """As a request to a server may have it: the time is in proportion to the length."""
    begun = time.process_time()
    for text in ("1" * 10_000 + "!", "1" * 10_000 + "." + "1" * 10_000 + "!", "1" + " " * 10_000 + "!"):
        with pytest.raises(BudgetError):
            Budget.parse(text)
    assert time.process_time() - begun < 1
