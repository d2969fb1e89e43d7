"""Runs bmodels in the compiler's simulator: a script for the compiler's Python, not a module of this one.

    simulate.py INPUT.npz OUTPUT_DIR BMODEL...

The first folder of LD_LIBRARY_PATH says which chip is simulated (`Simulator`). Each bmodel's outputs, in their order,
become OUTPUT_DIR/STEM.npz with the names 0, 1, ...; INPUT.npz has its inputs under the names of the ONNX file.
"""

import sys
from pathlib import Path

import numpy as np
import pyruntime_bm  # type: ignore[import-not-found]


def main() -> None:
    """Of the script."""
    given, out = np.load(sys.argv[1]), Path(sys.argv[2])
    for bmodel in map(Path, sys.argv[3:]):
        model = pyruntime_bm.Model(str(bmodel), 0, "")
        net = model.Net(model.networks[0])
        for each in net.inputs:
            each.data.reshape(-1)[:] = given[each.name].astype(each.data.dtype).ravel()
        shapes = net.forward_dynamic([each.data.shape for each in net.inputs])
        outputs = {}
        for number, (each, shape) in enumerate(zip(net.outputs, shapes, strict=True)):
            outputs[str(number)] = np.array(each.data).ravel()[: int(np.prod(shape))].reshape(shape)
        temporary = out / f"{bmodel.stem}.tmp.npz"
        np.savez(temporary, **outputs)  # type: ignore[arg-type]
        temporary.replace(out / f"{bmodel.stem}.npz")


if __name__ == "__main__":
    main()
