"""The compiler's environment, and what is told of a tool that failed."""

import os
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from arm_sr.tpu import compiler
from arm_sr.tpu.compiler import CompileError, Compiler, environment_folder, explain, find_python, named_nodes


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A net with an operator that no chip has, and one whose name begins like another's."""
    nodes = [
        helper.make_node("Relu", ["lr"], ["up"], "first"),
        helper.make_node("Det", ["up"], ["up.2"], "strange"),
        helper.make_node("Relu", ["up.2"], ["sr"], "last"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in ("lr", "sr")]
    file = tmp_path / "net.onnx"
    onnx.save(helper.make_model(helper.make_graph(nodes, "net", ends[:1], ends[1:])), file)
    return file


def test_a_node_is_named_by_its_operator(model: Path) -> None:
    """As the converter says it."""
    text = "convert Relu\nRuntimeError: Op not support:{'Det'}\n"
    assert ["Det 'strange' (up.2)"] == named_nodes(text, model)


def test_a_node_is_named_by_what_it_makes(model: Path) -> None:
    """As the later steps say it: output and operator; not one whose name only begins like it."""
    text = 'loc("up_Relu") done\nerror: loc("up.2_Det"): not implemented\n'
    assert ["Det 'strange' (up.2)"] == named_nodes(text, model)
    assert ["Relu 'first' (up)"] == named_nodes("error at up_Relu", model)
    assert [] == named_nodes("error at upper_Relu", model)


def test_a_failure_is_told_in_the_words_of_the_tool(model: Path, tmp_path: Path) -> None:
    text = "\n".join([f"line {n}" for n in range(50)] + ["Traceback (most recent call last):",
                     '  File "x.py", line 3', "RuntimeError: Op not support:{'Det'}"])  # fmt: skip
    told = explain("model_transform", text, 1, model, tmp_path / "model_transform.log")
    assert "model_transform failed with status 1 on Det 'strange' (up.2)" in told
    assert "Op not support:{'Det'}" in told and "line 3" not in told and "Traceback" not in told
    assert str(tmp_path / "model_transform.log") in told


def test_a_tool_that_says_nothing_of_an_error(tmp_path: Path) -> None:
    told = explain("tpuc-opt", "one\ntwo\n", -11, None, tmp_path / "log")
    assert "status -11" in told and "two" in told


def test_a_folder_without_a_compiler(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="--setup"):
        Compiler(tmp_path)


def test_no_python_of_that_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    with pytest.raises(CompileError, match=r"python3\.10"):
        find_python()


def test_a_shim_that_does_not_work_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As pyenv has them for versions that are not chosen."""
    shim, real = tmp_path / "shims" / "python3.10", tmp_path / "versions" / "3.10.9" / "bin" / "python3.10"
    for file, status in ((shim, 127), (real, 0)):
        file.parent.mkdir(parents=True)
        file.write_text(f"#!/bin/sh\nexit {status}\n")
        file.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(shim.parent), os.environ["PATH"]]))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert real == find_python()


def test_the_place_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(compiler.ENVIRONMENT, str(tmp_path))
    assert tmp_path == environment_folder()


@pytest.fixture
def installed(tmp_path: Path) -> Compiler:
    """An environment whose one tool is a shell script."""
    packages = tmp_path / "env" / "lib" / "python3.10" / "site-packages"
    tools = packages / "tpu_mlir" / "bin"
    tools.mkdir(parents=True)
    (packages / "tpu_mlir-1.30.2.dist-info").mkdir()
    (tmp_path / "env" / "bin").mkdir()
    (tmp_path / "env" / "bin" / "python").touch()
    tool = tools / "model_tool"
    tool.write_text('#!/bin/sh\necho "$@"; echo "$SECRET $TPUC_ROOT"; touch made; [ "$1" != break ] || exit 3\n')
    tool.chmod(0o755)
    return Compiler(tmp_path / "env")


def test_a_tool_runs_in_its_folder_with_its_own_variables(
    installed: Compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "of this process")
    folder = tmp_path / "step"
    folder.mkdir()
    text = installed.run("model_tool", ["--combine", Path("a b"), 3], folder)
    assert ["--combine a b 3", f" {installed.package}"] == text.splitlines()
    assert (folder / "made").exists() and text == (folder / "model_tool.log").read_text()
    assert "tpu_mlir 1.30.2" == installed.version


def test_a_tool_that_fails(installed: Compiler, tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="model_tool failed with status 3"):
        installed.run("model_tool", ["break"], tmp_path)


def test_stand_ins_are_enough_for_what_the_compiler_imports(tmp_path: Path) -> None:
    """Importing them needs nothing, and a network that would need them is refused."""
    code = "import torch; from onnxruntime_extensions import onnx_op, PyOp, PyOrtFunction; PyOrtFunction.from_model(1)"
    done = subprocess.run(["python3", "-c", code], env={"PYTHONPATH": str(compiler.STAND_INS)}, cwd=tmp_path,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert "operators of onnxruntime_extensions" in done.stderr


def test_requirements_are_pinned() -> None:
    lines = compiler.REQUIREMENTS.read_text().split()
    assert all(line.count("==") == 1 for line in lines) and "tpu_mlir==1.30.2" in lines
    assert np.unique(lines).size == len(lines)
