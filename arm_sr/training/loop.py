"""The training loop: one readable function, resumable to the step."""

import copy
import json
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn
from tqdm import tqdm

from ..atomic import write_bytes
from ..errors import ArtefactError
from ..evaluation.pairs import Pair, read_pairs
from ..imaging.metrics import psnr_of_mse, psnr_y, squared_error
from ..supernet.backbones import Supernet, build
from .config import Recipe, Stage
from .data import CropData
from .losses import LOSSES
from .optimisers import OPTIMISERS

log = logging.getLogger(__name__)


def train(recipe: Recipe, data: CropData, validation: list[Path], out: Path, state_every: int = 500) -> Supernet:
    """Run or continue `recipe` in the folder `out` and return the averaged network.

    `out` gets `recipe.json`, `log.jsonl` (a loss line every 100 steps, a validation line every
    `recipe.validate_every`) and `state.safetensors` (weights, average, optimiser, step), written every
    `state_every` steps and on interruption. When `out` holds a state of the same recipe, training goes
    on from its step, and may have other stages after it; a state of another recipe raises ArtefactError.
    Validation pictures that cannot be read raise ImageError at once.
    """
    pairs = list(read_pairs(validation, recipe.scale))
    if not pairs:
        raise ArtefactError("no validation pictures")
    out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(recipe.seed)
    net = build(recipe.backbone, recipe.scale, recipe.subnets)
    net = net.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in the stubs
    if any(stage.revive for stage in recipe.stages) and type(net).revive is Supernet.revive:
        raise ArtefactError(f"recipe: revive is not defined for the backbone '{recipe.backbone}'")
    if recipe.start:
        _start(net, out / recipe.start)
    elif recipe.stages[0].depth is not None:
        net.grow(recipe.stages[0].depth)  # layers beyond the depth of a stage get no gradient and stay the identity
    average = build(recipe.backbone, recipe.scale, recipe.subnets).to(device)
    average.load_state_dict(net.state_dict())
    optimiser = OPTIMISERS[recipe.optimiser](net.parameters())
    macs = {name: net.complexity(name).macs_per_lr_pixel for name in net.subnets}
    start, losses = _load_state(out, recipe, net, average, optimiser)
    _truncate_log(out / "log.jsonl", start)
    write_bytes(out / "recipe.json", recipe.to_json().encode())

    def draw(step: int) -> tuple[list[str], np.ndarray, np.ndarray]:
        rng = np.random.default_rng((recipe.seed, step))
        return recipe.at(step)[0].sampling.draw(macs, rng), *data.batch(recipe.batch, rng)

    autocast = torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16")
    step, begun = start, time.perf_counter()
    bar = tqdm(total=recipe.steps, initial=start, desc=recipe.name, unit="step", mininterval=1)
    with ThreadPoolExecutor(1) as ahead, bar, (out / "log.jsonl").open("a", encoding="utf-8") as lines:

        def note(**entry: Any) -> None:
            lines.write(json.dumps({"step": step, **entry}) + "\n")
            lines.flush()

        def validate_when_due() -> None:
            if step % recipe.validate_every == 0 or step == recipe.steps:
                report = validate(average if step < recipe.steps else _kept(average, recipe, out), pairs)
                note(validation=report)
                bar.write(f"step {step}: " + ", ".join(f"{k} {v['psnr_rgb']:.3f}" for k, v in report.items()))

        try:
            if start and not _validated(out / "log.jsonl", start):  # it was interrupted
                validate_when_due()
            upcoming = ahead.submit(draw, start)
            while step < recipe.steps:
                names, lr_crops, hr_crops = upcoming.result()
                upcoming = ahead.submit(draw, step + 1)
                with _whole():
                    stage, rate = recipe.at(step)
                    optimiser.param_groups[0]["lr"] = rate
                    optimiser.zero_grad(set_to_none=True)
                    lr, hr = _to_tensor(lr_crops, device), _to_tensor(hr_crops, device)
                    if stage.revive and step in recipe.borders:
                        _revive(net, average, optimiser, lr, stage.revive, recipe.seed + step)
                    with autocast:
                        loss = _backward(net, names, lr, hr, stage)
                    nn.utils.clip_grad_norm_(net.parameters(), recipe.clip)
                    optimiser.step()
                    with torch.no_grad():
                        torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 1 - recipe.ema)
                    losses.append(loss)
                    step += 1
                    bar.update()
                    if step % 100 == 0 or step == recipe.steps:
                        mean = float(torch.stack(losses).mean())
                        losses.clear()
                        bar.set_postfix(loss=f"{mean:.4f}")
                        note(loss=round(mean, 6), learning_rate=rate, seconds=round(time.perf_counter() - begun, 1))
                        if not math.isfinite(mean):
                            raise ArtefactError(f"{out}: the loss is {mean} at step {step}; lower the learning rate")
                validate_when_due()
                if step % state_every == 0 or step == recipe.steps:
                    _save_state(out, recipe, step, net, average, optimiser, losses)
        except KeyboardInterrupt:
            _save_state(out, recipe, step, net, average, optimiser, losses)
            raise
    return _kept(average, recipe, out).cpu()


@contextmanager
def _whole() -> Iterator[None]:
    """A block that signals do not cut: SIGINT and SIGTERM are raised when it has ended."""
    if threading.current_thread() is not threading.main_thread():  # which alone is interrupted
        yield
        return
    came: list[int] = []
    numbers = signal.SIGINT, signal.SIGTERM
    before = [signal.signal(number, lambda number, _: came.append(number)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    for first in came[:1]:
        handler = signal.getsignal(first)
        if callable(handler):
            handler(first, None)
        elif handler is signal.SIG_DFL:
            signal.raise_signal(first)


def _kept(average: Supernet, recipe: Recipe, out: Path) -> Supernet:
    """What is kept of a run in `out` at its end: its average, with a share of what it began with."""
    if not recipe.start or not recipe.start_share:
        return average
    mixed = copy.deepcopy(average).cpu()
    _start(mixed, out / recipe.start)
    with torch.no_grad():
        for mean, first in zip(average.parameters(), mixed.parameters(), strict=True):
            first.lerp_(mean.cpu(), 1 - recipe.start_share)
    return mixed.to(next(average.parameters()).device)


def _start(net: Supernet, path: Path) -> None:
    """Begin with the weights in the file `path`; ArtefactError names it when they do not fit."""
    try:
        net.start_from(load_file(path))
    except (SafetensorError, OSError, ArtefactError) as error:
        raise ArtefactError(f"{path}: not the weights to start from ({error})") from error


@torch.no_grad()
def _revive(
    net: Supernet, average: Supernet, optimiser: torch.optim.Optimizer, lr: Tensor, least: float, seed: int
) -> None:
    """`Supernet.revive`; what changes is taken over into the average, and the optimiser forgets about it."""
    old = [p.clone() for p in net.parameters()]
    torch.manual_seed(seed)
    net.revive(lr, least)
    for was, mine, mean in zip(old, net.parameters(), average.parameters(), strict=True):
        changed = mine != was
        mean[changed] = mine[changed]
        for name, moment in optimiser.state[mine].items():
            if name != "step":
                moment[changed] = 0


def _backward(net: Supernet, names: list[str], lr: Tensor, hr: Tensor, stage: Stage) -> Tensor:
    """Accumulate the gradients of one step; returns the loss of the first sub-net in it."""

    def run(name: str) -> Tensor:
        width, depth = net.subnets[name]
        return net(lr, width, depth if stage.depth is None else min(depth, stage.depth))

    loss_of = LOSSES[stage.loss]
    first = run(names[0])
    loss = loss_of(first, hr)
    torch.autograd.backward(loss)
    target = first.detach() if stage.sampling.distil else hr
    for name in names[1:]:
        torch.autograd.backward(loss_of(run(name), target))
    return loss.detach()


def _to_tensor(pictures: np.ndarray, device: torch.device) -> Tensor:
    """uint8 NHWC to float NCHW in 0..1, channels last in memory."""
    return torch.from_numpy(pictures).to(device).permute(0, 3, 1, 2).float() / 255


@torch.no_grad()
def validate(net: Supernet, pairs: list[Pair]) -> dict[str, dict[str, float]]:
    """PSNR of every sub-net over whole pictures, by the protocol.

    `psnr_y` and `psnr_rgb` are means over pictures, `psnr_rgb_all` is over all pixels; dB.
    """
    device = next(net.parameters()).device
    sums: dict[str, list[tuple[float, float, float, int]]] = {name: [] for name in net.subnets}
    with _eval_mode(net):
        for pair in pairs:
            x = _to_tensor(pair.lr[None], device)
            for name, (width, depth) in net.subnets.items():
                y = (net(x, width, depth)[0].permute(1, 2, 0) * 255).round().clamp(0, 255)
                sr = y.to(torch.uint8).cpu().numpy()
                error, count = squared_error(sr, pair.hr, net.scale)
                sums[name].append((psnr_y(sr, pair.hr, net.scale), psnr_of_mse(error / count), error, count))
    report = {}
    for name, rows in sums.items():
        y, rgb, errors, counts = zip(*rows, strict=True)
        everything = psnr_of_mse(sum(errors) / sum(counts))
        numbers = {"psnr_y": float(np.mean(y)), "psnr_rgb": float(np.mean(rgb)), "psnr_rgb_all": everything}
        report[name] = {key: round(value, 4) for key, value in numbers.items()}
    return report


@contextmanager
def _eval_mode(net: nn.Module) -> Iterator[None]:
    training = net.training
    net.eval()
    try:
        yield
    finally:
        net.train(training)


def _save_state(
    out: Path,
    recipe: Recipe,
    step: int,
    net: nn.Module,
    average: nn.Module,
    optimiser: torch.optim.Optimizer,
    losses: list[Tensor],
) -> None:
    tensors = {f"net.{k}": v for k, v in net.state_dict().items()}
    tensors |= {f"loss.{i}": v for i, v in enumerate(losses)}  # those not yet in the log
    tensors |= {f"average.{k}": v for k, v in average.state_dict().items()}
    for index, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{k}": v for k, v in moments.items()}
    tensors = {k: v.cpu().contiguous() for k, v in tensors.items()}
    write_bytes(out / "state.safetensors", save(tensors, {"step": str(step), "recipe": recipe.to_json()}))


def _load_state(
    out: Path, recipe: Recipe, net: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer
) -> tuple[int, list[Tensor]]:
    """Restore everything from the state in `out`; returns its step, 0 when there is none, and its losses."""
    path = out / "state.safetensors"
    if not path.exists():
        return 0, []
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  not a dict
        step, made_by = int(metadata["step"]), Recipe.from_json(metadata["recipe"])
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, ArtefactError) as error:
        raise ArtefactError(f"{path}: damaged training state ({error}); delete it to start again") from error
    if not recipe.continues(made_by, step):
        raise ArtefactError(f"{path}: made by another recipe; use another output folder or delete it")

    def part(prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    if step and not part("optimiser."):
        raise ArtefactError(f"{path}: no state of the optimiser, as of an earlier version; delete it to start again")
    net.load_state_dict(part("net."))
    average.load_state_dict(part("average."))
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in part("optimiser.").items():
        index, name = key.split(".")
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    device = next(net.parameters()).device
    losses = sorted(part("loss.").items(), key=lambda item: int(item[0]))
    return step, [value.to(device) for _, value in losses]


def averaged_network(out: Path, recipe: Recipe) -> Supernet:
    """What is kept of the last state in `out`; ArtefactError when there is none."""
    net, average = (build(recipe.backbone, recipe.scale, recipe.subnets) for _ in range(2))
    if _load_state(out, recipe, net, average, OPTIMISERS[recipe.optimiser](net.parameters()))[0] == 0:
        raise ArtefactError(f"{out}: no state.safetensors of a training run in this folder")
    return _kept(average, recipe, out)


def _validated(path: Path, step: int) -> bool:
    """Whether the log, which ends with that step, has its validation."""
    return any(
        entry["step"] == step and "validation" in entry
        for entry in map(json.loads, path.read_text(encoding="utf-8").splitlines())
    )


def _truncate_log(path: Path, step: int) -> None:
    """Drop the lines after `step`: those steps are about to run again. A line cut by a crash goes too."""
    if path.exists():
        kept = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if entry["step"] <= step:
                kept.append(line)
        write_bytes(path, "".join(line + os.linesep for line in kept).encode())
