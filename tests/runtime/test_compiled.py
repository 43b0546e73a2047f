"""Compiled towers give the numbers of the plain ones, and no batch compiles anything anew."""

import copy
import pickle
from typing import Any

import pytest
import torch

from ecliptic.errors import ConfigError
from ecliptic.runtime import Runtime
from ecliptic.runtime.compiled import BATCHES, LENGTHS, CompiledTowers, padded_size
from tests import tiny


class Counting:
    """A backend that counts the graphs and runs them as they are."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: Any, inputs: Any) -> Any:
        self.graphs += 1
        return graph.forward


def compiled(kind: str) -> tuple[Runtime, Counting]:
    torch._dynamo.reset()
    backend = Counting()
    runtime = Runtime(copy.deepcopy(tiny.model(tiny.checkpoint(kind))), kernels="compiled")
    runtime._compiled = CompiledTowers(backend)
    return runtime, backend


def test_odd_batches_and_lengths_compile_one_graph_for_each_tower() -> None:
    runtime, backend = compiled("vit")
    made = tiny.checkpoint("vit")
    plain, pixels, tokens = Runtime(runtime.model), tiny.pixels(made, 9), tiny.tokens(made)
    for count in (1, 2, 3, 5, 9):
        wanted = plain.image(pixels[:count])
        torch.testing.assert_close(runtime.image(pixels[:count]), wanted, rtol=1e-5, atol=1e-5)
    assert backend.graphs == 1
    for rows in (tokens[:1], tokens[:2], tokens, tokens.repeat(3, 1)):
        wanted = plain.text(rows)
        torch.testing.assert_close(runtime.text(rows), wanted, rtol=1e-5, atol=1e-5)
    assert backend.graphs == 2


def test_a_resnet_is_compiled_too() -> None:
    runtime, backend = compiled("resnet")
    pixels = tiny.pixels(tiny.checkpoint("resnet"), 3)
    wanted = Runtime(runtime.model).image(pixels)
    torch.testing.assert_close(runtime.image(pixels), wanted, rtol=1e-4, atol=1e-4)
    assert backend.graphs == 1
    runtime.model.train()
    with pytest.raises(ConfigError, match="train mode"):
        runtime.image(pixels)


def test_changed_weights_are_seen() -> None:
    runtime, _ = compiled("vit")
    pixels = tiny.pixels(tiny.checkpoint("vit"), 2)
    before = runtime.image(pixels)
    with torch.no_grad():
        runtime.model.image_tower.projection.mul_(2)  # type: ignore[union-attr, operator]
    torch.testing.assert_close(runtime.image(pixels), 2 * before)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_no_images_are_no_rows(kind: str) -> None:
    made = tiny.checkpoint(kind)
    runtime, _ = compiled(kind)
    assert runtime.image(tiny.pixels(made, 2)[:0]).shape == (0, 32)


def test_a_compiler_that_fails_is_named() -> None:
    def broken(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no C++ compiler was found.\nmore lines")

    runtime, _ = compiled("vit")
    runtime._compiled = CompiledTowers(broken)
    with pytest.raises(ConfigError, match=r'\(no C\+\+ compiler was found\); .* kernels="auto"'):
        runtime.image(tiny.pixels(tiny.checkpoint("vit"), 2))


def test_what_is_compiled_is_described_and_copied() -> None:
    runtime, _ = compiled("vit")
    assert runtime.describe()[-1].chosen == "compiled by torch.compile"
    again = pickle.loads(pickle.dumps(Runtime(runtime.model, kernels="compiled")))
    assert again.describe() == runtime.describe()


@pytest.mark.parametrize(("size", "padded"), [(1, 2), (2, 2), (3, 4), (256, 256), (257, 512)])
def test_batches_are_padded_to_few_sizes(size: int, padded: int) -> None:
    assert padded_size(size, BATCHES) == padded


def test_texts_are_padded_to_few_lengths() -> None:
    assert sorted({padded_size(length, LENGTHS) for length in range(2, 78)}) == [*LENGTHS, 128]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # of torch's own imports
def test_the_real_compiler_gives_the_same_numbers() -> None:
    torch._dynamo.reset()
    made = tiny.checkpoint("vit")
    model = copy.deepcopy(tiny.model(made))
    runtime, plain = Runtime(model, kernels="compiled"), Runtime(model)
    for count in (1, 3, 6):
        pixels = tiny.pixels(made, count)
        torch.testing.assert_close(runtime.image(pixels), plain.image(pixels), rtol=1e-4, atol=1e-4)
    tokens = tiny.tokens(made)
    torch.testing.assert_close(runtime.text(tokens), plain.text(tokens), rtol=1e-4, atol=1e-4)
