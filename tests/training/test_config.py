"""Recipes as files, and what they refuse."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from training_runs import GROWING, RECIPE, REPOSITORY

from arm_sr.errors import ArtefactError
from arm_sr.supernet.backbones import build
from arm_sr.supernet.sampling import Sampling
from arm_sr.training.config import Recipe, Stage


class TestRecipe:
    """The file that decides a run."""

    def written(self, folder: Path, **changes: Any) -> Path:
        """A recipe file with some fields changed; None takes a field out."""
        fields = {**json.loads(RECIPE.to_json()), **changes}
        path = folder / "recipe.json"
        path.write_text(json.dumps({key: value for key, value in fields.items() if value is not None}))
        return path

    def test_it_reads_back_as_written(self, tmp_path):
        """Every field, stages and their sampling included."""
        polish = Stage(50, 1e-4, Sampling("sandwich", 1.5, 0.05, True), "mse")
        for stages in (RECIPE.stages, GROWING.stages, (*GROWING.stages, polish)):
            recipe = replace(GROWING, stages=stages, seed=3)
            (tmp_path / "recipe.json").write_text(recipe.to_json())
            assert recipe == Recipe.load(tmp_path / "recipe.json")

    def test_fields_left_out_have_their_defaults(self, tmp_path):
        """Only these five are required, and of a stage its steps."""
        required = {key: asdict(RECIPE)[key] for key in ("name", "backbone", "scale", "subnets")}
        (tmp_path / "recipe.json").write_text(json.dumps({**required, "stages": [{"steps": 3}, {"steps": 4}]}))
        assert Recipe(**required, stages=(Stage(3), Stage(4))) == Recipe.load(tmp_path / "recipe.json")

    @pytest.mark.parametrize(
        "path",
        sorted([*REPOSITORY.glob("checkpoints/*/recipe.json"), *REPOSITORY.glob("recipes/*.json")]),
        ids=lambda p: f"{p.parent.name}/{p.name}",
    )
    def test_every_shipped_recipe_can_be_trained(self, path):
        """It loads, is named like its folder or file, and its network can be built."""
        recipe = Recipe.load(path)
        net = build(recipe.backbone, recipe.scale, recipe.subnets)
        assert recipe.name == (path.parent.name if path.name == "recipe.json" else path.stem)
        assert recipe.subnets == net.subnets

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("wibble", 1),
            ("name", 4),
            ("name", None),
            ("backbone", ["plain"]),
            ("scale", 0),
            ("scale", 2.0),
            ("scale", "2"),
            ("batch", "16"),
            ("batch", True),
            ("patch", [8]),
            ("validate_every", 0),
            ("subnets", None),
            ("subnets", {}),
            ("subnets", [[4, 1]]),
            ("subnets", 16),
            ("subnets", "w4"),
            ("subnets", {"w4": 4}),
            ("subnets", {"w4": "48"}),
            ("subnets", {"w4": None}),
            ("subnets", {"w4": {"width": 4, "depth": 1}}),
            ("subnets", {"w4": []}),
            ("subnets", {"w4": [4]}),
            ("subnets", {"w4": [4, 1, 1]}),
            ("subnets", {"w4": [4, "8"]}),
            ("subnets", {"w4": [[4], 1]}),
            ("subnets", {"w4": [0, 1]}),
            ("subnets", {"w4": [4, -1]}),
            ("subnets", {"w4": [4.5, 1]}),
            ("subnets", {"w4": [4, 1.0]}),
            ("subnets", {"w4": [True, 1]}),
            ("subnets", {"w4": [4, True]}),
            ("subnets", {"w4": [4, 1], "w8": [8, None]}),
            ("subnets", {"w4": [4, 1], "again": [4, 1]}),
            ("stages", None),
            ("stages", {"steps": 3}),
            ("stages", 3),
            ("stages", "l1"),
            ("stage", []),
            ("steps", 30),
            ("widths", [4, 8]),
            ("warmup", "none"),
            ("warmup", -1),
            ("clip", 0),
            ("clip", {}),
            ("ema", 1.0),
            ("ema", "0.9"),
            ("precision", "fp16"),
            ("precision", 32),
            ("optimiser", "sgd"),
            ("optimiser", 1),
            ("seed", "x"),
            ("seed", -1),
            ("start", 3),
            ("start", "../weights.safetensors"),
            ("start", "supernet.safetensors"),
            ("start", "state.safetensors"),
            ("start", "recipe.json"),
            ("start", ""),
            ("start_share", 0.5),
            ("start_share", "0.5"),
            ("sizes", []),
            ("sizes", 0.5),
            ("sizes", [0.5, 0]),
            ("sizes", [1.5]),
            ("sizes", ["1"]),
        ],
    )
    def test_a_wrong_field_is_named_with_the_file(self, tmp_path, field, value):
        """Unknown, missing, of the wrong type or out of range."""
        path = self.written(tmp_path, **{field: value})
        with pytest.raises(ArtefactError, match=rf"{path}: .*{field}"):
            Recipe.load(path)

    @pytest.mark.parametrize("index", [0, 1])
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("wibble", 1),
            ("steps", ...),
            ("steps", None),
            ("steps", 0),
            ("steps", -5),
            ("steps", 2.5),
            ("steps", "30"),
            ("steps", True),
            ("learning_rate", 0),
            ("learning_rate", -1),
            ("learning_rate", "0.1"),
            ("learning_rate", None),
            ("learning_rate", float("nan")),
            ("loss", "l3"),
            ("loss", None),
            ("loss", ["l1"]),
            ("depth", 0),
            ("depth", -1),
            ("depth", 1.5),
            ("depth", "1"),
            ("depth", True),
            ("revive", -0.1),
            ("revive", 1.5),
            ("revive", "all"),
            ("revive", float("nan")),
            ("decay_steps", 4),
            ("decay_steps", 6.5),
            ("decay_steps", "6"),
            ("sampling", {"rule": "club"}),
            ("sampling", {"alpha": "2"}),
            ("sampling", {"floor": 2}),
        ],
    )
    def test_a_wrong_field_of_a_stage_is_named_with_the_file(self, tmp_path, index, field, value):
        """In any stage; ... takes the field out."""
        stages = [{"steps": 5, "depth": 9, field: value} if i == index else {"steps": 5, "depth": 9} for i in (0, 1)]
        path = self.written(tmp_path, stages=[{k: v for k, v in s.items() if v is not ...} for s in stages])
        with pytest.raises(ArtefactError, match=rf"{path}: .*{field}"):
            Recipe.load(path)

    @pytest.mark.parametrize("sampling", [3, None, [], "single", {"beta": 1}])
    def test_a_sampling_that_is_none_is_named_with_the_file(self, tmp_path, sampling):
        """Two levels down: no JSON object, or one with an unknown option."""
        path = self.written(tmp_path, stages=[{"steps": 5, "sampling": sampling}])
        with pytest.raises(ArtefactError, match=rf"(?i){path}: .*sampling"):
            Recipe.load(path)

    @pytest.mark.parametrize("stages", [[], [3], [None], ["l1"], [[30]], [{"steps": 5}, []]])
    def test_a_list_of_anything_but_stages_is_refused(self, tmp_path, stages):
        """Empty, or with something that is no JSON object."""
        path = self.written(tmp_path, stages=stages)
        with pytest.raises(ArtefactError, match=rf"{path}: .*stage"):
            Recipe.load(path)

    @pytest.mark.parametrize("depths", [(2, 1), (None, 3), (1, 3, 2), (1, None, 3)])
    def test_a_depth_below_the_stage_before_is_refused(self, tmp_path, depths):
        """What was trained would be thrown away; no limit is the deepest of all."""
        path = self.written(tmp_path, stages=[{"steps": 5, "depth": depth} for depth in depths])
        with pytest.raises(ArtefactError, match=rf"{path}: .*depth"):
            Recipe.load(path)

    @pytest.mark.parametrize("depths", [(1, 1), (None, None), (1, 2, None), (3, 99)])
    def test_depths_may_stay_or_rise(self, tmp_path, depths):
        """Beyond the depth of the network too, where a limit is none."""
        path = self.written(tmp_path, stages=[{"steps": 5, "depth": depth} for depth in depths])
        assert list(depths) == [stage.depth for stage in Recipe.load(path).stages]

    @pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b'"text"', b"null", b"\xff\xfe", b"{'name': 1}"])
    def test_a_file_that_is_no_json_object_is_named(self, tmp_path, content):
        """Cut, of another kind, or no text at all."""
        (tmp_path / "recipe.json").write_bytes(content)
        with pytest.raises(ArtefactError, match=str(tmp_path / "recipe.json")):
            Recipe.load(tmp_path / "recipe.json")

    def test_a_missing_file_is_named(self, tmp_path):
        """As ArtefactError, like any other fault of a recipe."""
        with pytest.raises(ArtefactError, match=str(tmp_path / "recipe.json")):
            Recipe.load(tmp_path / "recipe.json")
