"""In the place of the package of this name, which imports two more large ones: the compiler registers operators with it
that no super-resolution network has."""

from collections.abc import Callable
from typing import Any


class PyOp:
    """Types of the operators' arguments."""

    dt_float = dt_int32 = dt_int64 = None


def onnx_op(**_: Any) -> Callable[[Any], Any]:
    """Leaves the operator unregistered."""
    return lambda function: function


class PyOrtFunction:
    """Would run a network with such operators."""

    @staticmethod
    def from_model(model: Any) -> Any:
        """Refuses."""
        raise RuntimeError("the network has operators of onnxruntime_extensions, which are not installed here")
