#!/usr/bin/env python3
"""Record in a model's card how the engines and precisions of this machine change its pictures.

    tools/measure_precision.py --data val/ -m checkpoints/plain-x4

Every sub-net runs over every picture in one pass, and is compared with ONNX Runtime in fp32. What the card says of
engines that are not here stays. `auto` takes an engine only where the card says that it loses little; run this after
an export.
"""

import argparse
import dataclasses
import logging
from pathlib import Path

import numpy as np
from tqdm import tqdm

from arm_sr.atomic import write_bytes
from arm_sr.backends import BACKENDS, usable_backends
from arm_sr.cli import run_tool
from arm_sr.errors import BackendError
from arm_sr.evaluation.pairs import read_pairs
from arm_sr.imaging.folders import list_images
from arm_sr.imaging.metrics import psnr_of_mse, squared_error
from arm_sr.models import CARD, load_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of HR pictures")
    parser.add_argument("-m", "--model", default="plain-x4", help="name or directory of the model")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    card = load_model(args.model)
    engines = list(usable_backends(card))
    if not engines or engines[0].name != BACKENDS[0]:
        raise BackendError(f"all is compared with {BACKENDS[0]}, which does not work here")
    subnets = card.branches[1:]
    errors = np.zeros((len(engines), len(subnets)))
    levels, count = np.zeros(len(engines), int), 0
    files = list_images(args.data)
    for pair in tqdm(read_pairs(files, card.scale), total=len(files), desc="measuring", unit="picture"):
        for column, branch in enumerate(subnets):
            results = [engine.run(branch, pair.lr[None])[0] for engine in engines]
            for row, result in enumerate(results):
                error, values = squared_error(result, pair.hr, card.scale)
                errors[row, column] += error
                levels[row] = max(levels[row], np.abs(result.astype(int) - results[0]).max())
        count += values
    psnr = np.vectorize(psnr_of_mse)(errors / count)
    changes = {
        f"{engine.name} {engine.precision}": {"levels": int(levels[row]), "loss_db": round(float(loss), 5)}
        for row, (engine, loss) in enumerate(zip(engines, (psnr[0] - psnr).max(axis=1), strict=True))
        if row
    }
    card = dataclasses.replace(card, precisions={**card.precisions, **changes})  # other machines have other engines
    write_bytes(card.folder / CARD, card.to_json().encode())
    for name, change in changes.items():
        print(f"{name}: at most {change['levels']} levels, {change['loss_db']:+.4f} dB lost by the worst sub-net")


if __name__ == "__main__":
    run_tool(main)
