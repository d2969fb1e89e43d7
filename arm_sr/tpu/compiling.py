"""Bmodels of a model's sub-nets: for chips, precisions and tile sizes, one net each.

    graph          the ONNX file of a branch and a tile                          (graph.py)
    -> transform   the compiler's own form of it
    -> calibrate   ranges of all values on real crops, once for a branch; for INT8
    -> deploy      bmodel and profile for one chip and precision

Every step has a folder of its own, because the tools write files of fixed names, and is not done again while what it is
made from is the same.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from onnx import ModelProto
from tqdm import tqdm

from ..atomic import write_bytes
from ..models import digest
from .chips import CHIPS, Chip, chip_of
from .compiler import Compiler
from .profile import Profile, read_profile

T = TypeVar("T")

DONE = "done.json"
"""In a step's folder: what it was made from."""
TAIL = ("anchor.r_Slice", "anchor.g_Slice", "anchor.b_Slice", "anchor_Concat", "sub_pixels_Add",
        "picture_DepthToSpace", "sr_Clip")  # fmt: skip
HEAD = ("head.relu_Relu", "body.0.relu_Relu", "body.1.relu_Relu", "body.2.relu_Relu")
FLOATS = {"uint8": (), "float tail": TAIL, "float ends": (*HEAD, *TAIL)}
"""Variants of an INT8 net, and what stays in floats in each, by the compiler's names: with uint8 input and output, or
with floats there and all after the last convolution. BM1684 loses up to 0.9 dB by an input of 8 bits, and needs the
first layers in floats too."""
F32 = HEAD[:1]
"""What stays in F32 in a net of F16: the first layer, without which saturated colours are off by up to 3 levels."""


@dataclass(frozen=True)
class Target:
    """One net to be made."""

    chip: str
    precision: str
    branch: str
    tile: tuple[int, int]
    """Height and width in LR pixels."""
    variant: str = ""
    """One of `FLOATS` for INT8."""

    @property
    def net(self) -> str:
        """Name in the bmodel."""
        return f"{self.branch}_{self.tile[0]}x{self.tile[1]}"

    @property
    def name(self) -> str:
        """Of files and folders."""
        parts = (self.chip, self.precision, self.net, self.variant.replace(" ", "_"))
        return "_".join(part for part in parts if part)


@dataclass(frozen=True)
class Compiled:
    """One net that was made."""

    target: Target
    bmodel: Path
    profile: Profile


class Compilation:
    """Makes nets in a folder.

    Args:
        compiler: with its environment.
        folder: keeps every step.
        graph: the ONNX file of a branch and a tile.
        crops: LR crops to calibrate on, uint8 RGB (N, H, W, 3); their size need not be a tile's.
        workers: steps that run side by side.
    """

    def __init__(self, compiler: Compiler, folder: Path, graph: Callable[[str, tuple[int, int]], ModelProto],
                 crops: np.ndarray, workers: int) -> None:  # fmt: skip
        self._compiler, self._folder, self._graph, self._crops = compiler, folder, graph, crops
        self._workers = workers

    def compile(self, targets: Sequence[Target]) -> list[Compiled]:
        """Make all of `targets`, in their order; CompileError from the first that fails."""
        for target in targets:
            chip_of(target.chip, target.precision)
        quantised = dict.fromkeys(t.branch for t in targets if t.precision == "INT8")
        calibrated_at = self._crops.shape[1], self._crops.shape[2]
        transforms = dict.fromkeys((t.branch, t.tile) for t in targets)
        transforms |= dict.fromkeys((branch, calibrated_at) for branch in quantised)
        steps = len(transforms) + len(quantised) + len(targets)
        with (
            tqdm(total=steps, desc="compiling", unit="step", disable=None) as bar,
            ThreadPoolExecutor(self._workers) as pool,
        ):

            def side_by_side(step: Callable[..., T], arguments: Iterable[tuple[object, ...]]) -> list[T]:
                futures = [pool.submit(step, *each) for each in arguments]
                for future in futures:
                    future.add_done_callback(lambda _: bar.update())
                try:
                    return [future.result() for future in futures]
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise

            side_by_side(self._transform, transforms)
            side_by_side(self._calibrate, [(branch, calibrated_at) for branch in quantised])
            return side_by_side(self._deploy, [(target, calibrated_at) for target in targets])

    def _transform(self, branch: str, tile: tuple[int, int]) -> None:
        """Make the compiler's form of a branch's graph."""
        model = self._graph(branch, tile).SerializeToString()
        folder = self._step(branch, tile)

        def make() -> None:
            write_bytes(folder / "net.onnx", model)
            shape = f"[[1,3,{tile[0]},{tile[1]}]]"
            arguments = ["--model_name", branch, "--model_def", "net.onnx", "--input_shapes", shape]
            arguments += ["--mlir", "net.mlir"]
            self._compiler.run("model_transform", arguments, folder, folder / "net.onnx")

        self._once(folder, {"onnx": digest(model)}, make)

    def _calibrate(self, branch: str, tile: tuple[int, int]) -> None:
        """Make the compiler's table of the ranges of all values of a branch."""
        source, table = self._step(branch, tile), self._table(branch, tile)
        folder = table.parent

        def make() -> None:
            samples = folder / "samples"
            shutil.rmtree(samples, ignore_errors=True)
            samples.mkdir()
            for number, crop in enumerate(self._crops):
                np.savez(samples / f"{number:03d}.npz", lr=crop.transpose(2, 0, 1)[None].astype(np.float32))
            arguments = ["net.mlir", "--dataset", samples, "--input_num", len(self._crops), "-o", table]
            self._compiler.run("run_calibration", arguments, source, source / "net.onnx")  # where the weights are
            shutil.rmtree(samples)

        self._once(folder, {**_done(source), "crops": digest(self._crops.tobytes())}, make)

    def _deploy(self, target: Target, calibrated_at: tuple[int, int]) -> Compiled:
        """The bmodel and profile of a net."""
        chip = CHIPS[target.chip]
        source = self._step(target.branch, target.tile)
        folder = self._folder / target.name
        inputs = {**_done(source), "target": str(target), "kept": _kept(target, chip)}
        table = self._table(target.branch, calibrated_at)
        if target.precision == "INT8":
            inputs["table"] = digest(table.read_bytes())

        def make() -> None:
            for file in source.glob("net*"):
                if file.is_file():
                    shutil.copy2(file, folder)
            for file in source.glob(f"{target.branch}_*_weight.npz"):
                shutil.copy2(file, folder)
            arguments: list[object] = ["--mlir", "net.mlir", "--chip", chip.name, "--quantize", target.precision,
                                       "--model", f"{target.net}.bmodel"]  # fmt: skip
            text = (folder / "net.mlir").read_text(encoding="utf-8")
            # A name that is not in the net would be an error.
            kept = {name: how for name, how in _kept(target, chip).items() if f'loc("{name}")' in text}
            if kept:
                lines = "".join(f"{name} {how}\n" for name, how in kept.items())
                (folder / "kept").write_text(lines, encoding="utf-8")
                arguments += ["--quantize_table", "kept"]
            if target.precision == "INT8":
                arguments += self._ranges(target, folder, table)
            # The net has the model's name in the compiler's file.
            (folder / "net.mlir").write_text(text.replace(f"module @{target.branch} ", f"module @{target.net} "))
            self._compiler.run("model_deploy", arguments, folder, folder / "net.onnx")
            made = {f"{target.net}.bmodel", f"{target.net}.bmodel.json", chip.profile, "model_deploy.log"}
            for file in folder.iterdir():
                if file.name in made:
                    continue
                shutil.rmtree(file) if file.is_dir() else file.unlink()

        self._once(folder, inputs, make)
        profile = read_profile(folder / chip.profile, folder / f"{target.net}.bmodel.json")
        return Compiled(target, folder / f"{target.net}.bmodel", profile)

    def _ranges(self, target: Target, folder: Path, table: Path) -> list[str]:
        """Options of `model_deploy` for the ranges of an INT8 net."""
        text, options = table.read_text(encoding="utf-8"), ["--calibration_table", "table"]
        if target.variant == "uint8":
            # Levels are what they are: a step of 1.
            lines = ["lr 255.0 0.0 255.0" if line.startswith("lr ") else line for line in text.splitlines()]
            text = "\n".join(lines) + "\n"
            options += ["--quant_input", "--quant_output"]
        (folder / "table").write_text(text, encoding="utf-8")
        return options

    def _step(self, branch: str, tile: tuple[int, int]) -> Path:
        return self._folder / f"{branch}_{tile[0]}x{tile[1]}"

    def _table(self, branch: str, tile: tuple[int, int]) -> Path:
        return self._step(branch, tile) / "calibration" / "table"

    def _once(self, folder: Path, inputs: dict[str, object], make: Callable[[], None]) -> None:
        """Call `make` unless `folder` has what it made from the same inputs with the same compiler."""
        inputs = json.loads(json.dumps({**inputs, "compiler": self._compiler.version}))
        if _done(folder) == inputs:
            return
        (folder / DONE).unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        make()
        write_bytes(folder / DONE, json.dumps(inputs).encode())


def _kept(target: Target, chip: Chip) -> dict[str, str]:
    """What of a net is not computed in its precision, by the compiler's names, and how it is instead."""
    if target.precision == "F16":
        return dict.fromkeys(F32, "F32")
    return dict.fromkeys(FLOATS.get(target.variant, ()), chip.floats)


def _done(folder: Path) -> dict[str, object]:
    """What a finished step was made from; empty for one that is not."""
    try:
        done: dict[str, object] = json.loads((folder / DONE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return done
