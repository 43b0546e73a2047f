"""The patches of images: a matrix product with packed weights gives the convolution's numbers."""

import contextlib
import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from ecliptic.model import TwoTowers
from ecliptic.runtime import Runtime, patches
from ecliptic.runtime.kernels.operators import can_pack, pack
from tests import tiny
from tests.runtime.kernels.forced import forced

pytestmark = pytest.mark.skipif(
    not can_pack(torch.float32), reason="this PyTorch has no packed linear layers"
)
PIXELS = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def make() -> TwoTowers:
    return copy.deepcopy(tiny.model(tiny.checkpoint("vit")))


def assert_equal(runtime: Runtime, model: TwoTowers) -> None:
    with torch.no_grad():
        wanted: Tensor = model.encode_image(PIXELS)
    found = runtime.image(PIXELS)
    assert float((found - wanted).abs().max() / wanted.abs().max()) < 1e-5


def patch_of(model: TwoTowers) -> nn.Conv2d:
    return model.image_tower.patch  # type: ignore[union-attr, return-value]


def test_the_weight_is_packed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make()
    runtime = forced(monkeypatch, model, "packed")
    assert_equal(runtime, model)
    first = runtime._patches._packed
    assert first is not None
    assert_equal(runtime, model)
    assert runtime._patches._packed is first


def test_the_plain_kernel_packs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make()
    runtime = forced(monkeypatch, model, "plain")
    assert_equal(runtime, model)
    assert runtime._patches._packed is None


def test_a_weight_that_is_written_or_replaced_is_packed_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = make()
    runtime = forced(monkeypatch, model, "packed")
    assert_equal(runtime, model)
    with torch.no_grad():
        patch_of(model).weight.mul_(-2)
    assert_equal(runtime, model)
    patch_of(model).weight = nn.Parameter(patch_of(model).weight.detach() * 0.3)
    assert_equal(runtime, model)


def test_a_hook_or_another_layer_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make()
    runtime = forced(monkeypatch, model, "packed")
    assert_equal(runtime, model)
    handle = patch_of(model).register_forward_hook(lambda module, inputs, output: output * 3)
    assert_equal(runtime, model)
    handle.remove()
    usual = patch_of(model)
    model.image_tower.patch = nn.Sequential(usual, nn.Tanh())  # type: ignore[union-attr]
    assert_equal(runtime, model)
    biased = nn.Conv2d(3, usual.out_channels, 8, stride=8, bias=True)
    model.image_tower.patch = biased  # type: ignore[union-attr]
    assert_equal(runtime, model)


def test_an_interrupted_packing_is_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make()
    runtime = forced(monkeypatch, model, "packed")
    assert_equal(runtime, model)
    with torch.no_grad():
        patch_of(model).weight.mul_(-2)

    def fail(*given: object) -> Tensor:
        raise MemoryError

    with monkeypatch.context() as context:
        context.setattr(patches, "pack", fail)
        with pytest.raises(MemoryError):
            runtime.image(PIXELS)
    assert_equal(runtime, model)


def test_threads_see_a_written_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make()
    runtime = forced(monkeypatch, model, "packed")
    assert_equal(runtime, model)
    began = threading.Barrier(2)

    def slow(weight: Tensor, rows: int) -> Tensor:
        with contextlib.suppress(threading.BrokenBarrierError):
            began.wait(1)  # until the other thread has to pack too
        return pack(weight, rows)

    with torch.no_grad():
        patch_of(model).weight.mul_(-2)
    monkeypatch.setattr(patches, "pack", slow)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: runtime.image(PIXELS), range(2)))
    with torch.no_grad():
        wanted = model.encode_image(PIXELS)
    for vectors in found:
        torch.testing.assert_close(vectors, wanted, rtol=1e-4, atol=1e-5)


def test_the_pages_of_a_mapped_weight_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Tensor] = []
    monkeypatch.setattr(patches, "page_out", given.append)
    model = make()
    forced(monkeypatch, model, "packed").image(PIXELS)
    assert [one is patch_of(model).weight for one in given] == [True]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies_pack_their_own(copied: object, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make()
    runtime = forced(monkeypatch, model, "packed")
    assert_equal(runtime, model)
    other = copied(runtime)  # type: ignore[operator]
    assert other._patches._packed is None
    with torch.no_grad():
        patch_of(other.model).weight.mul_(-2)
    assert_equal(other, other.model)
    assert_equal(runtime, model)
