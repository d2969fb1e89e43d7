"""The process that holds a TPU's runtime: it answers requests until their pipe ends.

It runs as a script, with nothing but the standard library (and `sophon.sail`, where that is the runtime): the vendor's
libraries bring libraries of their own, print on stdout, and may take the process down.

A frame is a number, a description in JSON and bytes; an answer has the number of its request. Requests, by their `do`:

    open    runtime, libraries, device             -> chip, version
    load    file, nets (names)                     -> nets: by name, `input` and `output`: dtype, scale, shape
    run     net, and the input as bytes            -> dtype, and the output as bytes

An answer with `error` says in a sentence what was wrong with its request.
"""

import ctypes
import faulthandler
import json
import math
import os
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol

_FRAME = struct.Struct("<4sQIQ")
_MAGIC = b"armf"
SYSTEM = ("libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libstdc++.so.6", "libgcc_s.so.1")
"""The compiler comes with those of an older system. Who is loaded first stays, and they must fit the C library that
this process has already."""
CHIP_IDS = {0x1684: "bm1684", 0x1686: "bm1684x", 0x1686A200: "bm1688"}
"""What the runtime calls them."""
DTYPES = {0: "float32", 1: "float16", 2: "int8", 3: "uint8"}
"""Of inputs and outputs, by number in the runtime, as numpy calls them."""
SIZES = {"float32": 4, "float16": 2, "int8": 1, "uint8": 1}

NOT_TAKEN = (
    "the runtime ({}) does not take it; it is probably older than the compiler: install a newer one, or compile with "
    "an older compiler"
)


def write_frame(stream: BinaryIO, number: int, what: dict[str, Any], body: bytes | memoryview = b"") -> None:
    """Write and flush a frame. Raises OSError, ValueError when the other end or the stream is closed."""
    text = json.dumps(what).encode()
    stream.write(_FRAME.pack(_MAGIC, number, len(text), len(body)) + text)
    stream.write(body)
    stream.flush()


def read_frame(stream: BinaryIO) -> tuple[int, dict[str, Any], bytes] | None:
    """The next frame, None when there is no whole one any more; ValueError when what comes is none."""
    head = stream.read(_FRAME.size)
    if len(head) < _FRAME.size:
        return None
    magic, number, text_size, body_size = _FRAME.unpack(head)
    if magic != _MAGIC:
        raise ValueError(f"a frame begins with {magic!r}")
    text, body = stream.read(text_size), stream.read(body_size)
    if len(text) < text_size or len(body) < body_size:
        return None
    return number, json.loads(text), body


class Refusal(Exception):
    """What is wrong with a request, in a sentence."""


class Runtime(Protocol):
    """What runs bmodels."""

    chip: str
    version: str

    def load(self, file: str) -> None:
        """Load the bmodel."""

    def ports(self, net: str) -> dict[str, dict[str, Any]]:
        """`input` and `output` of a net that was loaded: dtype, scale, shape."""

    def run(self, net: str, data: bytes) -> tuple[str, bytes | memoryview]:
        """Input to output, and the dtype of that."""


class _Shape(ctypes.Structure):
    """`bm_shape_t`."""

    _fields_ = (("num_dims", ctypes.c_int), ("dims", ctypes.c_int * 8))


class _Stage(ctypes.Structure):
    """`bm_stage_info_t`, as far as old and new runtimes agree: the first of a net can be read, and there is one."""

    _fields_ = (("input_shapes", ctypes.POINTER(_Shape)), ("output_shapes", ctypes.POINTER(_Shape)))


class _Net(ctypes.Structure):
    """`bm_net_info_t`, as far as it is read."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("is_dynamic", ctypes.c_bool),
        ("input_num", ctypes.c_int),
        ("input_names", ctypes.POINTER(ctypes.c_char_p)),
        ("input_dtypes", ctypes.POINTER(ctypes.c_int)),
        ("input_scales", ctypes.POINTER(ctypes.c_float)),
        ("output_num", ctypes.c_int),
        ("output_names", ctypes.POINTER(ctypes.c_char_p)),
        ("output_dtypes", ctypes.POINTER(ctypes.c_int)),
        ("output_scales", ctypes.POINTER(ctypes.c_float)),
        ("stage_num", ctypes.c_int),
        ("stages", ctypes.POINTER(_Stage)),
    )


class BmRuntime:
    """The C runtime, `libbmrt` on `libbmlib`: the same on a device and in the simulator."""

    def __init__(self, libraries: str, device: int) -> None:
        for name in SYSTEM:
            with suppress(OSError):
                ctypes.CDLL(name, ctypes.RTLD_GLOBAL)
        try:
            self._lib = ctypes.CDLL("libbmlib.so.0", ctypes.RTLD_GLOBAL)  # that of LD_LIBRARY_PATH
            self._rt = ctypes.CDLL(str(Path(libraries) / "libbmrt.so"), ctypes.RTLD_GLOBAL)
        except OSError as error:
            raise Refusal(f"the runtime in {libraries} cannot be loaded: {error}") from error
        count, chip, self._handle = ctypes.c_int(), ctypes.c_uint(), ctypes.c_void_p()
        if self._lib.bm_dev_getcount(ctypes.byref(count)) or not 0 <= device < count.value:
            raise Refusal(f"there is no device {device}, the runtime sees {count.value}")
        if status := self._lib.bm_dev_request(ctypes.byref(self._handle), device):
            raise Refusal(f"device {device} cannot be opened, bm_dev_request says {status}")
        self._lib.bm_get_chipid(self._handle, ctypes.byref(chip))
        self.chip = CHIP_IDS.get(chip.value, f"{chip.value:#x}")
        self.version = "libbmrt"
        with suppress(AttributeError):  # older ones do not say
            version = self._rt["_Z13_bmrt_versionv"]
            version.restype = ctypes.c_char_p
            self.version = " ".join(version().decode(errors="replace").split())
        rt = self._rt
        rt.bmrt_create.restype = ctypes.c_void_p
        rt.bmrt_load_bmodel.restype = rt.bmrt_launch_data.restype = ctypes.c_bool
        rt.bmrt_load_bmodel.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        rt.bmrt_get_network_info.restype = ctypes.POINTER(_Net)
        rt.bmrt_get_network_info.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        pointers, shapes = ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(_Shape)
        rt.bmrt_launch_data.argtypes = [ctypes.c_void_p, ctypes.c_char_p, pointers, shapes, ctypes.c_int, pointers,
                                        shapes, ctypes.c_int, ctypes.c_bool]  # fmt: skip
        self._runtime = ctypes.c_void_p(rt.bmrt_create(self._handle))
        if not self._runtime:
            raise Refusal(f"the runtime cannot be started on device {device}")

    def load(self, file: str) -> None:
        """See `Runtime.load`."""
        if not self._rt.bmrt_load_bmodel(self._runtime, os.fsencode(file)):
            raise Refusal(NOT_TAKEN.format(self.version))

    def _info(self, net: str) -> _Net:
        found = self._rt.bmrt_get_network_info(self._runtime, net.encode())
        if not found:
            raise Refusal(f"it has no net called '{net}'")
        info: _Net = found.contents
        if (info.input_num, info.output_num, info.stage_num) != (1, 1, 1) or info.is_dynamic:
            raise Refusal(f"its net '{net}' must have one input, one output and one shape")
        return info

    def ports(self, net: str) -> dict[str, dict[str, Any]]:
        """See `Runtime.ports`."""
        info = self._info(net)
        stage = info.stages[0]
        return {
            "input": _port(info.input_dtypes[0], info.input_scales[0], stage.input_shapes[0]),
            "output": _port(info.output_dtypes[0], info.output_scales[0], stage.output_shapes[0]),
        }

    def run(self, net: str, data: bytes) -> tuple[str, bytes | memoryview]:
        """See `Runtime.run`."""
        info = self._info(net)
        shapes, ports = info.stages[0], self.ports(net)
        needed, size = (math.prod(port["shape"]) * SIZES[port["dtype"]] for port in (ports["input"], ports["output"]))
        if len(data) != needed:
            raise Refusal(f"net '{net}' takes {needed} bytes, not {len(data)}")
        source, target = ctypes.create_string_buffer(data, len(data)), ctypes.create_string_buffer(size)
        sources, targets = ((ctypes.c_void_p * 1)(ctypes.addressof(each)) for each in (source, target))
        made = (_Shape * 1)()
        given = (_Shape * 1)(shapes.input_shapes[0])
        if not self._rt.bmrt_launch_data(self._runtime, net.encode(), sources, given, 1, targets, made, 1, True):
            raise Refusal(f"the runtime failed on net '{net}'")
        if status := self._lib.bm_thread_sync(self._handle):
            raise Refusal(f"the device failed on net '{net}', bm_thread_sync says {status}")
        return ports["output"]["dtype"], memoryview(target)


def _port(dtype: int, scale: float, shape: _Shape) -> dict[str, Any]:
    if dtype not in DTYPES:
        raise Refusal(f"it has numbers of kind {dtype} at its ends; there are {', '.join(DTYPES.values())}")
    return {"dtype": DTYPES[dtype], "scale": scale, "shape": shape.dims[: shape.num_dims]}


class SailRuntime:
    """The vendor's Python interface, `sophon.sail`."""

    def __init__(self, device: int) -> None:
        import numpy
        from sophon import sail

        self._numpy, self._sail, self._device = numpy, sail, device
        count = sail.get_available_tpu_num()
        if not 0 <= device < count:
            raise Refusal(f"there is no device {device}, the runtime sees {count}")
        self.chip = str(sail.Handle(device).get_target()).lower()
        self.version = f"sophon.sail {getattr(sail, '__version__', '')}".strip()
        self._engines: dict[str, Any] = {}

    def load(self, file: str) -> None:
        """See `Runtime.load`."""
        try:
            engine = self._sail.Engine(file, self._device, self._sail.IOMode.SYSIO)
        except RuntimeError as error:
            raise Refusal(NOT_TAKEN.format(self.version)) from error
        self._engines.update(dict.fromkeys(engine.get_graph_names(), engine))

    def ports(self, net: str) -> dict[str, dict[str, Any]]:
        """See `Runtime.ports`."""
        if net not in self._engines:
            raise Refusal(f"it has no net called '{net}'")
        engine, found = self._engines[net], {}
        for end in ("input", "output"):
            names = getattr(engine, f"get_{end}_names")(net)
            if len(names) != 1:
                raise Refusal(f"its net '{net}' must have one input, one output and one shape")
            of = {about: getattr(engine, f"get_{end}_{about}")(net, names[0]) for about in ("dtype", "scale", "shape")}
            dtype = str(of["dtype"]).rsplit("BM_", 1)[-1].lower()
            if dtype not in SIZES:
                raise Refusal(f"it has numbers of kind {dtype} at its ends; there are {', '.join(SIZES)}")
            found[end] = {"dtype": dtype, "scale": float(of["scale"]), "shape": list(of["shape"])}
        return found

    def run(self, net: str, data: bytes) -> tuple[str, bytes | memoryview]:
        """See `Runtime.run`."""
        engine, port = self._engines[net], self.ports(net)["input"]
        lr = self._numpy.frombuffer(data, port["dtype"]).reshape(port["shape"])
        (sr,) = engine.process(net, {engine.get_input_names(net)[0]: lr}).values()
        return sr.dtype.name, sr.tobytes()


def open_runtime(runtime: str, libraries: str, device: int) -> Runtime:
    """The runtime called `bmrt`, from the folder `libraries`, or `sail`, on a device."""
    return SailRuntime(device) if runtime == "sail" else BmRuntime(libraries, device)


def serve(requests: BinaryIO, answers: BinaryIO, opener: Callable[[str, str, int], Runtime] = open_runtime) -> None:
    """Answer one request after the other, to the end of the pipe."""
    runtime: Runtime | None = None

    def answer(what: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes | memoryview]:
        nonlocal runtime
        if what["do"] == "open":
            runtime = opener(what["runtime"], what["libraries"], what["device"])
            return {"chip": runtime.chip, "version": runtime.version}, b""
        if runtime is None:
            raise Refusal("no runtime is open")
        if what["do"] == "load":
            runtime.load(what["file"])
            return {"nets": {net: runtime.ports(net) for net in what["nets"]}}, b""
        dtype, result = runtime.run(what["net"], body)
        return {"dtype": dtype}, result

    while (request := read_frame(requests)) is not None:
        number, what, body = request
        result: bytes | memoryview = b""
        try:
            told, result = answer(what, body)
        except Refusal as refusal:
            told = {"error": str(refusal)}
        except Exception as error:
            told = {"error": f"{type(error).__name__}: {error}"}
        write_frame(answers, number, told, result)


if __name__ == "__main__":
    faulthandler.enable()
    with suppress(BrokenPipeError):
        serve(sys.stdin.buffer, os.fdopen(int(sys.argv[1]), "wb"))
    os._exit(0)  # the simulator's libraries crash when they are taken down
