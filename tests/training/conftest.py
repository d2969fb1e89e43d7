"""Pictures to train on, and runs that nothing disturbed."""

from collections.abc import Callable
from pathlib import Path

import pytest
import skimage.data
import torch
from training_runs import GROWING, RECIPE, RECIPES, save

from arm_sr.imaging.folders import list_images
from arm_sr.supernet.backbones import Supernet
from arm_sr.training.config import Recipe
from arm_sr.training.data import CropData
from arm_sr.training.loop import train


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four photos to train on, two of them with odd sides."""
    folder = tmp_path_factory.mktemp("pictures")
    save(folder / "a.png", skimage.data.astronaut()[:121, 150:301])
    save(folder / "b.png", skimage.data.coffee()[100:220, 200:320])
    save(folder / "c.png", skimage.data.chelsea()[50:151, 100:250])
    save(folder / "d.png", skimage.data.rocket()[100:200, 250:350])
    return folder


@pytest.fixture(scope="session")
def data(pictures: Path) -> CropData:
    """Crops of the four photos, as the recipe wants them."""
    return CropData(list_images(pictures), RECIPE.scale, RECIPE.patch)


@pytest.fixture(scope="session")
def validation(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One small picture with an odd side."""
    return [save(tmp_path_factory.mktemp("validation") / "v.png", skimage.data.astronaut()[0:61, 200:248])]


@pytest.fixture(scope="session")
def undisturbed(
    data: CropData, validation: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Recipe], tuple[Path, Supernet]]:
    """Runs a recipe in a folder of its own: that folder, and the network."""

    def run(recipe: Recipe) -> tuple[Path, Supernet]:
        torch.set_num_threads(1)
        out = tmp_path_factory.mktemp("runs") / "undisturbed"
        return out, train(recipe, data, validation, out, state_every=7)

    return run


@pytest.fixture(scope="session")
def whole_run(undisturbed: Callable[[Recipe], tuple[Path, Supernet]]) -> tuple[Path, Supernet]:
    """A run that nothing disturbed."""
    return undisturbed(RECIPE)


@pytest.fixture(scope="session")
def growing_run(undisturbed: Callable[[Recipe], tuple[Path, Supernet]]) -> tuple[Path, Supernet]:
    """As `whole_run`, of the recipe whose network grows."""
    return undisturbed(GROWING)


@pytest.fixture(scope="session")
def growing_muon_run(undisturbed: Callable[[Recipe], tuple[Path, Supernet]]) -> tuple[Path, Supernet]:
    """The same with the other optimiser."""
    return undisturbed(RECIPES["growing_muon_run"])
