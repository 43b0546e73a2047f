"""A coded weight is a float32 tensor in all that it does, and keeps no float32 values."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from ecliptic.model import CodedWeight, QuantisedLinear, WeightState, ordinary
from ecliptic.storage import page_out, release

M, K = 6, 4


def coded_layer() -> QuantisedLinear:
    random = torch.Generator().manual_seed(0)
    codes = torch.randint(-60, 61, (M, K), generator=random).char()
    scales, smoothing = (torch.rand(n, generator=random) + 0.5 for n in (M, K))
    return QuantisedLinear(codes, scales, torch.zeros(M), smoothing, 0.1, 3)


def linears() -> tuple[nn.Linear, nn.Linear]:
    """A layer with a coded weight, and one with the same values in an ordinary one."""
    coded, plain = nn.Linear(K, M), nn.Linear(K, M)
    coded.weight = CodedWeight(coded_layer()).parameter()  # type: ignore[assignment]
    plain.weight = nn.Parameter(coded_layer().to_float())
    plain.bias = nn.Parameter(coded.bias.detach().clone())
    return coded, plain


def weight() -> CodedWeight:
    return linears()[0].weight  # type: ignore[return-value]


def is_coded(tensor: Tensor) -> bool:
    return isinstance(tensor, CodedWeight) and tensor.coded


VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "detach": lambda w: w.detach(),
    "data": lambda w: w.data,
    "parameter": lambda w: nn.Parameter(w.detach()),
    "cpu": lambda w: w.cpu().detach(),
    "float": lambda w: w.float().detach(),
    "contiguous": lambda w: w.contiguous().detach(),
    "transpose": lambda w: w.detach().t(),
    "flat": lambda w: w.detach().view(-1),
    "rows": lambda w: w.detach()[1:4],
    "one row of a transpose": lambda w: w.detach().T[2],
    "part": lambda w: w.detach().chunk(3)[1],
    "bytes": lambda w: w.detach().view(torch.uint8),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_are_coded_and_see_what_is_written(name: str) -> None:
    found, values = weight(), coded_layer().to_float()
    with torch.no_grad():
        view, wanted = VIEWS[name](found), VIEWS[name](values)
        assert is_coded(view)
        assert (view.shape, view.stride(), view.dtype) == (
            wanted.shape,
            wanted.stride(),
            wanted.dtype,
        )
        assert torch.equal(view, wanted)
        assert found.coded
        for tensor in (found, values):
            tensor[2] = 7.0
        assert not found.coded
        assert torch.equal(view, wanted)


READS: dict[str, Callable[[Tensor], Any]] = {
    "sum": lambda w: w.sum(),
    "product": lambda w: torch.ones(3, K) @ w.T,
    "clone": lambda w: w.clone(),
    "other dtype": lambda w: w.to(torch.bfloat16),
    "stack": lambda w: torch.stack([w, w]),
    "mixture": lambda w: torch.cat([w, torch.ones(1, K)]),
    "largest": lambda w: w.max(dim=0).indices,
    "item": lambda w: torch.tensor(w[1, 2].item()),
    "list": lambda w: torch.tensor(w.tolist()),
    "rows": lambda w: torch.stack(list(w)),
    "einsum": lambda w: torch.einsum("mk,nk->mn", w, w),
    "autocast": lambda w: _cast_product(w),
}


def _cast_product(w: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return nn.functional.linear(torch.ones(2, K), w)


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_reading_gives_ordinary_tensors_and_keeps_the_codes(name: str, mode: Any) -> None:
    found = weight()
    state = WeightState.of([found])
    with mode():
        result, wanted = READS[name](found), READS[name](coded_layer().to_float())
    assert type(result) is Tensor
    assert torch.equal(result, wanted)
    assert found.coded
    assert state.holds([found])
    assert repr(found).replace(", requires_grad=True", "") == repr(coded_layer().to_float())


def _load(w: Tensor) -> None:
    layer = nn.Linear(K, M, bias=False)
    layer.weight = w  # type: ignore[assignment]
    layer.load_state_dict({"weight": torch.ones(M, K)})


WRITES: dict[str, Callable[[Tensor], Any]] = {
    "add": lambda w: w.add_(1),
    "copy": lambda w: w.copy_(torch.ones(M, K)),
    "one value": lambda w: w.__setitem__((1, 2), 9.0),
    "transpose": lambda w: w.t().mul_(2),
    "part": lambda w: w.chunk(3)[1].zero_(),
    "row": lambda w: w[3].fill_(5),
    "data": lambda w: w.data.mul_(3),
    "detached": lambda w: w.detach().mul_(3),
    "out": lambda w: torch.add(w, 1, out=w),
    "initialise": lambda w: nn.init.constant_(w, 0.5),
    "several": lambda w: torch._foreach_add_([w, torch.ones(2)], 1),
    "load": _load,
    "other values": lambda w: setattr(w, "data", torch.ones(M, K)),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_write_stays_and_is_seen(name: str) -> None:
    found, values = weight(), nn.Parameter(coded_layer().to_float().clone())
    state = WeightState.of([found])
    with torch.no_grad():
        for tensor in (found, values):
            WRITES[name](tensor)
    assert torch.equal(found, values)
    assert not state.holds([found])
    assert WeightState.of([found]).holds([found])
    assert found._version == values._version


def test_what_an_operator_in_place_returns_is_the_weight() -> None:
    found = weight()
    with torch.no_grad():
        assert found.add_(1) is found
        assert torch.add(found, 1, out=found) is found


def test_another_shape_in_place_is_refused() -> None:
    found = weight().detach()
    with pytest.raises(TypeError, match="another shape in place; change a copy"):
        found.t_()
    assert found.coded


def test_written_in_inference_mode_it_can_be_trained_afterwards() -> None:
    found = weight()
    with torch.inference_mode():
        found.add_(1)
    with torch.no_grad():
        found.add_(1)
    assert torch.equal(found, coded_layer().to_float() + 1 + 1)


def test_gradients_are_those_of_the_values_which_are_not_kept() -> None:
    coded, plain = linears()
    x = torch.randn(5, K, generator=torch.Generator().manual_seed(1))
    for layer in (coded, plain):
        layer(x).square().sum().backward()
    assert type(coded.weight.grad) is Tensor
    assert torch.equal(coded.weight.grad, plain.weight.grad)  # type: ignore[arg-type]
    assert torch.equal(coded.bias.grad, plain.bias.grad)  # type: ignore[arg-type]
    assert is_coded(coded.weight)


@pytest.mark.parametrize("how", [{}, {"fused": True}, {"foreach": True}], ids=str)
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_optimisers_train_it(kind: Any, how: dict[str, bool]) -> None:
    layers = linears()
    state = WeightState.of(layers[0].parameters())
    for layer in layers:
        optimiser = kind(layer.parameters(), lr=0.1, weight_decay=0.1, **how)
        for _ in range(3):
            optimiser.zero_grad()
            layer(torch.ones(2, K)).square().sum().backward()
            optimiser.step()
    for ours, theirs in zip(*(layer.parameters() for layer in layers), strict=True):
        torch.testing.assert_close(ordinary(ours.detach()), theirs.detach())
    assert not state.holds(layers[0].parameters())


@pytest.mark.parametrize("move", ["bfloat16", "half", "double"])
def test_in_another_dtype_it_is_an_ordinary_parameter(move: str) -> None:
    coded, plain = linears()
    for layer in (coded, plain):
        getattr(layer, move)()
    assert type(coded.weight) is nn.Parameter
    assert torch.equal(coded.weight, plain.weight)


def test_on_another_device_it_is_an_ordinary_parameter() -> None:
    layer = linears()[0].to("meta")
    assert type(layer.weight) is nn.Parameter
    assert layer.weight.device.type == "meta"


def test_a_move_to_where_it_is_keeps_the_codes() -> None:
    layer, _ = linears()
    state = WeightState.of(layer.parameters())
    layer.to("cpu", torch.float32).float().cpu().eval()
    assert is_coded(layer.weight)
    assert state.holds(layer.parameters())


COPIES = [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))]


@pytest.mark.parametrize("copied", COPIES, ids=["deepcopy", "pickle"])
def test_copies_are_coded_and_independent(copied: Any) -> None:
    layer, plain = linears()
    layer.weight.requires_grad_(False)
    again = copied(layer)
    assert is_coded(again.weight)
    assert isinstance(again.weight, nn.Parameter)
    assert not again.weight.requires_grad
    with torch.no_grad():
        again.weight.add_(1)
    assert torch.equal(layer.weight, plain.weight)
    changed = copied(again)
    assert type(changed.weight) is nn.Parameter
    assert torch.equal(changed.weight, plain.weight + 1)


def test_a_shallow_copy_shares_the_values() -> None:
    found = weight()
    again = copy.copy(found)
    assert isinstance(again, nn.Parameter)
    assert is_coded(again)
    with torch.no_grad():
        found.fill_(2)
    assert torch.equal(again, torch.full((M, K), 2.0))


def test_a_layer_is_pickled_once() -> None:
    layer = coded_layer()
    held = layer, CodedWeight(layer).parameter(), CodedWeight(layer)
    again, parameter, values = pickle.loads(pickle.dumps(held))
    assert parameter._shared.layer is values._shared.layer is again
    assert [type(parameter), type(values)] == [CodedWeight] * 2
    assert [isinstance(one, nn.Parameter) for one in (parameter, values)] == [True, False]


def test_a_parameter_changes_without_changing_where_it_comes_from() -> None:
    source = CodedWeight(coded_layer())
    with torch.no_grad():
        source.parameter().zero_()
    assert torch.equal(source, coded_layer().to_float())
    source.add_(1)
    assert torch.equal(source.parameter(), coded_layer().to_float() + 1)


def test_torch_save_writes_ordinary_tensors(tmp_path: Path) -> None:
    layer, plain = linears()
    path = tmp_path / "state.pt"
    torch.save(layer.state_dict(), path)
    assert b"ecliptic" not in path.read_bytes()
    again = torch.load(path, weights_only=True)
    assert type(again["weight"]) is Tensor
    assert torch.equal(again["weight"], plain.weight)
    assert is_coded(layer.weight)


def test_safetensors_of_others_write_the_values(tmp_path: Path) -> None:
    layer, plain = linears()
    path = tmp_path / "state.safetensors"
    safetensors.torch.save_file(layer.state_dict(), path)
    assert torch.equal(safetensors.torch.load_file(path)["weight"], plain.weight)


def test_an_address_is_that_of_values_that_stay() -> None:
    for ask in (np.asarray, lambda w: w.numpy()):
        layer, plain = linears()
        state = WeightState.of(layer.parameters())
        array = ask(layer.weight.detach())
        assert np.array_equal(array, plain.weight.detach().numpy())
        assert state.holds(layer.parameters())  # PyTorch counts no writes to the array
        array[0] = 3.0
        assert layer.weight[0].tolist() == [3.0] * K
        assert layer.weight.data_ptr() == layer.weight.detach().data_ptr()
        assert torch.equal(copy.deepcopy(layer).weight, layer.weight)
    found = weight()
    assert found.untyped_storage().nbytes() == M * K * 4
    layer = linears()[0].share_memory()
    assert type(layer.weight) is nn.Parameter
    assert layer.weight.is_shared()


def test_giving_back_pages_leaves_the_codes() -> None:
    found = weight()
    page_out(found)
    release(found)
    assert found.coded


def test_functions_of_parameters_take_it() -> None:
    coded, plain = linears()
    x = torch.ones(3, K)
    for names in ({"weight": coded.weight}, {"weight": coded.weight.detach()}):
        assert torch.equal(torch.func.functional_call(coded, names, x), coded(x))
    gradient = torch.func.grad(lambda w: nn.functional.linear(x, w).square().sum())
    assert torch.equal(gradient(coded.weight.detach()), gradient(plain.weight.detach()))
