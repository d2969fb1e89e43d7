"""What `arm-sr upscale` tells of its pictures: lines on stderr, JSON, the exit status."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..scheduler import Plan
    from .job import Job


class Outcomes:
    """Of the pictures so far, in their order.

    Args:
        args: of the command.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._lines: list[str] = []
        self.failures: list[str] = []
        """What went wrong, a sentence each."""
        self._ms = 0.0  # for upscaling, files not counted

    def succeeded(self, plan: "Plan", report: dict[str, Any]) -> None:
        """Tell of a picture that is done."""
        args = self._args
        self._ms += _own_ms(report)
        if args.dry_run:
            if args.json != "-":
                print(plan)
        else:
            if args.verbose:
                say(str(plan))
            if not args.quiet:
                say(f"{report['file']} -> {report['output_file']}: {_summary(report)}")
        self._line(report)

    def failed(self, file: Path, reason: str) -> None:
        """Tell of a picture, or a folder, that could not be done; `reason` is a sentence with the name to blame."""
        self.failures.append(reason)
        say(f"arm-sr: error: {reason}")
        self._line({"file": str(file), "error": reason})

    def write_report(self, path: Path) -> None:
        """Write the JSON lines so far."""
        from ..atomic import write_bytes

        write_bytes(path, "".join(line + "\n" for line in self._lines).encode())

    def conclude(self, pictures: int, job: "Job | None") -> None:
        """Say what a total came to, and what failed of so many pictures: of a job again, for it may be far above."""
        if job and job.planned_ms is not None and not self._args.quiet and not self._args.dry_run:
            asked, planned = self._args.budget_total, job.planned_ms / 1e3
            say(f"arm-sr: {asked} asked for all, {planned:.2f} s planned, {self._ms / 1e3:.2f} s taken without files")
        if self.failures and (job or pictures > 1):
            say(f"arm-sr: {len(self.failures)} of {pictures} pictures failed")
            for reason in self.failures if job else ():
                say(f"  {reason}")

    def _line(self, report: dict[str, Any]) -> None:
        self._lines.append(json.dumps(report))
        if self._args.json == "-":
            print(self._lines[-1], flush=True)


def say(text: str) -> None:
    """A line on stderr, above the progress bar where there is one."""
    from tqdm import tqdm

    tqdm.write(text, file=sys.stderr)


def _own_ms(stats: dict[str, Any]) -> float:
    """What upscaling took, files not counted."""
    from ..report import UPSCALING

    return sum(stats["time_ms"].get(stage, 0.0) for stage in UPSCALING)


def _summary(stats: dict[str, Any]) -> str:
    """One line: size, cost, branches, time."""
    planned, largest = stats["macs"]["planned"], stats["macs"]["largest"]
    patches = sum(stats["branches"].values())
    shares = ", ".join(f"{name} {100 * n / patches:.0f}%" for name, n in stats["branches"].items() if n)
    text = (
        f"{stats['output']['width']}x{stats['output']['height']}, {planned / 1e9:.2f} GMAC "
        f"({100 * planned / largest:.1f}% of one pass of the largest sub-net), patches: {shares}; "
        f"{_own_ms(stats):.0f} ms and {stats['time_ms']['total']:.0f} ms with files"
    )
    budget = stats["budget"]
    if budget["kind"] == "ms":
        text += f"; {budget['requested']} asked, {budget['planned']:.0f} ms planned"
    if budget["kind"] == "deadline":
        text += f"; {budget['requested']} asked, {budget['spent']:.0f} ms taken"
    return text + (f"; {stats['note']}" if stats["note"] else "")
