"""Every change of a weight is detected, also when a new tensor has an old address."""

import gc
from collections.abc import Callable

import pytest
import torch
from torch import nn

from ecliptic.model import WeightState, writes


def layer() -> nn.Linear:
    return nn.Linear(3, 2)


def step(found: nn.Linear) -> None:
    found(torch.ones(1, 3)).sum().backward()
    torch.optim.SGD(found.parameters(), lr=0.1).step()


def fused_step(found: nn.Linear) -> None:
    """Torch itself counts no writes of fused optimisers."""
    found(torch.ones(1, 3)).sum().backward()
    torch.optim.AdamW(found.parameters(), lr=0.1, fused=True).step()


def write(found: nn.Linear) -> None:
    with torch.no_grad():
        found.weight[0, 0] = 7.0


def replace(found: nn.Linear) -> None:
    found.weight = nn.Parameter(found.weight.detach().clone())


def replace_in_place(found: nn.Linear) -> None:
    """The same values at the same address, in another tensor that was never written to."""
    found.weight = nn.Parameter(found.weight.data)


def cast(found: nn.Linear) -> None:
    found.double()


def load(found: nn.Linear) -> None:
    found.load_state_dict(layer().state_dict())


@pytest.mark.parametrize("change", [step, fused_step, write, replace, replace_in_place, cast, load])
def test_a_change_is_seen(change: Callable[[nn.Linear], None]) -> None:
    found = layer()
    before = WeightState.of(found.parameters())
    assert before.holds(found.parameters())
    change(found)
    assert not before.holds(found.parameters())
    assert WeightState.of(found.parameters()).holds(found.parameters())


def test_reading_changes_nothing() -> None:
    found = layer()
    before = WeightState.of(found.parameters())
    found(torch.ones(1, 3)).sum().backward()
    found.state_dict()
    assert before.holds(found.parameters())


def test_a_move_to_shared_memory_changes_nothing() -> None:
    """As when a model is sent to another process; what follows is seen again."""
    found = layer()
    state = WeightState.of(found.parameters())
    before = found.weight.data_ptr()
    found.share_memory()
    assert found.weight.data_ptr() != before
    assert state.holds(found.parameters())
    write(found)
    assert not state.holds(found.parameters())


def test_other_values_in_shared_memory_are_a_change() -> None:
    found = layer()
    state = WeightState.of(found.parameters())
    found.weight.data = torch.zeros(2, 3).share_memory_()
    assert not state.holds(found.parameters())


def test_another_number_of_tensors_is_a_change() -> None:
    found = layer()
    before = WeightState.of(found.parameters())
    found.bias = None
    assert not before.holds(found.parameters())


def test_a_state_keeps_no_weight_in_memory() -> None:
    found = layer()
    state = WeightState.of(found.parameters())
    del found
    gc.collect()
    assert all(known() is None for known in state.tensors)


def test_what_comes_back_is_what_it_was() -> None:
    found = layer()
    before, weight = WeightState.of(found.parameters()), found.weight
    replace(found)
    found.weight = weight
    assert before.holds(found.parameters())


def test_inference_tensors_count_no_writes() -> None:
    with torch.inference_mode():
        tensor = torch.zeros(2)
        tensor.add_(1)
    assert writes(tensor) == 0


def test_torch_still_counts_as_described() -> None:
    """`writes` uses a private name of torch; this test fails when its meaning changes."""
    tensor = torch.zeros(2)
    assert [writes(tensor), writes(tensor.add_(1)), writes(tensor[:0].zero_())] == [0, 1, 2]
    tensor.data.add_(1)
    assert writes(tensor) == 2
    saved = torch.ones(2, requires_grad=True)
    product = saved * tensor
    tensor.add_(1)
    with pytest.raises(RuntimeError, match="is at version 3; expected version 2"):
        product.sum().backward()
