"""A folder of bmodels of a model: compiled, checked, put together and described by `bmodels.json`."""

import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import groupby
from pathlib import Path

from onnx import ModelProto
from tqdm import tqdm

from ..atomic import write_bytes
from ..backends.sophon import open_net
from ..backends.threads import allowed_threads
from ..bmodels import Bmodels, Net
from ..evaluation.pairs import read_pairs
from ..imaging.folders import list_images
from ..lut import EdgeTable
from ..models import BICUBIC, ModelCard, digest, load_model
from ..supernet.export import load_supernet
from .chips import CHIPS
from .compiler import Compiler
from .compiling import Compilation, Compiled, Target
from .crops import Crops, crops_of_all_bins, extreme_crops
from .gate import Accuracy, Run, measure, reference
from .graph import bicubic_graph, subnet_graph
from .profile import profile_page

MOST_LOST = 0.05
"""dB that the faster of two variants may lose."""
CALIBRATION = 32
"""Crops to calibrate on."""
CROPS = 8
"""Crops with ground truth to check a net on,"""
SLOW = {("bm1684x", "F16"): 3}
"""but fewer where the simulator takes ten seconds and more for each."""
STEPS = "steps"
"""Folder with every step of the compilation."""
ACCURACY = "accuracy.json"
"""In a net's step: what was measured of it."""

Check = Callable[[Compiled, bool], Accuracy]
"""Compares a net with the network in floats, on all crops or, where the flag says so, on one."""


@dataclass(frozen=True)
class Built:
    """A net with what was measured of it."""

    compiled: Compiled
    accuracy: Accuracy


def build(compiler: Compiler, compilation: Compilation, check: Check, card: ModelCard, branches: Sequence[str],
          kinds: Sequence[tuple[str, str]], tiles: Sequence[tuple[int, int]], out: Path) -> list[Built]:  # fmt: skip
    """Make `out` with bmodels, `bmodels.json`, and for each chip and precision a cost table and a page.

    Args:
        compiler, compilation, check: tools.
        card: the model.
        branches: of it.
        kinds: chips and precisions.
        tiles: heights and widths in LR pixels; accuracy is measured on all crops for the first, on one for the others.
        out: the folder.

    Returns:
        What was made, by chip, precision, tile and branch.
    """
    targets = [Target(chip, precision, branch, tile, variant)
               for chip, precision in kinds for tile in tiles for branch in branches
               for variant in (CHIPS[chip].variants if precision == "INT8" else ("",))]  # fmt: skip
    compiled = dict(zip(targets, compilation.compile(targets), strict=True))
    built: list[Built] = []
    chosen: dict[tuple[str, str, str], str] = {}
    for net, group in tqdm(groupby(targets, lambda target: replace(target, variant="")), desc="checking", unit="net",
                           total=len(kinds) * len(tiles) * len(branches), disable=None):  # fmt: skip
        # Variants are compared on the first tile.
        which = net.chip, net.precision, net.branch
        variants = [compiled[target] for target in group if target.variant == chosen.get(which, target.variant)]
        best = choose([Built(made, check(made, net.tile != tiles[0])) for made in variants])
        chosen[which] = best.compiled.target.variant
        built.append(best)
    write_folder(compiler, card, built, out)
    return built


def choose(variants: Sequence[Built]) -> Built:
    """The fastest variant that loses at most `MOST_LOST`; the most accurate where none does."""
    good = [built for built in variants if built.accuracy.loss_db <= MOST_LOST]
    if good:
        return min(good, key=lambda built: built.compiled.profile.cycles)
    return min(variants, key=lambda built: built.accuracy.loss_db)


def write_folder(compiler: Compiler, card: ModelCard, built: Sequence[Built], out: Path) -> None:
    """Bmodels, manifest, cost tables and the page of profiles; the manifest last."""
    groups: dict[tuple[str, str], list[Built]] = defaultdict(list)
    for one in built:
        groups[one.compiled.target.chip, one.compiled.target.precision].append(one)
    nets: list[Net] = []
    for (chip, precision), mine in groups.items():
        files = _files(compiler, chip, precision, mine, out)
        hashes = {file: digest(file.read_bytes()) for file in dict.fromkeys(files)}
        for one, file in zip(mine, files, strict=True):
            target, profile, accuracy = one.compiled.target, one.compiled.profile, one.accuracy
            nets.append(Net(chip, precision, target.branch, target.tile, target.net, file.name,
                            hashes[file], profile.cycles, profile.ms,
                            max(accuracy.max_levels, accuracy.extreme_levels or 0),
                            round(accuracy.mean_levels, 4), round(accuracy.loss_db, 4), accuracy.crops))  # fmt: skip
    bmodels = Bmodels(card.name, card.sha256, card.scale, compiler.version, str(compiler.libraries), tuple(nets), out)
    for (chip, precision), mine in groups.items():
        bmodels.cost_table(card, chip, precision).save(out / f"cost_{chip}_{precision}.json")
        columns = [(one.compiled.target.net, one.compiled.profile) for one in mine]
        page = profile_page(f"{card.name}, {chip} {precision}, {compiler.version}", columns)
        write_bytes(out / f"profile_{chip}_{precision}.html", page.encode())
    bmodels.save()


def _files(compiler: Compiler, chip: str, precision: str, built: Sequence[Built], out: Path) -> list[Path]:
    """The bmodel of every net, in `out`: one for all where the chip allows that."""
    sources = [one.compiled.bmodel for one in built]
    if not CHIPS[chip].combines:
        files = [out / f"{chip}_{precision}_{one.compiled.target.net}.bmodel" for one in built]
        for source, file in zip(sources, files, strict=True):
            write_bytes(file, source.read_bytes())
        return files
    file = out / f"{chip}_{precision}.bmodel"
    folder = out / STEPS / f"{chip}_{precision}"
    folder.mkdir(parents=True, exist_ok=True)
    compiler.run("model_tool", ["--combine", *(source.resolve() for source in sources), "-o", file.name], folder)
    write_bytes(file, (folder / file.name).read_bytes())
    shutil.rmtree(folder)
    return [file] * len(built)


def report(built: Sequence[Built]) -> str:
    """A table in Markdown."""
    lines = [
        "| chip | precision | net | tile | cycles | ms | bytes | input and tail | largest error, levels "
        "| on flat and saturated crops | mean | loses, dB | crops |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in built:
        target, profile, accuracy = one.compiled.target, one.compiled.profile, one.accuracy
        size = one.compiled.bmodel.stat().st_size
        extreme = "" if accuracy.extreme_levels is None else accuracy.extreme_levels
        lines.append(
            f"| {target.chip} | {target.precision} | {target.branch} | {target.tile[0]}x{target.tile[1]} "
            f"| {profile.cycles:,} | {profile.ms:.3f} | {size:,} | {target.variant or 'floats'} "
            f"| {accuracy.max_levels} | {extreme} | {accuracy.mean_levels:.3f} | {accuracy.loss_db:.3f} "
            f"| {accuracy.crops} |"
        )
    return "\n".join(lines)


def compile_model(compiler: Compiler, model: str, data: Path, kinds: Sequence[tuple[str, str]],
                  tiles: Sequence[tuple[int, int]], out: Path) -> list[Built]:  # fmt: skip
    """As `build`, all branches of a model, with photographs to calibrate and check on.

    Args:
        compiler: with its environment.
        model: name or directory of the model.
        data: folder of HR photographs.
        kinds, tiles, out: as in `build`.

    Raises:
        ModelError, ArtefactError, ImageError: the model cannot be compiled, or there are too few pictures.
        CompileError: the compiler refuses a net.
        BackendError: the simulator, or the device that is here, fails.
    """
    card = load_model(model)
    net = load_supernet(card)
    subnets = {name: net.subnet(name) for name in card.subnets}

    def graph(branch: str, tile: tuple[int, int]) -> ModelProto:
        return bicubic_graph(card.scale, tile) if branch == BICUBIC else subnet_graph(subnets[branch], tile)

    table, files = EdgeTable.for_model(card), list_images(data)
    calibration, held_out = (list(read_pairs(files[first::2], card.scale)) for first in (0, 1))
    crops = crops_of_all_bins(calibration, table, tiles[0], CALIBRATION)
    compilation = Compilation(compiler, out / STEPS, graph, crops.lr, allowed_threads())

    @cache
    def source(branch: str, tile: tuple[int, int]) -> Run:
        return reference(graph(branch, tile).SerializeToString())

    @cache
    def checked_on(tile: tuple[int, int], count: int) -> Crops:
        return crops_of_all_bins(held_out, table, tile, count)

    def check(made: Compiled, one: bool) -> Accuracy:
        target = made.target
        count = 1 if one else SLOW.get((target.chip, target.precision), CROPS)
        extremes = extreme_crops(target.tile)[: 0 if one else None]
        crops, theirs = checked_on(target.tile, count), source(target.branch, target.tile)
        # The simulators take minutes for all, so that what was measured is kept.
        kept = made.bmodel.parent / ACCURACY
        of = digest(b"".join([made.bmodel.read_bytes(), crops.lr.tobytes(), crops.hr.tobytes(), extremes.tobytes()]))
        with suppress(OSError, ValueError, TypeError, KeyError):
            known = json.loads(kept.read_text(encoding="utf-8"))
            if known["of"] == of:
                return Accuracy(**known["accuracy"])
        with open_net(target.chip, compiler.libraries, made.bmodel, target.net) as ours:
            accuracy = measure(ours, theirs, crops, extremes, card.scale)
        write_bytes(kept, json.dumps({"of": of, "accuracy": asdict(accuracy)}).encode())
        return accuracy

    return build(compiler, compilation, check, card, card.branches, kinds, tiles, out)
