"""`arm-sr explain`: what is said of a patch is what the planner did with it."""

import re
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from arm_sr import Upscaler
from arm_sr.cli import main
from arm_sr.errors import UsageError
from arm_sr.explain import Explanation


@pytest.fixture
def picture(photo: np.ndarray, tmp_path: Path) -> Path:
    """A part of the photo of 150x130, with flat and busy parts."""
    path = tmp_path / "a.png"
    PIL.Image.fromarray(photo[:130, 100:250]).save(path)
    return path


@pytest.fixture
def explain(tiny_model: Path, picture: Path, capsys: pytest.CaptureFixture[str]):
    """Run `arm-sr explain` on it: (exit status, stdout, stderr)."""

    def call(*argv: str) -> tuple[int, str, str]:
        try:
            status = main(["explain", str(picture), "-m", str(tiny_model), *argv])
        except SystemExit as stop:
            status = int(stop.code or 0)
        return status, *capsys.readouterr()

    return call


@pytest.mark.parametrize(
    "how", [{"budget": "30%"}, {"budget": "60%", "objective": "psnr"}, {"eta": "1"}, {"eta": "2", "objective": "mse"},
            {"width": "w4"}, {}]
)  # fmt: skip
def test_every_patch_has_the_branch_of_the_plan(tiny_model: Path, photo: np.ndarray, how: dict[str, str]) -> None:
    """With the table's own numbers, and a reason that fits what happened."""
    lr = np.ascontiguousarray(photo[:130, 100:250])
    planner = Upscaler(tiny_model).planner
    explanation = Explanation(planner, lr, **how)
    plan = explanation.plan
    assert planner.plan(lr, how.get("budget"), how.get("eta"), how.get("width"), how.get("objective")).macs == plan.macs
    views = list(explanation.patches())
    assert explanation.branch_map.ravel().tolist() == [view.branch for view in views]
    if how and "width" not in how:
        assert np.array_equal(plan.branch_map, explanation.branch_map)
    else:
        assert set(np.unique(plan.branch_map)) == set(np.unique(explanation.branch_map))
    table = planner.table
    for view in views:
        assert table.edges[view.table_row] <= view.score <= table.edges[view.table_row + 1]
        assert table.psnr[view.table_row].tolist() == [branch.table_psnr for branch in view.branches]
        assert 0 == view.branches[0].cost < view.branches[1].cost < view.branches[2].cost
        errors = [branch.mse for branch in view.branches]
        assert sorted(errors, reverse=True) == errors
        if how.keys() == {"eta"}:
            assert view.reason.startswith("ARM's rule")
        elif not how or "width" in how:
            assert "one branch everywhere was asked for" == view.reason
        else:
            moved = re.match(r"moved (up|down) from (\w+)", view.reason)
            if moved:
                before = plan.branches.index(moved[2])
                assert (moved[1] == "up") == (view.branch > before)
            else:
                assert re.match(r"climbed its hull to|stayed at the foot|w8 everywhere", view.reason)
    assert sum(view.box[2] * view.box[3] for view in views) == 130 * 150


def test_the_reasons_are_of_several_kinds(tiny_model: Path, photo: np.ndarray) -> None:
    """On a picture where patches climb, stay and follow their neighbours."""
    explanation = Explanation(Upscaler(tiny_model).planner, photo, budget="30%")
    kinds = {view.reason.split()[0] for view in explanation.patches()}
    assert {"climbed", "stayed", "moved"} <= kinds
    assert explanation.price
    assert explanation.price > 0


def test_the_summary_has_a_character_a_patch(explain, tiny_model: Path, photo: np.ndarray) -> None:
    """The map is the plan's."""
    status, out, _ = explain("-b", "40%")
    assert 0 == status
    plan = Upscaler(tiny_model).plan(np.ascontiguousarray(photo[:130, 100:250]), "40%")
    assert str(plan) in out
    rows = plan.grid.shape[0]
    assert ["".join(".12"[n] for n in row) for row in plan.branch_map] == out.splitlines()[-rows:]
    for name, count in plan.counts.items():
        assert re.search(rf"{name} +{count}\b", out)


def test_a_region_names_its_patches(explain, tiny_model: Path) -> None:
    """Those that it touches, each with all branches and one mark."""
    status, out, _ = explain("-b", "40%", "--region", "30,10,20,30")
    assert 0 == status
    found = re.findall(r"^patch (\d+),(\d+) at (\d+),(\d+), 16x16: edge score", out, re.MULTILINE)
    wanted = [(row, col) for row in range(3) for col in range(1, 4)]
    assert wanted == [(int(row), int(col)) for row, col, *_ in found]
    assert 9 == out.count(" -> ")
    assert 9 == len(re.findall(r"^ (?:->|  ) w8 ", out, re.MULTILINE))


def test_wrong_usage(explain) -> None:
    """One sentence and status 2."""
    for argv, words in (
        (("--region", "100,0,60,10"), "is not within the 150x130 pixels"),
        (("--region", "1,2,3"), "four whole numbers"),
        (("--region", "1,2,0,5"), "at least a pixel"),
        (("--deadline", "80ms"), "no plan to explain"),
    ):
        status, out, err = explain(*argv)
        assert (2, "") == (status, out)
        assert words in err
        assert 1 == err.count("\n")


def test_hidden_colours_count_no_more_than_for_upscaling(
    explain, tiny_model: Path, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The plan of a transparent picture of noise."""
    rgba = np.random.default_rng(0).integers(0, 256, (130, 150, 4), np.uint8)
    rgba[..., 3] = 255 * (np.arange(150) < 30)
    rgba[:, :30, :3] = 90
    PIL.Image.fromarray(rgba).save(picture)
    status, told, _ = explain("-b", "40%")
    assert 0 == main(["upscale", str(picture), "-m", str(tiny_model), "-b", "40%", "--dry-run", "-q"])
    assert 0 == status
    planned = str(Upscaler(tiny_model).plan(rgba, "40%"))
    assert told.startswith(planned)
    assert planned.splitlines()[0] in capsys.readouterr().out


def test_a_model_without_table(explain, tiny_model: Path, tmp_path: Path) -> None:
    """There is nothing to explain."""
    shutil.copytree(tiny_model, tmp_path / "bare")
    (tmp_path / "bare/lut.json").unlink()
    status, _, err = explain("-m", str(tmp_path / "bare"))
    assert 1 == status
    assert "has no table, which is what is explained" in err


def test_the_library_raises(tiny_model: Path, photo: np.ndarray) -> None:
    """What `Planner.plan` raises."""
    with pytest.raises(UsageError, match="exclude each other"):
        Explanation(Upscaler(tiny_model).planner, photo, budget="40%", width="w4")


def test_too_little_memory_is_one_sentence(explain, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever needs it."""

    def no_memory(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("arm_sr.explain.Explanation", no_memory)
    assert (1, "", "arm-sr: error: not enough memory; take smaller pictures or fewer threads\n") == explain()
