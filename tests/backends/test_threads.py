"""The processors that a process may use, in control groups as they would be found."""

import os
from pathlib import Path

import pytest

from arm_sr.backends import threads
from arm_sr.backends.threads import allowed_threads
from arm_sr.errors import UsageError

V2 = "0::{}\n"
V1 = "11:memory:/else\n4:cpu,cpuacct:{}\n0::/\n"


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of eight processors without control groups; the folder that may get some."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(threads, "LIMITS", tmp_path / "limits")
    return tmp_path


def write(groups: Path, line: str, group: str, limits: dict[str, str]) -> None:
    """The group of the process, and files with their contents."""
    (groups / "cgroup").write_text(line.format(group))
    for name, text in limits.items():
        path = groups / "limits" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_without_control_groups_all_processors_count(groups: Path) -> None:
    """As on another system."""
    assert 8 == allowed_threads()


@pytest.mark.parametrize(
    ("group", "limits", "expected"),
    [
        ("/", {"cpu.max": "max 100000\n"}, 8),
        ("/", {"cpu.max": "200000 100000\n"}, 2),
        ("/", {"cpu.max": "150000 100000\n"}, 2),
        ("/", {"cpu.max": "1000 100000\n"}, 1),
        ("/", {"cpu.max": "9900000 100000\n"}, 8),
        ("/a/b", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3),
        ("/a/b", {"a/b/cpu.max": "500000 100000\n", "a/cpu.max": "300000 100000\n"}, 3),
        ("/of/the/host", {"cpu.max": "400000 100000\n"}, 4),
        ("/../outside", {"cpu.max": "400000 100000\n"}, 4),
        ("/", {"cpu.max": "rubbish\n"}, 8),
        ("/\n\nno group\n", {"cpu.max": "200000 100000\n"}, 2),
        ("/", {"cpu.max": "100000 0\n"}, 8),
    ],
)
def test_the_limit_of_version_2(groups: Path, group: str, limits: dict[str, str], expected: int) -> None:
    """The tightest of the group and those around it; a part of a processor counts as one."""
    write(groups, V2, group, limits)
    assert expected == allowed_threads()


@pytest.mark.parametrize(
    ("quota", "period", "expected"), [("-1", "100000", 8), ("250000", "100000", 3), ("50000", "100000", 1), ("", "", 8)]
)
@pytest.mark.parametrize("folder", ["", "docker/x/"])
def test_the_limit_of_version_1(groups: Path, folder: str, quota: str, period: str, expected: int) -> None:
    """In the folder of the controllers, that of the group or the topmost."""
    place = f"cpu/{folder}cpu.cfs_"
    write(groups, V1, "/docker/x", {f"{place}quota_us": quota, f"{place}period_us": period})
    assert expected == allowed_threads()


def test_fewer_processors_than_the_limit(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process is kept to three."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 4, 5}, raising=False)
    write(groups, V2, "/", {"cpu.max": "400000 100000\n"})
    assert 3 == allowed_threads()


def test_a_variable_of_the_environment_limits_them(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gives no more than there are."""
    for asked, expected in (("", 8), ("3", 3), ("99", 8)):
        monkeypatch.setenv("ARM_SR_THREADS", asked)
        assert expected == allowed_threads()
    for asked in ("0", "-1", "many"):
        monkeypatch.setenv("ARM_SR_THREADS", asked)
        with pytest.raises(UsageError, match=f"ARM_SR_THREADS must be a number from 1 on, not {asked}"):
            allowed_threads()
