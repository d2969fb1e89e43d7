"""What was measured of operators on the TPUs: the file `operators.json`, which `probe` makes and `check` reads."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from ..atomic import write_bytes
from ..errors import ArtefactError

TABLE = Path(__file__).with_name("operators.json")
"""What was measured, as it comes with the package."""
SCHEMA = 1
Verdict = Literal["ok", "wrong", "refused"]


@dataclass(frozen=True)
class Measured:
    """What became of one network on one chip in one precision."""

    verdict: Verdict
    error: float | None = None
    """Largest of any output value, as a share of the range of the output; None when nothing was computed."""
    rms: float | None = None
    """Root mean square of the errors, as a share of the range of the output."""
    said: str = ""
    """First line of what the compiler said; or what else is wrong with the output."""


class Table:
    """The file.

    Args:
        path: a file that is not there is an empty table; ArtefactError when it is none.
    """

    def __init__(self, path: Path = TABLE) -> None:
        self.path = path
        self.about: dict[str, object] = {}
        """How it was made; `converted` is a list of all operators that the compiler has something for."""
        self.operators: dict[str, dict[str, Measured]] = {}
        """By aspect (`operators.aspects`) and `CHIP PRECISION`."""
        self.nets: dict[str, str] = {}
        """What was tried, by aspect."""
        if not path.is_file():
            return
        try:
            data = json.loads(path.read_bytes())
            if data["schema"] != SCHEMA:
                what = f"has schema {data['schema']}, not {SCHEMA}; make it with tools/probe_operators.py"
                raise ArtefactError(f"{path}: {what}")
            self.about = {key: value for key, value in data.items() if key != "operators"}
            for aspect, entry in data["operators"].items():
                self.nets[aspect] = entry["net"]
                self.operators[aspect] = {name: Measured(**each) for name, each in entry["results"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtefactError(f"{path}: not a table of operators ({error})") from error

    @property
    def converted(self) -> list[str]:
        """Operators that the compiler has something for."""
        names = self.about.get("converted", [])
        return [str(name) for name in names] if isinstance(names, list) else []

    @property
    def targets(self) -> list[tuple[str, str]]:
        """Chips and precisions that were measured."""
        found = (name for results in self.operators.values() for name in results)
        return [(name.split()[0], name.split()[1]) for name in dict.fromkeys(found)]

    def save(self, order: Iterable[str] = ()) -> None:
        """Write the file, those of `order` first."""
        names = [*(name for name in order if name in self.operators), *self.operators]
        operators = {
            aspect: {
                "net": self.nets[aspect],
                "results": {
                    name: {key: value for key, value in asdict(each).items() if value not in (None, "")}
                    for name, each in self.operators[aspect].items()
                },
            }
            for aspect in dict.fromkeys(names)
        }
        head = json.dumps({**self.about, "operators": None}, indent=2).removesuffix("null\n}")
        rows = [f"    {json.dumps(aspect)}: {json.dumps(entry)}" for aspect, entry in operators.items()]
        write_bytes(self.path, (head + "{\n" + ",\n".join(rows) + "\n  }\n}\n").encode())


def markdown(table: Table) -> str:
    """The table as a page."""
    targets = table.targets
    lines = [
        "# Operators on Sophgo TPUs",
        "",
        f"What {table.about['compiler']} makes of each operator in a tiny network, in the simulator of each chip: the",
        "largest error against ONNX Runtime as a share of the range of the output, **bold** when it is too large to be",
        f"rounding ({_tolerances(table)}), or **refused**.",
        "`arm_sr/tpu/check.py` looks up every node of an ONNX file here, and says what to write instead.",
        "",
        "Measured with `tools/probe_operators.py`, and printed with `tools/probe_operators.py --markdown`;",
        "the networks are in `arm_sr/tpu/operators.json`.",
        "",
        f"| operator | {' | '.join(' '.join(target) for target in targets)} |",
        f"|---|{'---|' * len(targets)}",
    ]
    for aspect, results in table.operators.items():
        cells = [_cell(results.get(" ".join(target))) for target in targets]
        lines.append(f"| {aspect} | {' | '.join(cells)} |")
    lines += ["", "Messages of the compiler where it refuses, and what else is wrong:", ""]
    for aspect, results in table.operators.items():
        said = dict.fromkeys(each.said for each in results.values() if each.said)
        lines += [f"- {aspect}: {'; '.join(f'`{words}`' for words in said)}"] if said else []
    return "\n".join(lines)


def _tolerances(table: Table) -> str:
    limits = table.about.get("tolerances")
    return ", ".join(f"{limit:g} in {name}" for name, limit in limits.items()) if isinstance(limits, dict) else ""


def _cell(measured: Measured | None) -> str:
    if measured is None:
        return ""
    if measured.error is None:
        return f"**{measured.verdict}**"
    figure = f"{measured.error:.1g}" if measured.error < 0.01 else f"{measured.error:.2g}"
    return figure if measured.verdict == "ok" else f"**{figure}**"
