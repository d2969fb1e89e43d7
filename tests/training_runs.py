"""A recipe of a second, variants of it, and what its runs leave."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

import arm_sr
from arm_sr.supernet.backbones import Supernet
from arm_sr.supernet.sampling import Sampling
from arm_sr.training.config import Recipe, Stage

REPOSITORY = Path(arm_sr.__file__).parents[1]

RECIPE = Recipe(
    name="tiny-x2",
    backbone="plain",
    scale=2,
    subnets={"w4": (4, 1), "w8": (8, 1)},
    stages=(Stage(steps=30, learning_rate=5e-3),),
    batch=2,
    patch=8,
    warmup=0,
    clip=1.0,
    ema=0.5,
    precision="fp32",
    validate_every=10,
)
GROWING = replace(
    RECIPE,
    subnets={"w4": (4, 1), "w8": (8, 3)},
    stages=(
        Stage(steps=14, learning_rate=5e-3, depth=1),
        Stage(steps=10, learning_rate=2e-3, sampling=Sampling("sandwich"), loss="mse", depth=2),
        Stage(steps=6, learning_rate=1e-3, revive=0.4, decay_steps=9),
    ),
    optimiser="adam",
)
"""Deeper from stage to stage; at the first border a state is written, at the second there is none."""
RECIPES = {"whole_run": RECIPE, "growing_run": GROWING, "growing_muon_run": replace(GROWING, optimiser="muon")}
"""By the fixture that has run them."""


def with_stage(**changes: Any) -> Recipe:
    """`RECIPE` with some fields of its one stage changed."""
    return replace(RECIPE, stages=(replace(RECIPE.stages[0], **changes),))


def save(path: Path, rgb: np.ndarray) -> Path:
    """Write a PNG with OpenCV, not with the code under test."""
    assert cv2.imwrite(str(path), rgb[..., ::-1])
    return path


def log_lines(out: Path) -> list[dict[str, Any]]:
    """The log without the one number that depends on the clock."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def assert_same_run(whole: tuple[Path, Supernet], out: Path, net: Supernet) -> None:
    """Weights equal to the bit, and the same lines in the log."""
    assert all(torch.equal(p, q) for p, q in zip(whole[1].parameters(), net.parameters(), strict=True))
    assert log_lines(whole[0]) == log_lines(out)


def saved_step(out: Path) -> int:
    """Step of the state in a run's folder, read from the header of the file by hand."""
    blob = (out / "state.safetensors").read_bytes()
    return int(json.loads(blob[8 : 8 + int.from_bytes(blob[:8], "little")])["__metadata__"]["step"])
