"""A worker like the real one with a runtime that misbehaves on demand; started as a process by the tests.

Its bmodels are JSON: the nets and what they do. A net repeats every pixel, and what `does` says of it happens when it
is run: `crash`, `exit`, `hang`, `slow`, `kill`, `late` (another's answer first), `ahead`, `garbage`, `half`, `refuse`,
`wrong` (size), `nan`; with `once` only as long as that file does not exist.
"""

import json
import os
import signal
import struct
import sys
import time
from array import array
from pathlib import Path
from typing import Any

# By its path, as it runs itself: the package would take as long to import as a test.
sys.path.insert(0, str(Path(__file__).parents[2] / "arm_sr" / "backends" / "sophon"))
from worker import Refusal, Runtime, serve, write_frame

KINDS = {"float32": "f", "int8": "b", "uint8": "B"}


class Fake:
    """Nets from JSON files."""

    version = "fake 1.0"

    def __init__(self, chip: str, device: int) -> None:
        self.chip, self.device = chip, device
        self.nets: dict[str, dict[str, Any]] = {}

    def load(self, file: str) -> None:
        data = Path(file).read_bytes()
        what = json.loads(data[data.index(b"{"):])  # after the beginning of a bmodel
        print(f"loading {len(what['nets'])} nets", flush=True)
        _misbehave(what, self.device)
        self.nets |= what["nets"]

    def ports(self, net: str) -> dict[str, dict[str, Any]]:
        if net not in self.nets:
            raise Refusal(f"it has no net called '{net}'")
        return {end: self.nets[net][end] for end in ("input", "output")}

    def run(self, net: str, data: bytes) -> tuple[str, bytes]:
        what = self.nets[net]
        print(f"device {self.device} runs {net}", flush=True)
        _misbehave(what, self.device)
        (_, _, height, width), port = what["input"]["shape"], what["output"]
        scale = port["shape"][2] // height
        lr, sr = array(KINDS[what["input"]["dtype"]], data), array(KINDS[port["dtype"]])
        for row in range(3 * height):
            wide = [value for value in lr[row * width : (row + 1) * width] for _ in range(scale)]
            for _ in range(scale):
                sr.extend(wide)
        if what.get("does") == "nan":
            sr[0] = float("nan")
        if what.get("adds"):
            sr = array(sr.typecode, [value + what["adds"] for value in sr])
        return port["dtype"], sr.tobytes()[: 8 if what.get("does") == "wrong" else None]


def _misbehave(what: dict[str, Any], device: int) -> None:
    does, once = what.get("does"), what.get("once")
    if does is None or what.get("device", device) != device:
        return
    if once:
        try:
            Path(once).touch(exist_ok=False)
        except FileExistsError:
            return
    print(f"about to {does}", flush=True)
    if does == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif does == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif does == "exit":
        os._exit(3)
    elif does == "hang":
        time.sleep(600)
    elif does == "slow":
        time.sleep(0.2)
    elif does == "late":
        write_frame(answers, 1, {"dtype": "float32"}, bytes(8))
    elif does == "ahead":
        write_frame(answers, 10**6, {"dtype": "float32"}, bytes(8))
    elif does == "garbage":
        os.write(answers.fileno(), b"[BMRT] this is no frame, but a line that a library printed into our pipe\n")
        time.sleep(600)
    elif does == "half":
        os.write(answers.fileno(), struct.pack("<4sQIQ", b"armf", 3, 20, 5000) + b'{"dtype": "float32"}' + bytes(100))
        os._exit(0)
    elif does == "refuse":
        raise Refusal("the runtime failed on purpose")


def opener(runtime: str, libraries: str, device: int) -> Runtime:
    """As `open_runtime`; `libraries` is the name of the chip."""
    if device > 7:
        raise Refusal(f"there is no device {device}, the runtime sees 8")
    return Fake(libraries, device)


if __name__ == "__main__":
    answers = os.fdopen(int(sys.argv[1]), "wb")
    serve(sys.stdin.buffer, answers, opener)
