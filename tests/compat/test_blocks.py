"""Facades of ResNets with basic blocks, which the originals lack."""

import copy
from typing import Any

import pytest

from ecliptic.compat import clip, open_clip
from tests import tiny
from tests.compat.test_facade import close


@pytest.mark.parametrize(("make", "relu"), [(clip.model.CLIP.of, "relu"), (open_clip.CLIP, "act")])
def test_basic_blocks_have_facades_with_the_names_of_bottlenecks(make: Any, relu: str) -> None:
    held = tiny.checkpoint("basic")
    towers, pixels, tokens = tiny.model(held), tiny.pixels(held), tiny.tokens(held)
    model = make(copy.deepcopy(towers)).eval()
    close(model.encode_image(pixels), towers.encode_image(pixels))
    close(model.encode_text(tokens), towers.encode_text(tokens))
    state, visual = model.state_dict(), model.visual
    assert {"visual.layer2.1.bn2.bias", "visual.layer2.0.downsample.1.weight"} <= state.keys()
    model.load_state_dict(state)
    stages = [visual.stem(pixels)]
    for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
        stages.append(layer(stages[-1]))
    for found, wanted in zip(stages, towers.image_tower.states(pixels).hidden, strict=True):
        close(found, wanted)
    seen: list[Any] = []
    last = visual.layer4[-1].get_submodule(f"{relu}2")
    last.register_forward_hook(lambda *call: seen.append(call[2]))
    visual(pixels)
    close(seen[0], stages[-1])


def test_training_a_facade_of_basic_blocks_trains_the_native_tower() -> None:
    held = tiny.checkpoint("basic")
    towers, pixels = copy.deepcopy(tiny.model(held)).train(), tiny.pixels(held)
    model = open_clip.CLIP(towers)
    close(model.encode_image(pixels), copy.deepcopy(towers).encode_image(pixels))
    model.encode_image(pixels).sum().backward()
    for name, weight in towers.image_tower.named_parameters():
        assert weight.grad is not None, name
