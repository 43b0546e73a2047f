"""A ResNet with basic blocks is timm's ResNet-D with average pools, and open_clip's pool."""

import re
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ecliptic.errors import ConfigError
from ecliptic.model import ClipConfig, ModifiedResNet, ResNetConfig, random_model
from ecliptic.model.resnet import BasicBlock
from ecliptic.train.layers import frozen_modules, layer_count, layered_parameters
from tests import peers, tiny
from tests.twins import check_gradients, check_relative, gradients

SIZES, EMBED = tiny.BASIC, 32
CHANNELS = [16, 16, 32, 64, 128]  # after the stem and after each stage


@cache
def tower() -> ModifiedResNet:
    found = tiny.model(tiny.checkpoint("basic")).image_tower
    assert isinstance(found, ModifiedResNet)
    return found


def pixels(count: int = 3) -> Tensor:
    return tiny.pixels(tiny.checkpoint("basic"), count)


def peer_name(name: str) -> str:
    """The name in `Peer` of a tensor of our tower; a block alone has the end of such a name."""
    name = re.sub(r"^stem\.2\.norm", "body.bn1", name)
    name = re.sub(r"^stem\.(\d)\.conv", lambda m: f"body.conv1.{3 * int(m[1])}", name)
    name = re.sub(r"^stem\.(\d)\.norm", lambda m: f"body.conv1.{3 * int(m[1]) + 1}", name)
    name = re.sub(r"^stages\.(\d)", lambda m: f"body.layer{int(m[1]) + 1}", name)
    name = re.sub(r"\bnorm(\d)", r"bn\1", name)
    name = name.replace("shortcut.conv", "downsample.1").replace("shortcut.norm", "downsample.2")
    name = name.replace("pool.positions", "pool.positional_embedding")
    name = re.sub(r"^pool\.(q|k|v)[a-z]+", r"pool.\1_proj", name)
    return re.sub(r"^pool\.out", "pool.c_proj", name)


def peer_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {peer_name(name): tensor for name, tensor in state.items()}


class Peer(nn.Module):
    """timm's `resnet18d` with an average pool in its stem, and open_clip's attention pool."""

    def __init__(self, sizes: ResNetConfig) -> None:
        super().__init__()
        resnet: Any = peers.timm().models.resnet
        self.body = resnet.ResNet(
            resnet.BasicBlock,
            sizes.depths,
            num_classes=0,
            stem_width=sizes.width // 2,
            stem_type="deep",
            avg_down=True,
            channels=tuple(sizes.width * 2**stage for stage in range(4)),
        )
        self.body.maxpool = nn.AvgPool2d(2)
        pool: Any = peers.open_clip().modified_resnet.AttentionPool2d
        self.pool = pool(sizes.image_size // 32, self.body.num_features, sizes.heads, EMBED)

    def stages(self, x: Tensor) -> list[Tensor]:
        """The stem's output and each stage's."""
        found = [self.body.maxpool(self.body.act1(self.body.bn1(self.body.conv1(x))))]
        for number in range(1, 5):
            found.append(self.body.get_submodule(f"layer{number}")(found[-1]))
        return found

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.stages(x)[-1])  # type: ignore[no-any-return]


def peer(sizes: ResNetConfig = SIZES) -> Peer:
    """Made of the very tensors of `tower`; a missing or unexpected name is an error."""
    made = Peer(sizes)
    made.load_state_dict(peer_names(tower().state_dict()))
    return made.eval()


@pytest.mark.parametrize(("inner", "width", "stride"), [(8, 8, 1), (8, 12, 1), (8, 12, 2)])
@torch.no_grad()
def test_a_basic_block_is_that_of_a_resnet_d(inner: int, width: int, stride: int) -> None:
    resnet: Any = peers.timm().models.resnet
    torch.manual_seed(0)
    ours = BasicBlock(inner, width, stride)
    for module in ours.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean):
                assert tensor is not None
                tensor.normal_()
    shortcut = None
    if stride > 1 or inner != width:
        shortcut = resnet.downsample_avg(inner, width, 1, stride)
    theirs = resnet.BasicBlock(inner, width, stride, shortcut)
    theirs.load_state_dict(peer_names(ours.state_dict()))
    x = torch.randn(2, inner, 6, 6)
    for training in (False, True):
        y = ours.train(training)(x)
        check_relative(y, theirs.train(training)(x))
    assert y.shape == (2, width, 6 // stride, 6 // stride)


@torch.no_grad()
def test_stages_and_vectors_equal_those_of_the_peer() -> None:
    theirs, states = peer(), tower().states(pixels(), look=True)
    for layer, wanted in enumerate(theirs.stages(pixels())):
        check_relative(states.hidden[layer], wanted, f"stage {layer}")
        for index in (layer, layer - 5):
            check_relative(tower().feature_map(pixels(), layer=index), wanted)
        assert wanted.shape == (3, CHANNELS[layer], *(2 * (64 >> max(2, layer + 1),)))
    vectors = theirs(pixels())
    for found in (tower()(pixels()), states.vectors, states.pooled):
        check_relative(found, vectors)


def test_gradients_and_statistics_in_training_equal_those_of_the_peer() -> None:
    theirs, ours = peer().train(), random_model(ClipConfig(EMBED, SIZES, None)).image_tower
    ours.load_state_dict(tower().state_dict())
    ours.train()
    weights = torch.randn(3, EMBED, generator=torch.Generator().manual_seed(5))
    for model in (ours, theirs):
        (model(pixels()) * weights).sum().backward()
    wanted = {
        name: theirs.get_parameter(peer_name(name)).grad for name, _ in ours.named_parameters()
    }
    check_gradients(gradients(ours), wanted)
    for name, buffer in ours.named_buffers():
        found = theirs.get_buffer(peer_name(name))
        torch.testing.assert_close(buffer, found, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_sizes_of_a_basic_tower_are_those_of_its_outputs() -> None:
    assert (SIZES.features, SIZES.expansion, SIZES.grid) == (128, 1, 2)
    bottleneck = replace(SIZES, block="bottleneck")
    assert (bottleneck.features, bottleneck.expansion, bottleneck.grid) == (512, 4, 2)
    states = tower().states(pixels(), look=True)
    assert [hidden.shape[1] for hidden in states.hidden] == CHANNELS
    assert states.last.shape == (3, 1 + 2 * 2, SIZES.features)
    assert [weights.shape for weights in states.attention] == [(3, SIZES.heads, 1, 5)]
    assert tower().patches(pixels()).shape == (3, 2, 2, SIZES.features)
    assert tower().patches(pixels(), layer=2).shape == (3, 8, 8, 32)
    projected = tower().patches(pixels(), project=True)
    tokens = tower().pool.tokens(states.hidden[-1])[:, 1:]
    wanted = tower().pool.out(tower().pool.value(tokens)).view(3, 2, 2, EMBED)
    check_relative(projected, wanted)


@torch.no_grad()
def test_a_new_tower_starts_as_its_shortcuts() -> None:
    made = random_model(ClipConfig(EMBED, SIZES, None), seed=3).image_tower
    assert isinstance(made, ModifiedResNet)
    blocks = [block for stage in made.stages for block in stage]
    assert [type(block) for block in blocks] == 5 * [BasicBlock]
    x = made.feature_map(pixels(), layer=0)
    for block in blocks:
        shortcut = x
        if block.shortcut is not None:
            shortcut = block.shortcut(nn.functional.avg_pool2d(x, block.stride))
        x = block(x)
        torch.testing.assert_close(x, shortcut.relu())
    assert blocks[0].shortcut is None  # 16 channels to 16, no stride
    again = random_model(ClipConfig(EMBED, SIZES, None), seed=3).image_tower.state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in made.state_dict().items())


def test_the_layers_of_a_basic_tower_are_stem_stages_and_pool() -> None:
    assert layer_count(tower()) == 6
    found: dict[int, set[str]] = {}
    for layer, name, _ in layered_parameters(tower()):
        depth = 2 if name.startswith("stages.") else 1
        found.setdefault(layer, set()).add(".".join(name.split(".")[:depth]))
    stages = {n + 1: {f"stages.{n}"} for n in range(4)}
    assert found == {0: {"stem"}, **stages, 5: {"pool"}}
    assert frozen_modules(tower(), 2) == [tower().stem, tower().stages[0]]


@pytest.mark.parametrize("word", ["bottlenecks", "Basic", "", None, ["basic"], 1])
def test_an_unknown_block_is_refused_with_those_that_exist(word: Any) -> None:
    wanted = f"unknown block {word!r} of a ResNet; use 'bottleneck' or 'basic'."
    with pytest.raises(ConfigError, match=re.escape(wanted)):
        ResNetConfig(block=word)


def test_heads_must_divide_the_features_of_the_block() -> None:
    with pytest.raises(ConfigError, match="width 192 does not split into 9 heads"):
        ResNetConfig(width=24, heads=9, block="basic")
    assert ResNetConfig(width=24, heads=3, block="basic").features == 192
