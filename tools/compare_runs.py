#!/usr/bin/env python3
"""Training runs side by side: the last validation of each, as a Markdown table.

    tools/compare_runs.py runs/sampling-*

A row a run: steps, how much was computed in MACs for training (forward passes over LR pixels, with the sub-nets as
they were drawn), and of every sub-net PSNR on the validation pictures: over all RGB pixels, or the mean on Y or on RGB.
"""

import argparse
import json
from functools import cache
from pathlib import Path

import numpy as np

from arm_sr.cli import run_tool
from arm_sr.errors import ArtefactError
from arm_sr.supernet.backbones import build
from arm_sr.training.config import Recipe


def computed(recipe: Recipe, steps: int) -> float:
    """Multiply-accumulates of the forward passes of the first `steps` steps."""

    @cache
    def macs(depth: int | None) -> dict[str, int]:
        subnets = {name: (w, d if depth is None else min(d, depth)) for name, (w, d) in recipe.subnets.items()}
        net = build(recipe.backbone, recipe.scale, subnets)
        return {name: net.complexity(name).macs_per_lr_pixel for name in subnets}

    total = 0
    for step in range(steps):
        stage = recipe.at(step)[0]
        drawn = stage.sampling.draw(macs(None), np.random.default_rng((recipe.seed, step)))
        total += sum(macs(stage.depth)[name] for name in drawn)
    return float(total * recipe.batch * recipe.patch**2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of runs")
    parser.add_argument("--psnr", default="rgb_all", choices=["rgb_all", "rgb", "y"], help="default: rgb_all")
    args = parser.parse_args()
    rows = []
    for run in args.runs:
        recipe = Recipe.load(run / "recipe.json")
        try:
            lines = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
            last = [line for line in lines if "validation" in line][-1]
        except (OSError, ValueError, IndexError) as error:
            raise ArtefactError(f"{run / 'log.jsonl'}: has no validation line ({error})") from error
        rows.append((recipe, last["step"], {k: v[f"psnr_{args.psnr}"] for k, v in last["validation"].items()}))
    names = list(dict.fromkeys(name for *_, psnr in rows for name in psnr))
    print(f"| run | steps | TMAC | {' | '.join(names)} |")
    print("|---" * (3 + len(names)) + "|")
    for recipe, step, psnr in rows:
        figures = " | ".join(f"{psnr[name]:.3f}" if name in psnr else "" for name in names)
        print(f"| {recipe.name} | {step} | {computed(recipe, step) / 1e12:.1f} | {figures} |")


if __name__ == "__main__":
    run_tool(main)
