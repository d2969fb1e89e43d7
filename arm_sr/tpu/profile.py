"""What a compiled net costs by the compiler's own model of the chip: cycles, by operator and by unit of the chip."""

import html
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import ArtefactError

UNITS = {"BD": "compute", "GDMA": "transfer"}
"""Of the chip: the compiler's name, and the word for it."""


@dataclass(frozen=True)
class OperatorCost:
    """Cycles of one operator on one unit; operators of both units overlap."""

    operator: str
    """The compiler's word for it."""
    node: str
    """What it makes: the name that the compiler gave, which begins with an output of the ONNX file."""
    unit: str
    """One of the values of `UNITS`."""
    cycles: int
    """While the unit is busy with it."""


@dataclass(frozen=True)
class Profile:
    """Cost of one pass of a net."""

    cycles: int
    """From beginning to end."""
    ms: float
    """The same at the chip's clock; transfers from and to the host and launches come on top."""
    operators: tuple[OperatorCost, ...] = field(default=())
    """In order of their first command."""


_COMMAND = re.compile(r"(?P<name>\w*)\|\w+\|s:\d+\|b:\d+\|g:\d+\|e:\d+\|t:(?P<cycles>\d+)(?P<transfer>\|dr:\d+)?")


def read_profile(path: Path, locations: Path) -> Profile:
    """The compiler's profile of a net.

    Args:
        path: `compiler_profile_0.txt` or `_0.dat`.
        locations: `NET.bmodel.json`, which has the names of what the operators make.

    Raises:
        ArtefactError: a file that is missing, or not such a one.
    """
    try:
        text = path.read_text(encoding="utf-8")
        (cycles,) = re.findall(r"total_cycle:(\d+)", text)
        (ms,) = re.findall(r"runtime: ([\d.]+)ms", text)
        made = json.loads(locations.read_text(encoding="utf-8"))
        names = {str(one["file-line"]): one["results"][0]["name"] for one in made if one["results"]}
    except OSError as error:
        raise ArtefactError(f"{error.filename}: {error.strerror}; compile the net again") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ArtefactError(f"{path}: not a profile of the compiler ({error})") from error
    spent: dict[tuple[str, str, str], int] = defaultdict(int)
    for command in _COMMAND.finditer(text):
        operator, _, line = command["name"].rpartition("_")
        unit = UNITS["GDMA" if command["transfer"] else "BD"]
        spent[operator or "Move", names.get(line, ""), unit] += int(command["cycles"])
    return Profile(int(cycles), float(ms), tuple(OperatorCost(*key, count) for key, count in spent.items()))


def profile_page(title: str, columns: Sequence[tuple[str, Profile]]) -> str:
    """An HTML page, with nothing to load, of profiles side by side: cycles by operator and unit.

    Args:
        title: of the page.
        columns: name and profile of every net.
    """
    rows: dict[tuple[str, str], dict[str, int]] = {}
    for name, profile in columns:
        for cost in profile.operators:
            row = rows.setdefault((cost.operator, cost.unit), defaultdict(int))
            row[name] += cost.cycles
    order = sorted(rows, key=lambda key: -max(rows[key].values()))
    most = max((value for row in rows.values() for value in row.values()), default=1)
    head = "".join(f"<th>{html.escape(name)}</th>" for name, _ in columns)
    total = "".join(f"<td><b>{profile.cycles:,}</b> cycles, {profile.ms:.3f} ms</td>" for _, profile in columns)
    lines = []
    for operator, unit in order:
        cells = ""
        for name, profile in columns:
            cycles = rows[operator, unit].get(name, 0)
            bar = f'<div class="{unit}" style="width:{100 * cycles / most:.2f}%"></div>'
            share = f"{cycles:,} ({100 * cycles / profile.cycles:.1f}%)" if cycles else ""
            cells += f"<td>{bar}<span>{share}</span></td>"
        lines.append(f"<tr><th>{html.escape(operator)}</th><td>{unit}</td>{cells}</tr>")
    details = []
    for name, profile in columns:
        body = "".join(
            f"<tr><td>{html.escape(cost.operator)}</td><td>{html.escape(cost.node)}</td><td>{cost.unit}</td>"
            f"<td class=number>{cost.cycles:,}</td></tr>"
            for cost in profile.operators
        )
        details.append(
            f"<details><summary>{html.escape(name)}: every operator</summary><table><tr><th>operator</th>"
            f"<th>makes</th><th>unit</th><th>cycles</th></tr>{body}</table></details>"
        )
    return _PAGE.format(title=html.escape(title), head=head, total=total, rows="\n".join(lines),
                        details="\n".join(details))  # fmt: skip


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 1.5em; color: #222; background: #fff }}
table {{ border-collapse: collapse; margin: 1em 0 }}
th, td {{ padding: .25em .7em; text-align: left; border-bottom: 1px solid #ddd; min-width: 5em }}
td div {{ height: .5em }}
td span, .number {{ font-variant-numeric: tabular-nums }}
.number {{ text-align: right }}
.compute {{ background: #2a6f97 }}
.transfer {{ background: #d98324 }}
summary {{ cursor: pointer }}
</style>
<h1>{title}</h1>
<p>Cycles by the compiler's model of the chip, by operator and by the unit that is busy with it. The units work at the
same time, so the parts sum to more than the whole. Transfers from and to the host and launches come on top.</p>
<table>
<tr><th>operator</th><th>unit</th>{head}</tr>
<tr><th>whole net</th><td></td>{total}</tr>
{rows}
</table>
{details}
</html>
"""
