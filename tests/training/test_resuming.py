"""Runs that were stopped or killed go on as if nothing had been."""

import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from training_runs import GROWING, RECIPE, RECIPES, REPOSITORY, assert_same_run, saved_step, with_stage

from arm_sr.errors import ArtefactError
from arm_sr.supernet.backbones.plain import Plain
from arm_sr.training import loop
from arm_sr.training.config import Recipe, Stage
from arm_sr.training.data import CropData
from arm_sr.training.loop import train, validate

KILLED_RUN = """
import os, signal, sys
from pathlib import Path
import torch
from arm_sr.training.config import Recipe
from arm_sr.imaging.folders import list_images
from arm_sr.training.data import CropData
from arm_sr.training.loop import train

torch.set_num_threads(1)
recipe, pictures, validation, out = (Path(argument) for argument in sys.argv[1:])
recipe = Recipe.load(recipe)
data = CropData(list_images(pictures), recipe.scale, recipe.patch)
batch, calls = data.batch, []

def fatal_batch(size, rng):
    calls.append(size)
    if len(calls) == 19:
        os.kill(os.getpid(), signal.SIGKILL)
    return batch(size, rng)

data.batch = fatal_batch
train(recipe, data, [validation], out, state_every=7)
"""


class TestResuming:
    """A run that was stopped and goes on ends as if it had not been."""

    @pytest.mark.parametrize("run", RECIPES)
    def test_after_sigkill(self, request, run, pictures, data, validation, tmp_path):
        """From the last state, at a border too; weights are equal to the bit and the log has every line once."""
        recipe = RECIPES[run]
        (tmp_path / "recipe.json").write_text(recipe.to_json())
        out = tmp_path / "run"
        arguments = [str(path) for path in (tmp_path / "recipe.json", pictures, validation[0], out)]
        killed = subprocess.run(
            [sys.executable, "-c", KILLED_RUN, *arguments],
            cwd=REPOSITORY,
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
        assert saved_step(out) == 14

        assert_same_run(request.getfixturevalue(run), out, train(recipe, data, validation, out, state_every=7))

    @pytest.mark.parametrize(
        ("run", "call"),
        [("whole_run", n) for n in (1, 2, 12, 30)] + [("growing_run", n) for n in (15, 16, 25)],
    )
    def test_after_an_interrupt_between_steps(self, request, run, call, data, validation, tmp_path, monkeypatch):
        """The state is written on the way out, so that no step is lost; neither the first step nor one at a border."""
        recipe, calls = RECIPES[run], []

        def interrupted(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
            calls.append(size)
            if len(calls) == call:
                raise KeyboardInterrupt
            return CropData.batch(data, size, rng)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(data, "batch", interrupted)
            train(recipe, data, validation, tmp_path)
        assert call - 1 == saved_step(tmp_path)

        assert_same_run(request.getfixturevalue(run), tmp_path, train(recipe, data, validation, tmp_path))

    @pytest.mark.parametrize(
        ("owner", "name", "call", "expected"),
        [
            (loop, "_backward", 12, 12),
            (torch.optim.Adam, "step", 12, 12),
            (torch, "_foreach_lerp_", 12, 12),
            (torch.optim.Adam, "step", 15, 15),  # the first of the second stage
            (torch, "_foreach_lerp_", 15, 15),
            (Plain, "revive", 1, 25),
        ],
    )
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_after_a_signal_within_a_step(
        self, growing_run, data, validation, tmp_path, monkeypatch, owner, name, call, expected, number
    ):
        """The step is done and saved first, so that none is lost."""
        original, calls = getattr(owner, name), []

        def signalled(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            calls.append(name)
            if len(calls) == call:
                signal.getsignal(number)(number, None)  # as if it came
            return result

        def terminate(*_: object) -> None:
            raise KeyboardInterrupt

        before = signal.signal(number, terminate)
        try:
            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(owner, name, signalled)
                train(GROWING, data, validation, tmp_path, state_every=7)
            assert terminate is signal.getsignal(number)
        finally:
            signal.signal(number, before)
        assert expected == saved_step(tmp_path)

        assert_same_run(growing_run, tmp_path, train(GROWING, data, validation, tmp_path))

    @pytest.mark.parametrize(("call", "step"), [(1, 10), (3, 30)])
    def test_after_an_interrupt_of_a_validation(self, whole_run, call, step, data, validation, tmp_path, monkeypatch):
        """That is done when it goes on, at the end too."""
        calls = []

        def interrupted(*args):
            calls.append(args)
            if len(calls) == call:
                raise KeyboardInterrupt
            return validate(*args)

        monkeypatch.setattr(loop, "validate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(RECIPE, data, validation, tmp_path / "run", state_every=7)
        assert step == saved_step(tmp_path / "run")
        assert_same_run(whole_run, tmp_path / "run", train(RECIPE, data, validation, tmp_path / "run", state_every=7))

    def test_a_log_line_cut_by_the_crash_is_dropped(self, whole_run, data, validation, tmp_path):
        """As a full disk or a power cut leaves it; lines of steps that run again go too."""
        (tmp_path / "log.jsonl").write_text('{"step": 10, "validation": {}}\n{"step": 12, "lo')
        assert_same_run(whole_run, tmp_path, train(RECIPE, data, validation, tmp_path))

    def test_a_state_of_another_recipe_is_refused(self, whole_run, data, validation):
        """Any field counts; the folder stays as it was."""
        out, _ = whole_run
        before = {file.name: file.read_bytes() for file in out.iterdir()}
        wider = replace(RECIPE, subnets={"w4": (4, 1), "w16": (16, 2)})
        later = replace(RECIPE, stages=(replace(RECIPE.stages[0], loss="mse"), Stage(steps=5)))
        for recipe in (replace(RECIPE, seed=1), with_stage(steps=31), with_stage(loss="mse"), wider, later):
            with pytest.raises(ArtefactError, match=r"state\.safetensors: made by another recipe"):
                train(recipe, data, validation, out)
        assert before == {file.name: file.read_bytes() for file in out.iterdir()}

    def test_a_finished_run_goes_on_with_further_stages(self, whole_run, data, validation, tmp_path):
        """As if they had been in the recipe from the start; a stage that has begun stays as it is."""
        longer = replace(RECIPE, stages=(*RECIPE.stages, Stage(steps=6, learning_rate=1e-3, loss="mse")))
        expected = train(longer, data, validation, tmp_path / "at once")
        shutil.copytree(whole_run[0], tmp_path / "later")
        gone_on = train(longer, data, validation, tmp_path / "later")
        assert all(torch.equal(p, q) for p, q in zip(expected.parameters(), gone_on.parameters(), strict=True))
        assert longer == Recipe.load(tmp_path / "later" / "recipe.json")
        assert [True, True, False] == [
            longer.continues(RECIPE, 30),
            RECIPE.continues(longer, 30),
            RECIPE.continues(longer, 31),
        ]

    @pytest.mark.parametrize("length", [0, 1, 8, 100, -1])
    def test_a_state_cut_short_is_refused_by_name(self, whole_run, data, validation, tmp_path, length):
        """With the advice to delete it; nothing is overwritten."""
        state = (whole_run[0] / "state.safetensors").read_bytes()[:length]
        (tmp_path / "state.safetensors").write_bytes(state)
        with pytest.raises(ArtefactError, match=rf"{tmp_path}/state\.safetensors: damaged.*delete"):
            train(RECIPE, data, validation, tmp_path)
        assert state == (tmp_path / "state.safetensors").read_bytes()

    def test_a_state_without_optimiser_is_refused_by_name(self, whole_run, data, validation, tmp_path):
        """As of an earlier version, which called it otherwise."""
        shutil.copytree(whole_run[0], tmp_path, dirs_exist_ok=True)
        path = tmp_path / "state.safetensors"
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        tensors = {key.replace("optimiser.", "adam."): value for key, value in load_file(path).items()}
        save_file(tensors, path, metadata)
        with pytest.raises(ArtefactError, match=rf"{path}: no state of the optimiser"):
            train(RECIPE, data, validation, tmp_path)

    def test_a_state_of_rubbish_is_refused_by_name(self, data, validation, tmp_path):
        """Random bytes."""
        (tmp_path / "state.safetensors").write_bytes(np.random.default_rng(0).bytes(5000))
        with pytest.raises(ArtefactError, match=str(tmp_path / "state.safetensors")):
            train(RECIPE, data, validation, tmp_path)
