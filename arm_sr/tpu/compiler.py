"""The compiler tpu_mlir in a Python environment of its own: setting that up, and running its tools there."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import onnx

from ..errors import BackendError

ENVIRONMENT = "ARM_SR_TPU_ENV"
"""Variable that names the environment's folder."""
PYTHON = "python3.10"
"""The only one that the compiler is made for."""
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
"""What is installed, all of it with its version and nothing else: the compiler's own list has packages of gigabytes for
other kinds of networks."""
STAND_INS = Path(__file__).with_name("stand_ins")
"""Modules in the place of those packages."""
SYSTEM_LIBRARIES = ("libc.so.6", "libm.so.6", "libpthread.so.0")
"""The compiler brings older ones, with which every process that it starts breaks on a newer system."""
LINES = 12
"""Of a tool's output that are shown when it failed."""


class CompileError(BackendError):
    """The compiler could not be set up or refused a network."""


def environment_folder() -> Path:
    """Where the environment is, unless another place is named."""
    named = os.environ.get(ENVIRONMENT)
    return Path(named) if named else Path.home() / ".cache" / "arm_sr" / "tpu_compiler"


def find_python() -> Path:
    """A Python 3.10: on PATH, or among those of pyenv; CompileError when there is none."""
    found = shutil.which(PYTHON)
    candidates = [Path(found)] if found else []
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    candidates += sorted(pyenv.glob(f"versions/3.10*/bin/{PYTHON}"), reverse=True)
    for python in candidates:
        # A shim of pyenv is there for versions that are not chosen, too.
        if subprocess.run([python, "-c", "import venv"], capture_output=True, check=False).returncode == 0:
            return python
    raise CompileError(f"the compiler needs {PYTHON}, which is neither on PATH nor among the versions of pyenv")


def set_up(folder: Path) -> "Compiler":
    """Make the environment in `folder` (2 GB) from the pinned requirements; an existing one is completed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    pip = str(folder / "bin" / "pip")
    for command in (
        [str(find_python()), "-m", "venv", str(folder)],
        [pip, "install", "--quiet", "--no-deps", "-r", str(REQUIREMENTS)],
    ):
        done = subprocess.run(command, check=False, stdout=sys.stderr)
        if done.returncode:
            raise CompileError(f"'{' '.join(command)}' failed with status {done.returncode}; its message is above")
    return Compiler(folder)


class Compiler:
    """The tools of an environment.

    Args:
        folder: of the environment; CompileError when no compiler is in it.
    """

    def __init__(self, folder: Path) -> None:
        self.python = Path(folder) / "bin" / "python"
        packages = Path(folder) / "lib" / PYTHON / "site-packages"
        self.package = packages / "tpu_mlir"
        found = sorted(packages.glob("tpu_mlir-*.dist-info"))
        if not self.python.is_file() or not found:
            raise CompileError(f"{folder}: no compiler is in this folder; make it with tools/compile_bmodel.py --setup")
        self.version = found[0].name.removesuffix(".dist-info").replace("-", " ")
        """Name and version."""
        self.libraries = self.package / "lib"
        """Folder of the runtime's and the simulator's libraries."""

    def run(self, tool: str, arguments: Sequence[object], folder: Path, model: Path | None = None) -> str:
        """Run a tool in `folder`; what it prints is kept there as `TOOL.log`.

        Args:
            tool: name of a script, without .py, or of a program of the compiler.
            arguments: of it.
            folder: tools write files of fixed names into it.
            model: the ONNX file that all is made from; its nodes are named when the tool fails.

        Returns:
            What it printed.

        Raises:
            CompileError: with the tool's own words, the operator and the node of the ONNX file.
        """
        script, program = self.package / "python" / "tools" / f"{tool}.py", self.package / "bin" / tool
        command = [self.python, script] if script.is_file() else [program]
        log = folder / f"{tool}.log"
        with log.open("w") as output:
            done = subprocess.run([*command, *map(str, arguments)], cwd=folder, env=self.variables(), check=False,
                                  stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)  # fmt: skip
        # Progress bars go back to the beginning of a line.
        text = re.sub(r"[^\n]*\r", "", log.read_text(encoding="utf-8", errors="replace"))
        if done.returncode:
            raise CompileError(explain(tool, text, done.returncode, model, log))
        return text

    def variables(self) -> dict[str, str]:
        """Of the tools' environment, which is not that of this process: libraries of this one would get into them."""
        paths = [self.package, self.package / "python", self.package / "customlayer" / "python"]
        libraries = [self.libraries, self.libraries / "capi", self.libraries / "third_party"]
        path = os.environ.get("PATH", os.defpath)
        return {
            "PATH": _joined([self.package / "bin", self.python.parent, path]),
            "PYTHONPATH": _joined([STAND_INS, *paths]),
            "LD_LIBRARY_PATH": _joined(libraries),
            "LD_PRELOAD": _joined(filter(None, map(system_library, SYSTEM_LIBRARIES))),
            "TPUC_ROOT": str(self.package),
            "PPL_PROJECT_ROOT": str(self.package / "cross_toolchains" / "ppl_compile"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",  # several compile side by side
            "HOME": os.environ.get("HOME", "/"),
            "LANG": "C.UTF-8",
        }


def _joined(paths: object) -> str:
    return os.pathsep.join(str(path) for path in paths)  # type: ignore[attr-defined]


def system_library(name: str) -> Path | None:
    """Where the system has a library, as the loader's cache says."""
    found = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=False).stdout
    match = re.search(rf"^\s*{re.escape(name)} .*x86-64.* => (\S+)$", found, re.MULTILINE)
    return Path(match[1]) if match else None


MESSAGES = re.compile(r"error|exception|not support|unsupported|assert|unreachable|not implemented|fail", re.IGNORECASE)
"""Lines of a tool's output that say what went wrong."""
TRACE = re.compile(r"^\s*(File \"|#\d+ |\d+\s+\S+\s+0x|PLEASE submit|Stack dump|Traceback)")
"""And those that do not."""


def explain(tool: str, text: str, status: int, model: Path | None, log: Path) -> str:
    """One message of a tool that failed: its own words, and the node of `model` that they name."""
    lines = [line.strip()[:300] for line in text.splitlines() if line.strip() and not TRACE.match(line)]
    said = list(dict.fromkeys(line for line in lines if MESSAGES.search(line)))[-LINES:] or lines[-LINES:]
    nodes = named_nodes(text, model) if model else []
    where = f" on {', '.join(nodes)}" if nodes else ""
    words = "\n  ".join(said)
    return f"{tool} failed with status {status}{where}; the whole output is in {log}:\n  {words}"


def named_nodes(text: str, model: Path) -> list[str]:
    """Nodes of an ONNX file that a tool's last words name, as `Resize 'up' (up_1)`: operator, name, output.

    The compiler calls what it made of a node OUTPUT_OPERATOR.
    """
    nodes = onnx.load(model, load_external_data=False).graph.node
    # The last line that names any: before it are those that went well.
    for line in filter(MESSAGES.search, reversed(text.splitlines())):
        named = [node for node in nodes if any(_names(output, node.op_type, line) for output in node.output)]
        named = named or [node for node in nodes if re.search(rf"['\"]{node.op_type}['\"]", line)]
        if named:
            return [f"{node.op_type} '{node.name}' ({', '.join(node.output)})" for node in named]
    return []


def _names(output: str, operator: str, line: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(output)}(_{operator})?(?![\w.])", line) is not None
