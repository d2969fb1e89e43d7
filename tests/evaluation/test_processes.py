"""Fresh processes: their processors, their memory, and how they end."""

import os
import signal
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from arm_sr.backends.threads import allowed_threads
from arm_sr.errors import ModelError, UsageError
from arm_sr.evaluation.arms import Arm, interpolation_arm
from arm_sr.evaluation.processes import checked_threads, peak_rss, with_threads
from arm_sr.models import load_model


def test_a_process_has_the_threads_it_is_given() -> None:
    """And this one has its own again afterwards; errors come through."""
    before = os.sched_getaffinity(0)
    assert with_threads(1, allowed_threads) == 1
    with pytest.raises(ModelError, match="unknown model 'none'"):
        with_threads(1, load_model, "none")
    assert before == os.sched_getaffinity(0)


def test_numbers_of_threads_are_checked() -> None:
    """From one to what is allowed."""
    most = allowed_threads()
    assert checked_threads([most, 1, most]) == sorted({1, most})
    for wrong in (0, most + 1):
        with pytest.raises(UsageError, match=f"from 1 to {most}"):
            checked_threads([1, wrong])


def test_peak_memory_is_that_of_the_arm_alone() -> None:
    """With none of this process's; it grows with the result."""
    held = np.ones(100_000_000)  # 763 MiB
    small, large = (peak_rss(interpolation_arm(2), np.zeros((side, side, 3), np.uint8)) for side in (10, 3000))
    assert small is not None and large is not None
    assert 20 < small < large < held.nbytes / 2**20
    assert large - small > 9 * 12  # 27 MB in, 108 MB out


def test_the_memory_of_a_process_that_dies_is_not_known(caplog: pytest.LogCaptureFixture) -> None:
    """Which is no reason to lose the times."""
    assert peak_rss(Arm("engine", "static", "w64", partial(os._exit, 1)), np.zeros((4, 4, 3), np.uint8)) is None
    assert "engine static w64 is not known" in caplog.text


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_process_ends_with_the_one_that_waits_for_it(number: signal.Signals, status: int) -> None:
    """However that is ended."""
    run = (
        "from arm_sr.cli import run_tool; from arm_sr.evaluation.processes import in_fresh_process\n"
        "run_tool(lambda: in_fresh_process(exec, 'print(\"begun\", flush=True); import time; time.sleep(60)'))"
    )
    with subprocess.Popen([sys.executable, "-c", run], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as waiting:
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == b"begun\n"
        waiting.send_signal(number)
        assert waiting.communicate(timeout=20) == (b"", None)  # both held the other end
        assert waiting.returncode == status
