"""Orthogonalised updates."""

import pytest
import torch
from torch import nn

from arm_sr.training.optimisers import Muon, orthogonalised


@pytest.mark.parametrize("shape", [(16, 144), (144, 16), (48, 48), (1, 7), (1, 1)])
@pytest.mark.parametrize("spread", [1.0, 1e-6])
def test_singular_values_come_near_one(shape, spread):
    """Those of gradients that differ in size by two orders, and are small in all."""
    torch.manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    values = torch.logspace(0, -2, min(shape)) * spread
    update = orthogonalised(left * values @ right)
    assert update.shape == shape
    after = left.T @ update @ right.T
    assert ((after.diag() > 0.3) & (after.diag() < 1.3)).all()
    assert torch.allclose(after, after.diag().diag(), atol=1e-4)


def test_nothing_stays_nothing():
    """No gradient yet in any direction."""
    assert orthogonalised(torch.zeros(3, 5)).eq(0).all()


def test_a_layer_that_was_not_used_stays():
    """As the deep layers in the step of a shallow sub-net, also when it has moved before."""
    used, unused = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
    optimiser = Muon([*used.parameters(), *unused.parameters()])
    unused(used(torch.rand(1, 3, 5, 5))).mean().backward()
    optimiser.step()
    before = [p.clone() for p in (*used.parameters(), *unused.parameters())]
    optimiser.zero_grad()
    used(torch.rand(1, 3, 5, 5)).mean().backward()
    optimiser.step()
    after = [*used.parameters(), *unused.parameters()]
    assert [bool((p != was).any()) for p, was in zip(after, before, strict=True)] == [True, True, False, False]


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_step_has_the_size_of_the_learning_rate_and_goes_downhill(size, memory_format):
    """Whatever the size of the gradients: 0.2 of the learning rate in the mean, as Adam's."""
    torch.manual_seed(0)
    layer = nn.Conv2d(16, 32, 3).to(memory_format=memory_format)
    x = torch.randn(2, 16, 8, 8)

    def loss() -> torch.Tensor:
        return size * (layer(x) - 1).square().mean()

    before, start = layer.weight.detach().clone(), loss()
    start.backward()
    Muon(layer.parameters(), lr=1e-3).step()
    assert loss().item() < start.item()
    moved = (layer.weight - before).square().mean().sqrt().item()
    assert 0.1e-3 < moved < 0.3e-3


def test_it_finds_what_least_squares_finds():
    """A linear layer whose inputs differ in size by two orders; the learning rate falls to zero."""
    torch.manual_seed(1)
    x = torch.randn(200, 8) * torch.logspace(0, -2, 8)
    wanted = torch.randn(8, 4)
    layer = nn.Linear(8, 4)
    optimiser = Muon(layer.parameters())
    for step in range(400):
        optimiser.param_groups[0]["lr"] = 0.1 * (1 - step / 400)
        optimiser.zero_grad()
        (layer(x) - x @ wanted).square().mean().backward()
        optimiser.step()
    assert (layer.weight.T - wanted).abs().max() < 0.1
