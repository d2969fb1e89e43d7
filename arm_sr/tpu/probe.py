"""What the compiler makes of each operator, measured: tiny networks compiled, simulated and held against ONNX Runtime.

What comes out is `operators.json`, which `check` reads.
"""

import contextlib
import json
import re
import shutil
import subprocess
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, compose

from .chips import CHIPS
from .compiler import CompileError, Compiler
from .operator_table import SCHEMA, Measured, Table, Verdict
from .probe_nets import NETS, ProbeNet, reference

TOLERANCES = {"F32": 1e-3, "F16": 1e-2, "INT8": 5e-2}
"""Largest error that is no fault, as a share of the range of the output."""
Target = tuple[str, str]
TARGETS: tuple[Target, ...] = tuple((chip.name, each) for chip in CHIPS.values() for each in (chip.floats, "INT8"))
"""Chips and precisions that are tried."""
SAMPLES = 4
"""Inputs for the calibration; the first is the one that is compared."""
PATIENCE = 120
"""Seconds that the simulator may take for one network."""


class Simulator:
    """The compiler's simulator of one chip.

    Args:
        compiler: whose simulator.
        chip: that is simulated.
        folder: gets the links that say so; the compiler's own tools change a link inside its installation, which
            others may be using.
    """

    def __init__(self, compiler: Compiler, chip: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, library in (("libcmodel.so", f"libcmodel_{chip}.so"), ("libbmlib.so.0", "libbmlib_bm1684x.so.0")):
            link = folder / name
            link.unlink(missing_ok=True)
            link.symlink_to(compiler.libraries / library)
        self.variables = compiler.variables()
        self.variables["LD_LIBRARY_PATH"] = f"{folder.resolve()}:{self.variables['LD_LIBRARY_PATH']}"
        self.python = compiler.python

    def run(self, bmodels: list[Path], values: Path, out: Path) -> dict[str, list[np.ndarray]]:
        """Outputs by stem of those bmodels that it gets through.

        Args:
            bmodels: compiled for this chip.
            values: .npz of their inputs.
            out: folder for files of the outputs.
        """
        outputs = {}
        remaining = list(bmodels)
        script = Path(__file__).with_name("simulate.py")
        while remaining:
            command = [self.python, script, values, out, *remaining]
            with (out / "simulate.log").open("a") as log, contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(command, env=self.variables, cwd=out, check=False, stdin=subprocess.DEVNULL, stdout=log,
                               stderr=log, timeout=PATIENCE * len(remaining))  # fmt: skip
            done = [bmodel for bmodel in remaining if (out / f"{bmodel.stem}.npz").is_file()]
            for bmodel in done:
                with np.load(out / f"{bmodel.stem}.npz") as arrays:
                    outputs[bmodel.stem] = list(arrays.values())
            # The one at which it broke down is given up, those behind it are tried again.
            remaining = [bmodel for bmodel in remaining if bmodel not in done][1:]
        return outputs


def measure(nets: Mapping[str, ProbeNet], targets: Sequence[Target], compiler: Compiler,
            simulators: Mapping[str, Simulator], folder: Path) -> dict[str, dict[str, Measured]]:  # fmt: skip
    """Compile networks for chips, run and compare them; by name of the network and `CHIP PRECISION`.

    They are branches of one file, each with its own inputs and output, which takes hardly longer than one alone. Where
    that is refused, or cannot be run, halves are tried.

    Args:
        nets: of one opset, by name.
        targets: chips and precisions.
        compiler: its tools.
        simulators: by chip.
        folder: emptied first; the tools' files stay in it.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    members = list(nets.values())
    models = [net.model() for net in members]
    onnx.save(side_by_side(models), folder / "net.onnx")
    (folder / "samples").mkdir()
    samples = [[net.input(number) for net in members] for number in range(SAMPLES)]
    for number, sample in enumerate(samples):
        named = {f"n{place}_{name}": array for place, values in enumerate(sample) for name, array in values.items()}
        np.savez(folder / "samples" / f"{number}.npz", **named)  # type: ignore[arg-type]
    results: dict[str, dict[str, Measured]] = {name: {} for name in nets}
    failed, bmodels = _compile(members, targets, compiler, folder)
    for chip, files in bmodels.items():
        outputs = simulators[chip].run(list(files.values()), folder / "samples" / "0.npz", folder)
        for precision, file in files.items():
            target = (chip, precision)
            if len(outputs.get(file.stem, [])) != len(nets):
                failed[target] = Measured("wrong", said="the simulator breaks down")
                continue
            for name, model, values, y in zip(nets, models, samples[0], outputs[file.stem], strict=True):
                results[name][" ".join(target)] = compared(y, reference(model, values)[0], precision)
    if failed and len(nets) == 1:
        results[next(iter(nets))].update({" ".join(target): said for target, said in failed.items()})
    elif failed:
        names = list(nets)
        for half, part in enumerate((names[: len(names) // 2], names[len(names) // 2 :])):
            again = {name: nets[name] for name in part}
            for name, each in measure(again, list(failed), compiler, simulators, folder / f"half{half}").items():
                results[name].update(each)
    return results


def _compile(nets: Sequence[ProbeNet], targets: Sequence[Target], compiler: Compiler,
             folder: Path) -> tuple[dict[Target, Measured], dict[str, dict[str, Path]]]:  # fmt: skip
    """Refusals, and bmodels by chip and precision."""
    shapes = json.dumps([list(shape) for net in nets for shape in net.inputs.values()]).replace(" ", "")
    try:
        transform = ["--model_name", "net", "--model_def", "net.onnx", "--input_shapes", shapes, "--mlir", "net.mlir"]
        compiler.run("model_transform", transform, folder)
    except CompileError as error:
        return dict.fromkeys(targets, Measured("refused", said=_words(error))), {}
    failed: dict[Target, Measured] = {}
    bmodels: dict[str, dict[str, Path]] = {}
    if any(precision == "INT8" for _, precision in targets):
        try:
            # The largest value and no cleverer threshold: what is looked for are faults of the operator.
            calibrate = ["--dataset", "samples", "--input_num", SAMPLES, "--cali_method", "use_max", "-o", "cali"]
            compiler.run("run_calibration", ["net.mlir", *calibrate], folder)
        except CompileError as error:
            said = Measured("refused", said=_words(error))
            failed = {target: said for target in targets if target[1] == "INT8"}
    for chip, precision in targets:
        if (chip, precision) in failed:
            continue
        place = folder / f"{chip}_{precision}"
        place.mkdir()
        for file in (*folder.glob("*.mlir"), *folder.glob("net*.npz"), *folder.glob("cali")):
            shutil.copy(file, place)
        deploy = ["--mlir", "net.mlir", "--quantize", precision, "--chip", chip, "--model", f"{place.name}.bmodel"]
        try:
            compiler.run("model_deploy", deploy + ["--calibration_table", "cali"] * (precision == "INT8"), place)
            bmodels.setdefault(chip, {})[precision] = place / f"{place.name}.bmodel"
        except CompileError as error:
            failed[chip, precision] = Measured("refused", said=_words(error))
    return failed, bmodels


def side_by_side(models: Sequence[ModelProto]) -> ModelProto:
    """One network of several; the names of the first begin with n0_."""
    whole = compose.add_prefix(models[0], "n0_")
    for number, model in enumerate(models[1:], 1):
        part = compose.add_prefix(model, f"n{number}_").graph
        for field in ("node", "initializer", "input", "output"):
            getattr(whole.graph, field).extend(getattr(part, field))
    return whole


def compared(y: np.ndarray, expected: np.ndarray, precision: str) -> Measured:
    """What there is to say of an output that should be `expected`."""
    if y.size != expected.size:
        return Measured("wrong", said=f"puts out {list(y.shape)}, not {list(expected.shape)}")
    expected = expected.astype(np.float64)
    difference = np.abs(y.astype(np.float64).reshape(expected.shape) - expected)
    if not np.isfinite(difference).all():
        return Measured("wrong", said="puts out values that are not finite")
    span = float(np.ptp(expected)) or float(np.abs(expected).max()) or 1.0
    error, rms = float(difference.max()) / span, float(np.sqrt(np.mean(difference**2))) / span
    verdict: Verdict = "ok" if error <= TOLERANCES[precision] else "wrong"
    return Measured(verdict, float(f"{error:.3g}"), float(f"{rms:.3g}"))


def _words(error: CompileError) -> str:
    """The first line of what the compiler itself said, without this machine's folders."""
    lines = [line.strip() for line in str(error).splitlines()[1:]] or [str(error)]
    # A failed command line says only that there was one.
    own = [line for line in lines if not re.search(r"\[Failed\]|\[Running\]|Traceback|tpuc-opt|^raise ", line)] or lines
    text = re.sub(r"(?<![\w.])/[\w./+-]*/", "", own[0])
    return text[:300]


def probe_all(names: list[str], compiler: Compiler, table: Table, folder: Path, together: int,
              progress: Callable[[str, dict[str, Measured]], None]) -> None:  # fmt: skip
    """Try the networks that the table does not have yet as they are now, and save it after each group.

    Args:
        names: of the networks.
        compiler: a table of another version is begun anew.
        table: to complete.
        folder: for the tools' files.
        together: networks in a group, which are compiled as one.
        progress: called with each network's name and results.
    """
    if table.about.get("compiler") != compiler.version:
        table.operators, table.nets = {}, {}
    table.about = {
        "schema": SCHEMA,
        "what": "each operator and variant as a tiny network: compiled, simulated, held against ONNX Runtime",
        "made_by": "tools/probe_operators.py",
        "compiler": compiler.version,
        "calibration": f"largest value of {SAMPLES} inputs",
        "error": "largest, and root mean square, as shares of the range of the output",
        "tolerances": TOLERANCES,
        "converted": converted(compiler),
    }
    simulators = {chip: Simulator(compiler, chip, folder / "links" / chip) for chip, _ in TARGETS}
    missing = [name for name in names if table.nets.get(name) != text_of(NETS[name])]
    known = set(converted(compiler))
    refused = [name for name in missing if any(each.op_type not in known for each in NETS[name].model().graph.node)]
    others = [name for name in missing if name not in refused]
    # Those that will be refused would be searched for in a group.
    for group in [*([name] for name in refused), *groups(others, together)]:
        nets = {name: NETS[name] for name in group}
        for name, results in measure(nets, TARGETS, compiler, simulators, folder / "nets").items():
            table.operators[name] = {" ".join(target): results[" ".join(target)] for target in TARGETS}
            table.nets[name] = text_of(NETS[name])
            progress(name, table.operators[name])
        table.save(order=list(NETS))


def groups(names: Sequence[str], size: int) -> Iterator[list[str]]:
    """Networks of one opset, as many as `size`."""
    for opset in dict.fromkeys(NETS[name].opset for name in names):
        alike = [name for name in names if NETS[name].opset == opset]
        for start in range(0, len(alike), size):
            yield alike[start : start + size]


def converted(compiler: Compiler) -> list[str]:
    """Operators that the compiler's reader of ONNX files has something for."""
    source = (compiler.package / "python" / "transform" / "OnnxConverter.py").read_text(encoding="utf-8")
    return sorted(set(re.findall(r'^\s+"(\w+)": lambda node:', source, re.MULTILINE)))


def text_of(net: ProbeNet) -> str:
    """All that a network is, in a line."""
    inputs = ", ".join(f"{net.type}{list(shape)} {name}" for name, shape in net.inputs.items())
    weights = ", ".join(f"{name} {list(shape)}" for name, shape in net.weights.items())
    constants = ", ".join(f"{name} = {_values(np.asarray(value))}" for name, value in net.constants.items())
    parts = [f"({inputs} in {net.low:g}..{net.high:g})", weights, constants, net.nodes, f"opset {net.opset}"]
    return "; ".join(filter(None, parts))


def _values(array: np.ndarray) -> str:
    return str(array.tolist()) if array.size <= 16 else f"{list(array.shape)} of CRC {zlib.crc32(array.tobytes())}"
